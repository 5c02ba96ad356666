"""execve(2)"""

# ruff: noqa: S103 - modes are what is tested

import errno
import os
import shutil

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, CAROL, STAFF, acting, show
from tests.posix.shared import bad_paths, follows_links, needs_search, opened, touch


def install(path):
    shutil.copy("/bin/true", path)
    os.chmod(path, 0o755)


def run(path):
    child = os.posix_spawn(path, ["program"], {})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


test_bad_paths = bad_paths(run)
test_follows_links = follows_links(run, install)
test_search = needs_search(run, install)


def test_runs():
    install("program")
    run("./program")
    os.rename("program", "moved")
    run("moved")


def test_script():
    with open("script", "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod("script", 0o755)
    run("./script")


@pytest.mark.parametrize("person", [ALICE, CAROL, BOB], ids=show)
def test_permission(person):
    shift = {ALICE: 6, CAROL: 3, BOB: 0}[person]
    install("program")
    os.chown("program", ALICE.uid, STAFF)
    os.chmod("program", 0o777 & ~(1 << shift))
    with acting(person), refused(errno.EACCES):
        run("program")
    os.chmod("program", 1 << shift)
    with acting(person):
        run("program")


def test_superuser_needs_somebodys_permission():
    install("program")
    os.chmod("program", 0o666)
    with refused(errno.EACCES):
        run("program")
    os.chmod("program", 0o001)
    run("program")


def test_what_is_no_program():
    os.mkdir("d")
    os.mkfifo("fifo", 0o777)
    for path in ("d", "fifo"):
        with refused(errno.EACCES):
            run(path)
    touch("f", 0o755)
    with open("f", "wb") as file:
        file.write(b"\0nonsense")
    with refused(errno.ENOEXEC):
        run("f")


def test_program_that_is_written():
    install("program")
    with opened("program", os.O_WRONLY), refused(errno.ETXTBSY):
        run("program")
    run("program")


def test_set_id_program():
    shutil.copy(shutil.which("id"), "id")
    os.chown("id", BOB.uid, STAFF)
    os.chmod("id", 0o6755)
    reading, writing = os.pipe()
    with acting(ALICE):
        child = os.posix_spawn("id", ["id"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)])
    os.close(writing)
    with open(reading) as said:
        text = said.read()
    os.waitpid(child, 0)
    assert f"euid={BOB.uid}" in text
    assert f"egid={STAFF}" in text
