"""A pytest plugin: ``-p tests.mutants.plugin --mutant NAME`` runs tests against a mutant."""

import pytest

from tests.mutants.catalogue import MUTANTS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutant", metavar="NAME", help="break this rule of the protocol first (see tests/mutants)")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--mutant")
    if name is None:
        return
    if name not in MUTANTS:
        raise pytest.UsageError(f"no mutant {name}: python -m tests.mutants --list names them")
    MUTANTS[name].apply()
