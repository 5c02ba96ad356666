"""Hypothesis strategies for timestamps, candidates and histories."""

from hypothesis import strategies as st

from qunfs.protocol.history import ZERO, Candidate, Kind, LogicalTimestamp, ReplicaHistory, barrier, copy, method

OBJ = 500


@st.composite
def timestamps(draw: st.DrawFn, barriers: bool = False) -> LogicalTimestamp:
    """A timestamp of a METHOD or COPY, or of a BARRIER."""
    time = draw(st.integers(1, (1 << 63) - 1) | st.integers(1, 5))
    return LogicalTimestamp(
        time, int(barriers), draw(st.integers(0, (1 << 32) - 1)), draw(st.binary(min_size=32, max_size=32))
    )


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    """A candidate that touches OBJ and perhaps others."""
    others = draw(st.sets(st.integers(1, (1 << 64) - 1), max_size=3))
    objects = tuple(sorted({OBJ, *others}))
    kind = draw(st.sampled_from([Kind.METHOD, Kind.BARRIER, Kind.COPY]))
    lt = draw(timestamps(kind is Kind.BARRIER))
    some = st.tuples(*[timestamps() | timestamps(True) for _ in objects])
    lt_co = draw(some)
    if kind is Kind.METHOD:
        return method(lt, objects, lt_co)
    if kind is Kind.BARRIER:
        return barrier(lt, objects, lt_co)
    source = draw(st.none() | timestamps())
    continues = None if source is None or source == lt else method(source, objects, draw(some))
    return copy(lt, objects, lt_co, draw(some), continues)


@st.composite
def histories(draw: st.DrawFn) -> ReplicaHistory:
    """A history of OBJ."""
    records = sorted(draw(st.lists(candidates(), max_size=4, unique_by=lambda c: c.lt)), key=lambda c: c.lt)
    based_on_zero = draw(st.booleans()) or not records or records[0].kind is Kind.BARRIER
    return ReplicaHistory((ZERO, *records) if based_on_zero else records)
