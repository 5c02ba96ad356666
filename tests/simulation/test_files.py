"""Runs on a file system notice what is wrong with methods, answers and rules."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from qunfs.objects import REGISTRY
from qunfs.protocol.operation import Context, Method, ObjectView, Registry
from tests.simulation.files import FilesWorld
from tests.simulation.oracles import Violation
from tests.simulation.runner import options, run
from tests.simulation.world import Plan

ROOT = Path(__file__).parents[2]
SEEDS = range(1000, 1012)


def _broken(name: str, place: int, otherwise: Any) -> Registry:
    """All methods, one of which takes an argument with something else in one place of it."""
    registry, found = Registry(), {method.name: method for method in REGISTRY._methods.values()}
    body = found[name].body

    def broken(views: Mapping[int, ObjectView], context: Context) -> bytes:
        argument = (*context.argument[:place], otherwise, *context.argument[place + 1 :])
        return body(views, Context(context.objects, argument, context.credentials, context.client_time))

    for method in found.values():
        registry.register(Method(name, 1, method.kind, broken) if method.name == name else method)
    return registry


@pytest.mark.parametrize(
    ("method", "place", "otherwise"),
    [("dir.rename", 6, 0), ("attr.setattr", 0, (None,) * 6 + (False, None, None))],
    ids=["RENAME_NOREPLACE replaces", "SETATTR changes nothing"],
)
def test_a_broken_method_is_noticed_by_what_clients_are_told(
    monkeypatch: pytest.MonkeyPatch, method: str, place: int, otherwise: Any
) -> None:
    """All replicas agree on what it does, and the tree stays whole: only the reference file system differs."""
    make = FilesWorld._make_objects

    def make_with_broken_method(world: FilesWorld) -> None:
        make(world)
        world.registry = _broken(method, place, otherwise)

    monkeypatch.setattr(FilesWorld, "_make_objects", make_with_broken_method)
    found = (run(Plan(seed, workload="files")).violation for seed in SEEDS)
    said = next(violation for violation in found if violation is not None)
    assert said.startswith("no order explains what clients were told of files: ")


def test_one_wrong_answer_is_noticed_and_one_that_nobody_got_is_not_missed() -> None:
    world = FilesWorld(Plan(1000, workload="files"))
    world.run()
    made = [o for o in world.journal.operations if o.method in ("create", "mkdir") and o.status == "OK"]
    for procedure in (made[0], made[-1]):
        answer, procedure.answer = procedure.answer, ("OK", 1)
        with pytest.raises(Violation, match="no order explains"):
            world.journal.finish()
        procedure.answer, ended = answer, procedure.ended
        procedure.argument, argument, procedure.ended = procedure.argument[:-1], procedure.argument, None
        world.journal.finish()
        procedure.argument, procedure.ended = argument, ended


def test_a_tree_that_is_not_whole_is_noticed() -> None:
    """A name that is gone from a directory in which something still has it for its parent."""
    world = FilesWorld(Plan(1001, workload="files"))
    world.run()
    world.oracles.check_effects()
    top = world.tree.top
    where = (top, world.oracles.established[top][-1].lt)
    world.oracles.states[where] = tuple((k, v) for k, v in world.oracles.states[where] if not k.startswith(b"e"))
    with pytest.raises(Violation, match="atomicity: the tree is not whole"):
        world.oracles.check_effects()


@pytest.mark.parametrize(
    ("mutant", "mode", "why"),
    [
        ("accepted_on_the_first_object_only", "safety", "atomicity: s"),
        ("skipped_on_one_object_only", "safety", "atomicity: s"),
        ("later_versions_do_not_matter", "liveness", "no order explains what clients were told of files"),
    ],
)
def test_a_few_seeds_see_a_broken_rule(mutant: str, mode: str, why: str) -> None:
    arguments = ["--seeds", "0-19", "--workload", "files", "--mode", mode]
    script = (
        "from tests.mutants.catalogue import MUTANTS; from tests.simulation.__main__ import main; "
        f"MUTANTS[{mutant!r}].apply(); raise SystemExit(main({arguments}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert why in ended.stdout.partition("\n")[0]


def test_one_seed_is_one_run_whatever_the_hashes() -> None:
    """The same trace in processes that hash strings and bytes differently, asked for as a complaint says."""
    plan = Plan(1003, mode="liveness", workload="files")

    def trace(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "tests.simulation", "--seed", "1003", *options(plan).split()]
        return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout

    assert (first := trace("1")) == trace("2")
    assert " begins " in first


def test_more_liars_than_tolerated_are_caught() -> None:
    """With b+1 malevolent servers rules must break here, too."""
    assert any(run(Plan(seed, malevolent=2, workload="files")).violation for seed in range(30))
