from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.mounting import Places, mounted


@pytest.fixture(scope="session")
def places() -> Iterator[Places]:
    """A mount of six replicas, and a plain directory."""
    with mounted() as made:
        yield made


@pytest.fixture
def m(places: Places) -> Path:
    """A directory of the test's own on the mount."""
    number = len(list(places.mount.iterdir()))
    made = places.mount / f"{number}"
    made.mkdir()
    return made


@pytest.fixture
def p(places: Places, m: Path) -> Path:
    """Its counterpart on a plain directory."""
    made = places.plain / m.name
    made.mkdir()
    return made
