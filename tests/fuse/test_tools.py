"""Ordinary programs on a mount."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def run(*command, cwd=None):
    if cwd is not None:  # entered by the program: vfork(2) would keep the interpreter, which answers for the replicas
        command = ("env", "-C", cwd, *command)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def tree(tmp_path):
    """A tree of some hundred files with everything that copies must keep."""
    tree = tmp_path / "tree"
    shutil.copytree(Path(sys.modules["json"].__file__).parents[1] / "email", tree / "email")
    for i in range(100):
        (tree / f"small/{i % 7}").mkdir(parents=True, exist_ok=True)
        (tree / f"small/{i % 7}/{i}").write_text("x" * i)
    (tree / "link").symlink_to("small/1")
    (tree / "hard").hardlink_to(tree / "small/0/0")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    return tree


def test_copy_compare_move_remove(m, tree):
    run("cp", "-a", tree, m / "copy")
    assert run("diff", "-r", "--no-dereference", tree, m / "copy") == ""
    listing = ["find", ".", "-printf", "%p %y %m %s %T@ %n %l\n"]

    def lines(where):
        return sorted(line for line in run(*listing, cwd=where).splitlines() if " d " not in line)

    assert lines(tree) == lines(m / "copy")
    run("tar", "-C", m, "-cf", m / "copy.tar", "copy")
    run("mv", m / "copy", m / "moved")
    run("tar", "-C", m, "-xf", m / "copy.tar")
    run("diff", "-r", "--no-dereference", m / "moved", m / "copy")
    run("rm", "-rf", m / "copy", m / "moved", m / "copy.tar")
    assert list(m.iterdir()) == []


def test_git(m, tree):
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


def test_sqlite(m):
    script = (
        "import sqlite3, sys\n"
        "for mode in ('delete', 'wal'):\n"
        "    base = sqlite3.connect(f'{sys.argv[1]}/{mode}.db')\n"
        "    base.execute(f'pragma journal_mode={mode}')\n"
        "    base.execute('create table t (x)')\n"
        "    for i in range(20):\n"
        "        with base:\n"
        "            base.execute('insert into t values (?)', (i,))\n"
        "    assert base.execute('select sum(x) from t').fetchone() == (190,)\n"
        "    assert base.execute('pragma integrity_check').fetchone() == ('ok',)\n"
        "    base.close()\n"
    )
    run(sys.executable, "-c", script, m)


@pytest.mark.skipif(shutil.which("postmark") is None, reason="needs postmark")
def test_postmark(m, tmp_path):
    commands = tmp_path / "postmark"
    commands.write_text(f"set location {m}\nset number 50\nset transactions 100\nrun\nquit\n")
    said = run("postmark", commands)
    assert "Error" not in said
    assert "deleted" in said
    assert list(m.iterdir()) == []
