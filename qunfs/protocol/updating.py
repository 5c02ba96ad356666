"""Updates: a METHOD until it is accepted, repairs in between (Figure 3, ``c_increment``, lines 300-307)."""

from typing import Final

from qunfs.protocol.errors import LocalError, OperationRefused
from qunfs.protocol.execution import Code
from qunfs.protocol.messages import Status
from qunfs.protocol.operation import Call, Operation
from qunfs.protocol.repairing import repair
from qunfs.protocol.steps import Means, Queue, Running, ids_and_types
from qunfs.protocol.update_round import Outcome, UpdateRound, send

CLOCK_TRIES: Final = 3


def update(means: Means, call: Call) -> Running:
    """The answer of an update.  Raises LocalError, and OperationRefused when more servers refuse it than can lie."""
    ids, types = ids_and_types(call)
    if call.home not in ids:
        raise LocalError("the home object of an update must be one of its objects")
    yield Queue(ids)
    means.counters["updates"] += 1
    means.sequence += 1
    operation = _stamp(means, call, ids, types, means.sequence)
    fresh, clock_tries, attempt, ahead = call.fresh, 0, 0, 0
    while True:
        prepared = means.planner.method(operation, fresh, ahead)
        if prepared is None:
            yield from repair(means, ids, call.home, ahead)
            prepared = means.planner.method(operation, frozenset())
            if prepared is None:
                continue
        outcome, phase = yield from send(means, prepared, call.home, everyone=call.everyone or attempt > 0)
        if outcome.done:
            return _result(outcome)
        fresh = frozenset()
        _raise_refusals(means, phase)
        if _refused_by_clock(means, phase):
            clock_tries += 1
            if clock_tries >= CLOCK_TRIES:
                raise OperationRefused("the clocks of this client and the replicas differ too much; set the clock")
            operation = _stamp(means, call, ids, types, operation.sequence)
        means.counters["retries"] += 1
        attempt += 1
        if attempt > 1:
            # views without a server that is ahead may call for ever for METHODs which it never takes: a liar shows
            # what they call for and takes none either, or a server that is down showed it once
            ahead = _ahead(phase)
            if means.trust.met_late:  # who is ahead may be one that is done without because its times are late
                means.trust.reconsider()
            yield means.backoff(attempt)


def _stamp(means: Means, call: Call, ids: tuple[int, ...], types: tuple[str, ...], sequence: int) -> Operation:
    now, session = means.wall_ns(), means.identity.session
    return Operation(
        ids, types, call.method, call.version, call.argument, call.credentials, now, call.home, session, sequence
    )


def _result(outcome: Outcome) -> bytes:
    if outcome.code in (Code.OK, Code.FAILED):
        return outcome.answer
    raise OperationRefused(f"replicas refused the operation: {outcome.code.name.lower().replace('_', ' ')}")


def _ahead(phase: UpdateRound) -> int:
    """The servers that say that later things have happened than the METHOD is conditioned on."""
    failed = 0
    for reply, servers in phase.update_replies():
        if reply.status is Status.FAIL:
            failed |= servers
    return failed


def _raise_refusals(means: Means, phase: UpdateRound) -> None:
    """Fail the operation when more replicas refuse it than can lie."""
    texts: dict[bytes, int] = {}
    for reply, servers in phase.update_replies():
        if reply.status is Status.REFUSED:
            texts[reply.answer] = texts.get(reply.answer, 0) | servers
    for text, mask in texts.items():
        if means.quorums.exceeds_malevolent(mask):
            raise OperationRefused(f"replicas refuse the operation: {text.decode(errors='replace')}")


def _refused_by_clock(means: Means, phase: UpdateRound) -> bool:
    late = 0
    for reply, servers in phase.update_replies():
        if reply.status is Status.TIME:
            late |= servers
    return means.quorums.exceeds_malevolent(late)
