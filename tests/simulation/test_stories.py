"""The first three seeds tell what they are said to tell (docs/simulation.md)."""

import re

import pytest

from tests.simulation.runner import complaint, run
from tests.simulation.world import Plan


def _told(seed: int) -> str:
    lines: list[str] = []
    outcome = run(Plan(seed), lines.append)
    assert outcome.violation is None, complaint(outcome)
    assert outcome.operations >= 20
    assert outcome.events >= 300
    assert lines[-2].startswith("# So far the story"), "the plot was not played to its end"
    assert run(Plan(seed)) == outcome, "it depends on who listens"
    return "\n".join(lines)


def _in_order(text: str, *patterns: str) -> None:
    at = 0
    for pattern in patterns:
        found = re.compile(pattern, re.MULTILINE).search(text, at)
        assert found, f"nothing like {pattern!r} after\n{text[:at][-400:]}"
        at = found.end()


def test_a_contended_pair_of_updates() -> None:
    _in_order(
        _told(1),
        r"c1 sends METHOD 1\.\w+ on a to",
        r"c2 sends METHOD 1\.\w+ on a to",
        r"s\d accepts METHOD 1\.\w+ by c1",
        r"s\d accepts METHOD 1\.\w+ by c2",
        r"s\d to c\d: FAIL",
        r"c\d sends BARRIER 2b",
        r"s\d accepts BARRIER 2b",
        r"c\d sends COPY 3\.",
        r"s\d accepts COPY 3\.\w+ by c\d a<-1\.",
        r"c\d sends METHOD 4\.",
        r"c\d is told \S+ append",
        r"a = \[(1\.0\.1, 2\.0\.1|2\.0\.1, 1\.0\.1)\]",
    )


def test_a_partial_update_of_a_crashed_client_is_completed_by_another() -> None:
    text = _told(2)
    _in_order(
        text,
        r"c1 sends METHOD 1\.\w+ on ab to s\d s\d s\d s\d, ",
        r"c1 crashes",
        r"c2 begins \S+ append of a",
        r"c2 asks .* to adopt 1\.\w+ on ab",
        r"s\d asks s\d to vouch",
        r"s\d accepts METHOD 1\.\w+ by c1 a<-0 b<-0",
        r"c2 sends METHOD 2\.",
        r"c2 is told",
        r"a = \[1\.0\.1, 2\.0\.1\], b =\s(# )?\[1\.0\.1\]",
    )
    _in_order(
        text[text.index("started again") :],
        r"c1 sends METHOD 3\.\w+ on ab to s\d s\d, ",
        r"c1 crashes",
        r"c2 sends BARRIER",
        r"c2 sends COPY",
        r"a at s\d: \{3\.\w+, 2\.\w+\} becomes \{2\.\w+\}",
        r"a = \[1\.0\.1, 2\.0\.1\], b = \[1\.0\.1, 2\.0\.2\]",
    )


def test_a_lying_replica_is_found_out_and_worked_around() -> None:
    _in_order(
        _told(3),
        r"s1 is malevolent",
        r"c1 sends METHOD 1\.\w+ on a to s0 s1 s2 s3 s4",
        r"s\d to c1: CULLED, the MAC is bad of s1's history of a",
        r"a: \{0\} at s0 s2 s3 s4 s5$",
        r"c1 is told",
        r"s1 is\s(# )?malevolent and\s(# )?left\s(# )?out",
        r"c1 sends METHOD 2\.\w+ on a to s0 s2 s3 s4 s5, ",
        r"refused by nobody",
        r"s1 to c2, of its own making: answers",
        r"c2 is told 2\.0\.1 fetch: .*1\.0\.1.*1\.0\.2",
    )


@pytest.mark.parametrize("plan", [Plan(1, 2), Plan(1, mode="liveness"), Plan(4)])
def test_other_seeds_tell_none(plan: Plan) -> None:
    lines: list[str] = []
    run(plan, lines.append)
    assert not any(line.startswith("#") for line in lines)
