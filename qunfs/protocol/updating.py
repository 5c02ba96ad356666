"""Updates: a METHOD until it is accepted, repairs in between (Figure 3, ``c_increment``, lines 300-307)."""

from typing import Final

from qunfs.protocol.errors import LocalError, OperationRefused
from qunfs.protocol.execution import Code
from qunfs.protocol.messages import Status
from qunfs.protocol.operation import Call, Operation
from qunfs.protocol.planning import Prepared
from qunfs.protocol.quorum import mask_of
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
    fresh, clock_tries, attempt, pauses, paused, ahead = call.fresh, 0, 0, 0, False, 0
    while True:
        prepared = means.planner.method(operation, fresh, ahead)
        if prepared is None:
            yield from repair(means, ids, call.home, ahead)
            prepared = means.planner.method(operation, frozenset())
            if prepared is None:
                continue
        # at first all that is wrong may be that somebody else has been here: others than a quorum need not know
        everyone = call.everyone or attempt > 1 or (attempt > 0 and bool(means.trust.suspicion))
        outcome, phase = yield from send(means, prepared, _whom_to_ask(means, prepared, call.home), everyone)
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
            # a try after a pause shows histories as old as that, and meets all that others did meanwhile; so the next
            # goes by what it was shown, at once
            paused = not (ahead and paused)
            if paused:
                pauses += 1
                yield means.backoff(pauses + 1)


def _whom_to_ask(means: Means, prepared: Prepared, home: int) -> int:
    """The object whose preferred quorum an update is sent to: the home, or another of its with less to fetch there.

    A server that lacks the version which an object's method is to run on has to fetch it from others first (paper
    section 3.7).  Who has it is what the histories say that the client holds.
    """
    views = prepared.request.views
    if len(views) == 1:
        return home
    n, reachable = means.quorums.n, means.rpc.reachable
    places = {home % n: home}
    for view in views:
        places.setdefault(view.obj % n, view.obj)
    if len(places) == 1:
        return home
    lacking = [
        ~sum(held.servers for held in means.cache.of(view.obj) if held.history.head.lt == record.lt)
        for view, record in zip(views, prepared.made.conditioned, strict=True)
        if view.groups
    ]
    fewest, chosen = -1, home
    for obj in places.values():
        order = [server for server in means.trust.preference(obj).to_ask if server in reachable]
        asked = mask_of(means.quorums.to_ask(0, order, means.quorums.q))
        fetches = sum((asked & mask).bit_count() for mask in lacking)
        if fewest < 0 or fetches < fewest:
            fewest, chosen = fetches, obj
    return chosen


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
