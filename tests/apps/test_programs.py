"""Ordinary programs on a mount."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE_S = 300.0

OLD_NS = 1_000_000_000_123_456_789
"""Of September 2001."""

SQLITE_WRITER = """
import sqlite3, sys
path, mode, number, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
base = sqlite3.connect(path, timeout=300, isolation_level=None)
assert base.execute(f'pragma journal_mode={mode}').fetchone() == (mode,)
for i in range(rows):
    base.execute('begin immediate')
    (total,) = base.execute('select total from sum').fetchone()
    base.execute('insert into t values (?, ?)', (number, i))
    base.execute('update sum set total = ?', (total + i,))
    base.execute('rollback' if i % 5 == 4 else 'commit')
base.close()
"""
"""Some transactions, of which every fifth is rolled back."""

SQLITE_KILLED = """
import os, sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute(f'pragma journal_mode={sys.argv[2]}')
base.execute('pragma cache_size=1')  # so that pages get to the file before the end of the transaction
base.execute('create table t (x)')
base.execute("insert into t values ('kept')")
base.execute('begin')
base.execute('update t set x = zeroblob(200000)')
os.kill(os.getpid(), 9)
"""

SQLITE_RUN = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
print(*(value for order in sys.argv[2:] for row in base.execute(order) for value in row))
base.close()
"""


def sqlite(path: Path, *orders: str) -> list[str]:
    """Run orders on a database; the values of all rows."""
    return run(sys.executable, "-c", SQLITE_RUN, path, *orders).split()


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a program that must succeed; what it printed."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def listing(where: Path) -> list[str]:
    """Everything in a tree: names, types, modes, owners, sizes, times, link counts, targets."""
    lines = run("find", ".", "-printf", "%p %y %m %U %G %s %T@ %n %l\n", cwd=where).splitlines()
    without_size = re.compile(r"^(\S+ d \S+ \S+ \S+) \d+ (\S+) \d+")  # a directory's, and its link count, are as may be
    return sorted(without_size.sub(r"\1 \2", line) for line in lines)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with everything that copies must keep."""
    tree = tmp_path / "tree"
    shutil.copytree(Path(json.__file__).parent, tree / "json", ignore=shutil.ignore_patterns("__pycache__"))
    for i in range(20):
        (tree / f"small/{i % 5}").mkdir(parents=True, exist_ok=True)
        (tree / f"small/{i % 5}/{i}").write_text("x" * i)
    (tree / "link").symlink_to("small/1")
    (tree / "dangling").symlink_to("/nowhere/at all")
    (tree / "hard").hardlink_to(tree / "small/0/0")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    (tree / "secret").mkdir(mode=0o700)
    run("mkfifo", tree / "fifo")
    shutil.chown(tree / "small/3", 1234, 2345)
    for i, path in enumerate(sorted(tree.rglob("*"), reverse=True)):
        os.utime(path, ns=(OLD_NS, OLD_NS + i * 1_000_000_001), follow_symlinks=False)
    os.utime(tree, ns=(OLD_NS, OLD_NS))
    return tree


def test_copy_compare_move_remove(m: Path, tree: Path) -> None:
    run("cp", "-a", tree, m / "copy")
    (m / "copy/fifo").unlink()  # diff does not compare pipes
    (tree / "fifo").unlink()
    shutil.copystat(tree, m / "copy")
    assert run("diff", "-r", "--no-dereference", tree, m / "copy") == ""
    assert listing(m / "copy") == listing(tree)
    run("mv", m / "copy", m / "moved")
    run("cp", "-al", m / "moved", m / "links")
    assert run("diff", "-r", "--no-dereference", tree, m / "links") == ""
    run("rm", "-rf", m / "links")
    assert listing(m / "moved") == listing(tree)
    run("rm", "-rf", m / "moved")
    assert list(m.iterdir()) == []


def test_tar_out_and_back(m: Path, tree: Path, tmp_path: Path) -> None:
    run("tar", "-C", tree, "--format=posix", "-cf", m / "in.tar", ".")
    (m / "copy").mkdir()
    run("tar", "-C", m / "copy", "--numeric-owner", "-xpf", m / "in.tar")
    assert listing(m / "copy") == listing(tree)
    assert run("tar", "-C", m / "copy", "--compare", "-f", m / "in.tar") == ""
    run("tar", "-C", m / "copy", "--format=posix", "-cf", m / "out.tar", ".")
    (tmp_path / "back").mkdir()
    run("tar", "-C", tmp_path / "back", "--numeric-owner", "-xpf", m / "out.tar")
    assert listing(tmp_path / "back") == listing(tree)
    (tree / "fifo").unlink()
    (tmp_path / "back/fifo").unlink()
    assert run("diff", "-r", "--no-dereference", tree, tmp_path / "back") == ""


@needs("rsync")
def test_a_second_rsync_transfers_nothing(m: Path, tree: Path) -> None:
    command = ["rsync", "-aH", "--delete", "--stats", "--itemize-changes", f"{tree}/", f"{m}/copy/"]
    (m / "copy").mkdir()
    (m / "copy/not in the tree").write_text("to be deleted")
    assert "*deleting   not in the tree" in run(*command)
    assert listing(m / "copy") == listing(tree)
    again = run(*command)
    assert "Number of regular files transferred: 0" in again
    assert not [line for line in again.splitlines() if re.match(r"[<>ch.*]\S{10} ", line)], again
    assert run("rsync", "-aHc", "--delete", "--itemize-changes", f"{tree}/", f"{m}/copy/") == ""
    assert run("rsync", "-aH", "--delete", "--itemize-changes", f"{m}/copy/", f"{tree}/") == ""


@needs("git")
def test_git(m: Path, tree: Path) -> None:
    repository = m / "repository"
    run("cp", "-a", tree, repository)
    run("git", "init", "-q", cwd=repository)
    run("git", "add", "-A", cwd=repository)
    run("git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "all", cwd=repository)
    assert run("git", "status", "--porcelain", cwd=repository) == ""
    run("git", "fsck", "--strict", cwd=repository)
    run("git", "clone", "-q", repository, m / "clone")
    run("git", "gc", "-q", cwd=m / "clone")
    assert run("git", "status", "--porcelain", cwd=m / "clone") == ""
    run("git", "fsck", "--strict", cwd=m / "clone")
    run("git", "checkout", "-qb", "other", cwd=m / "clone")
    run("git", "rm", "-qr", "json", cwd=m / "clone")
    run("git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "less", cwd=m / "clone")
    run("git", "checkout", "-q", "-", cwd=m / "clone")
    assert run("git", "status", "--porcelain", cwd=m / "clone") == ""
    assert (m / "clone/json/decoder.py").read_bytes() == (tree / "json/decoder.py").read_bytes()


@needs("git")
def test_clone_of_a_local_repository(m: Path, tree: Path) -> None:
    run("git", "init", "-q", tree)
    run("git", "-C", tree, "add", "-A")
    run("git", "-C", tree, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "all")
    for name, options in (("linked", []), ("packed", ["--no-local"])):
        run("git", "clone", "-q", *options, tree, m / name)
        assert run("git", "-C", m / name, "status", "--porcelain") == ""
        run("git", "-C", m / name, "fsck", "--strict")
    run("git", "-C", m / "packed", "worktree", "add", "-q", m / "worktree", "-b", "w")
    assert run("git", "-C", m / "worktree", "status", "--porcelain") == ""


@needs("make", "gcc")
def test_make_builds_once(m: Path) -> None:
    names = [f"part{i}" for i in range(5)]
    for name in names:
        (m / f"{name}.c").write_text(f'#include "all.h"\nint {name}(void) {{ return ONE; }}\n')
    (m / "all.h").write_text("#define ONE 1\n" + "".join(f"int {name}(void);\n" for name in names))
    total = " + ".join(f"{name}()" for name in names)
    (m / "main.c").write_text(f'#include "all.h"\nint main(void) {{ return {total}; }}\n')
    objects = " ".join(f"{name}.o" for name in (*names, "main"))
    (m / "Makefile").write_text(f"program: {objects}\n\tgcc -o $@ $^\n%.o: %.c all.h\n\tgcc -c -o $@ $<\n")
    run("make", "-C", m, "-j2")
    assert subprocess.run([m / "program"], check=False).returncode == 5
    assert "'program' is up to date" in run("make", "-C", m)
    run("touch", m / "part3.c")
    assert re.findall(r"gcc -c -o (\S+)", run("make", "-C", m)) == ["part3.o"]
    (m / "all.h").write_text((m / "all.h").read_text().replace("ONE 1", "ONE 2"))
    run("make", "-C", m, "-j2")
    assert subprocess.run([m / "program"], check=False).returncode == 10
    assert "'program' is up to date" in run("make", "-C", m)


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal"])
def test_sqlite_with_several_writers(m: Path, mode: str) -> None:
    path, rows, writers = m / "base.db", 15, 3
    sqlite(path, f"pragma journal_mode={mode}", "create table t (writer, i)", "create table sum as select 0 as total")
    command = [sys.executable, "-c", SQLITE_WRITER, path, mode]
    working = [subprocess.Popen([*command, str(number), str(rows)]) for number in range(writers)]
    assert [process.wait(PATIENCE_S) for process in working] == [0] * writers
    kept = [i for i in range(rows) if i % 5 != 4]
    total = str(writers * sum(kept))
    assert sqlite(path, "pragma integrity_check") == ["ok"]
    assert sqlite(path, "select count(*), sum(i) from t") == [str(writers * len(kept)), total]
    assert sqlite(path, "select total from sum") == [total]


@pytest.mark.parametrize(("mode", "left"), [("delete", "base.db-journal"), ("wal", "base.db-wal")])
def test_sqlite_mends_what_a_killed_writer_left(m: Path, mode: str, left: str) -> None:
    path = m / "base.db"
    killed = subprocess.run([sys.executable, "-c", SQLITE_KILLED, path, mode], check=False)
    assert killed.returncode == -9
    assert (m / left).exists()
    assert sqlite(path, "pragma integrity_check", "select x from t") == ["ok", "kept"]


@needs("postmark")
def test_postmark(m: Path, tmp_path: Path) -> None:
    commands = tmp_path / "postmark"
    commands.write_text(f"set location {m}\nset number 50\nset transactions 100\nrun\nquit\n")
    said = run("postmark", commands)
    assert "Error" not in said
    assert "deleted" in said
    assert list(m.iterdir()) == []
