"""Users without privileges, and how a test acts as one of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

STAFF: Final = 61100
"""A supplementary group."""


class Person(NamedTuple):
    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


ROOT: Final = Person("root", 0, 0)
ALICE: Final = Person("alice", 61001, 61001)
BOB: Final = Person("bob", 61002, 61002)
CAROL: Final = Person("carol", 61003, 61003, (61099, STAFF))


def show(value: object) -> str | None:
    """Names parameters of tests: people by name, numbers as modes."""
    if isinstance(value, Person):
        return value.name
    return f"{value:o}" if type(value) is int else None


@contextmanager
def acting(person: Person) -> Iterator[None]:
    """Run a block as somebody: real and effective ids, groups, and no capabilities; the saved ids lead back."""
    os.setgroups(person.groups)
    os.setresgid(person.gid, person.gid, 0)
    os.setresuid(person.uid, person.uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(())
