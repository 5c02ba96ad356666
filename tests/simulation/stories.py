"""Seeds that tell stories."""

from typing import Final

from tests.simulation.world import Plan, World

STORIES: Final[dict[Plan, type[World]]] = {}
