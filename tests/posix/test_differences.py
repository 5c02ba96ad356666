"""The list of differences names tests that exist."""

import importlib

from tests.posix.differences import DIFFERENCES


def test_what_is_listed_exists():
    for difference in DIFFERENCES:
        assert difference.tests, difference.here
        for file, test in difference.tests:
            assert hasattr(importlib.import_module(f"tests.posix.test_{file}"), f"test_{test}"), (file, test)
