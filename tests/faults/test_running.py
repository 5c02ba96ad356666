"""A real cluster under faults: replicas in processes, TLS, stores on disk, clients in processes of their own.

``python -m tests.faults --help`` runs it longer, and with other seeds.
"""

import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from bench import system
from qunfs.protocol.quorum import threshold
from tests.faults.running import CLIENTS, SOURCES, Plan, run
from tests.faults.schedule import KINDS, What, schedule
from tests.simulation.linearizability import Verdict

PLANS = [Plan(seed=7, b=1, operations=1800, moves=36), Plan(seed=22, b=2, operations=1800, moves=36)]


def test_these_seeds_bring_about_every_kind_of_fault() -> None:
    moves = []
    for plan in PLANS:
        n = threshold(plan.b).n
        moves += schedule(plan.seed, n, plan.b, plan.b, CLIENTS, plan.operations, plan.moves).moves
    assert {move.what for move in moves} == set(What)
    assert {move.kind for move in moves if move.kind} == set(KINDS)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"b={plan.b}")
def test_clients_are_told_the_truth_whatever_happens_to_replicas(plan: Plan, tmp_path: Path) -> None:
    print(f"python -m tests.faults {plan}")
    with system.interruptible():
        outcome = run(plan, tmp_path, print)
    assert system.processes_of(tmp_path) == []
    assert outcome.history.ended > 0.95 * plan.operations  # clients that are killed may leave some out
    for method in ("create OK", "remove OK", "rename OK", "link OK", "increment", "not answered"):
        assert outcome.seen[method] > 0, f"no run of {method}"
    assert outcome.history.falsified(Random(plan.seed)).check().verdict is Verdict.ILLEGAL


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    words = ["--seed", "3", "--operations", "4000", "--moves", "800", "--directory", str(tmp_path)]
    command = [sys.executable, "-m", "tests.faults", *words]
    with subprocess.Popen(command, cwd=SOURCES, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as child:
        try:
            assert child.stderr is not None
            line = next(line for line in child.stderr if "stop server" in line)  # it does not end by SIGTERM
            child.send_signal(signal.SIGTERM)
            assert child.wait(200) == 130, line
            assert system.processes_of(tmp_path) == []
        finally:
            child.kill()
            system.kill_all(tmp_path)
    assert not list(tmp_path.iterdir())
