"""Queries until their answers count, repairs in between (Figure 3, ``c_fetch``, lines 400-406)."""

from qunfs.protocol.errors import LocalError, OperationRefused
from qunfs.protocol.execution import Code
from qunfs.protocol.operation import Call, Operation
from qunfs.protocol.querying import Item, QueryRound
from qunfs.protocol.repairing import repair
from qunfs.protocol.steps import Leave, Means, Queue, Running, ids_and_types


def fetch(means: Means, calls: list[Call]) -> Running:
    """Answers of several calls; those with one preferred quorum share messages.

    Raises LocalError for a method that is not registered, and OperationRefused.
    """
    items = [_item(means, call) for call in calls]
    means.counters["queries"] += len(items)
    if len(items) == 1:
        yield from _fetch(means, items)
    else:
        for batch in _batches(means, items):
            yield from _fetch(means, batch)
    for item in items:
        code = Code.OK if item.result is None else item.result.code
        if code is not Code.OK and code is not Code.FAILED:
            raise OperationRefused(f"replicas refused the query: {code.name.lower()}")
    return [item.answer() for item in items]


def _batches(means: Means, items: list[Item]) -> list[list[Item]]:
    """Queries that go to one preferred quorum together."""
    most = means.limits.queries_per_message_max
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.operation.objects[0] % means.quorums.n, []).append(item)
    return [group[start : start + most] for group in groups.values() for start in range(0, len(group), most)]


def _item(means: Means, call: Call) -> Item:
    method = means.registry.find(call.method, call.version)
    if method is None:
        raise LocalError(f"no method {call.method} version {call.version}")
    ids, types = ids_and_types(call)
    return Item(call, method, Operation(ids, types, call.method, call.version, call.argument, call.credentials))


def _fetch(means: Means, items: list[Item]) -> Running:
    order = means.trust.preference(items[0].operation.objects[0]).to_ask
    attempt = 0
    pending = items
    while pending:
        whole_from = None
        for item in pending:
            if item.call.large:
                whole_from = next((s for s in order if s in means.rpc.reachable), order[0])
                break
        asked_for_all = [item for item in pending if item.everyone_whole]
        views_max = means.limits.views_tried_max
        phase = QueryRound(means.quorums, means.cache, pending, order, whole_from, len(items) == 1, views_max)
        yield phase
        if phase.contradicted:
            means.trust.contradicted(phase.contradicted)
        pending = [item for item in pending if item.result is None]
        if not pending:
            break
        unsettled = [
            item
            for item in pending
            if item.at is None and item.seen is None and (not item.everyone_whole or item in asked_for_all)
        ]
        if unsettled:
            yield from _make_answerable(means, unsettled)
        attempt += 1
        if attempt > 2:
            for item in pending:
                item.at = None
            yield means.backoff(attempt)
    for item in items:
        if item.child is not None and item.followed is None:
            followed = _item(means, item.child)
            yield from _fetch(means, [followed])
            item.followed = followed.result


def _make_answerable(means: Means, items: list[Item]) -> Running:
    """Repair what queries read; behind this client's own updates of it, which may be all there is to wait for."""
    yield Queue(tuple(sorted({obj for item in items for obj in item.operation.objects})))
    for item in items:
        objects = item.operation.objects
        yield from repair(means, objects, objects[0])
        item.proofs = means.planner.proofs(objects)
    yield Leave()
