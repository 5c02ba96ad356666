"""Table 1 of the paper (section 3.6), row by row, as a transcript of the production code.

The transcript is ``golden/table1.txt``.  What differs from the printed table has its reason in the row.
"""

from collections.abc import Callable

from qunfs.protocol.planning import Inline, Prepared, Repair
from tests.protocol.table import Person, Table, pair

HEADER = """\
Table 1 of the paper, run by the production replicas and planners (n=6, q=5, r=3, b=1).  Rewritten by
pytest tests/protocol/test_table1.py --rewrite-golden

X and Z turn to s0..s4, Y to s1..s5.  A timestamp is its time, "b" for a barrier, and the client; ⟨LT, LT_CO⟩ is a
candidate, {newest, ..., base} a replica history.  Each server has: what it said, the object's value at the newest
candidate that is no barrier (the paper prints ⊥ for a barrier), its history.

"""
TIMES = "contenders share a time: time is 1 + the latest one shown, and client and digest order them"


def _sent(prepared: Prepared, to: str) -> str:
    return f"{prepared.request.kind.name} {pair(prepared.made.candidate)} to {to}"


def test_table_1(golden: Callable[[str, str], None]) -> None:
    table = Table()
    x, y, z = Person(table, 1, range(5)), Person(table, 2, range(1, 6)), Person(table, 3, range(5))
    table.row("Initial system", "⟨0, 0⟩, ♡ everywhere")
    _without_contention(table, x, y)
    _contention(table, x, y)
    _a_client_crashes(table, x, y, z)
    golden("table1.txt", HEADER + "\n".join(table.lines))


def _without_contention(table: Table, x: Person, y: Person) -> None:
    x.get()
    table.row("X completes get()", "⟨0, 0⟩ complete, return ♡", finds=x.classified())
    club = x.set("♣")
    x.send(club, range(5))
    table.row(
        "X completes set(♣)",
        "⟨1, 0⟩ established",
        does=_sent(club, "s0..s4"),
        results=table.accepted(club),
    )
    y.get()
    table.row("Y begins get()...", "⟨1, 0⟩ repairable", finds=y.classified())
    inline = y.repair()
    assert isinstance(inline, Inline)
    y.adopt(inline, range(1, 6))
    table.row(
        "... Y performs inline",
        "⟨1, 0⟩ complete, return ♣",
        does=f"adopt {pair(inline.record)} to s1..s5",
        finds=y.classified(),
        unlike=["everybody is asked to adopt; who has accepted the candidate says so again (paper: only s5 is asked)"],
    )


def _contention(table: Table, x: Person, y: Person) -> None:
    diamond, heart = x.set("♢"), y.set("♡")
    x.send(diamond, range(4))
    table.row(
        "X attempts set(♢)...",
        "⟨2, 1⟩ potential",
        does=_sent(diamond, "s0..s3"),
        results=table.accepted(diamond),
        notes="the paper: ⟨0, 0⟩ goes, since the views of the update prove ⟨1.X, 0⟩ established (proof rule)",
    )
    y.send(heart, range(1, 6))
    table.row(
        "Y attempts set(♡)",
        "⟨3, 1⟩ at s4 and s5; s1..s3 FAIL; Y backs off",
        does=_sent(heart, "s1..s5"),
        results=table.accepted(heart),
        unlike=[f"printed as ⟨3, 1⟩; {TIMES}"],
    )
    x.send(diamond, (4,))
    table.row(
        "... X's set(♢) reaches s4",
        "s4 FAIL (printed with X's row above)",
        does=_sent(diamond, "s4"),
        finds=x.classified(),
        results=table.accepted(diamond),
    )
    step = x.repair()
    assert isinstance(step, Repair)
    x.send(step.prepared, range(5))
    table.row(
        "... X completes barrier",
        "⟨4b, 2⟩ established",
        does=_sent(step.prepared, "s0..s4"),
        finds=x.classified(),
        results=table.accepted(step.prepared),
        unlike=["all later times are one less than printed, since the contenders share one"],
    )
    step = x.repair()
    assert isinstance(step, Repair)
    x.send(step.prepared, range(5))
    table.row(
        "... X completes copy",
        "⟨5, 2⟩ established",
        does=_sent(step.prepared, "s0..s4"),
        finds=x.classified(),
        results=table.accepted(step.prepared),
        unlike=[
            "s4 has failed ⟨2.X, 1.X⟩: it fetches the version that it is to copy, and its history lacks the candidate",
            "(the printed history of s4, {5, 4b, 2, 1}, has it and lacks ⟨3, 1⟩: the table contradicts its own FAIL)",
            "s4 loses ⟨2.Y, 1.X⟩: a copy of another contender shows that it can never be established (skip rule)",
        ],
    )


def _a_client_crashes(table: Table, x: Person, y: Person, z: Person) -> None:
    spade = x.set("♠")
    x.send(spade, range(3))
    table.row(
        "X crashes in set(♠)",
        "⟨6, 5⟩ potential",
        does=_sent(spade, "s0..s2"),
        results=table.accepted(spade),
        notes="the paper: s0..s2 prune to the copy, since the views of the update prove it established (proof rule)",
    )
    y.get()
    table.row(
        "Y begins get()...",
        "⟨6, 5⟩ incomplete, ⟨5, 2⟩ repairable",
        finds=y.classified(),
        unlike=["the copy is the base of b+1 histories and therefore proven, whatever its order (proof)"],
    )
    z.get()
    table.row("Z begins get()...", "⟨6, 5⟩ repairable", finds=z.classified())
    barrier, inline = y.repair(), z.repair()
    assert isinstance(barrier, Repair)
    assert isinstance(inline, Inline)
    y.send(barrier.prepared, range(1, 6))
    table.row(
        "... Y completes barrier",
        "⟨7b, 5⟩ established",
        does=_sent(barrier.prepared, "s1..s5"),
        finds=y.classified(),
        results=table.accepted(barrier.prepared),
        unlike=["the older barrier goes where the new one is accepted (older barriers are dropped)"],
    )
    z.adopt(inline, (3, 4))
    table.row(
        "... Z attempts inline",
        "s3 and s4 fail it; Z backs off",
        does=f"adopt {pair(inline.record)} to s3, s4",
    )
    step = y.repair()
    assert isinstance(step, Repair)
    y.send(step.prepared, range(1, 6))
    table.row(
        "... Y completes copy",
        "⟨8, 5⟩ established, return ♢",
        does=_sent(step.prepared, "s1..s5"),
        finds=y.classified(),
        results=table.accepted(step.prepared),
        unlike=[
            "⟨5.X, 4.X⟩ goes at s1 and s2, and ⟨2.Y, 1.X⟩ at s5: neither can ever be established (skip rule)",
            "s5 has missed the copied version: it fetches it, and the record becomes its base (proof rule)",
        ],
    )
