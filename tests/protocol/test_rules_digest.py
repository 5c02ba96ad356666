"""Compact timestamps (section 3.5): whatever a request consists of, another one of it is another timestamp."""

from qunfs.protocol.classify import Request, _digest
from qunfs.protocol.history import ZERO, ZERO_HISTORY, Kind, LogicalTimestamp, ObjectHistorySet, ReplicaHistory, method
from qunfs.protocol.operation import Credentials, Operation
from tests.protocol.scripted import altered

OBJ = 7
OPERATION = Operation((OBJ,), ("ledger",), "ledger.append", 1, b"\xc0", Credentials(0, 0), 1, OBJ, b"s" * 16, 1)
OTHER_OPERATIONS = [
    altered(OPERATION, **{field: value})
    for field, value in {
        "objects": (OBJ + 1,),
        "types": ("counter",),
        "method": "ledger.prepend",
        "version": 2,
        "argument": b"\xc2",
        "credentials": Credentials(0, 1),
        "client_time": 2,
        "home": 0,
        "session": b"t" * 16,
        "sequence": 2,
    }.items()
]
ONE = ReplicaHistory((ZERO, method(LogicalTimestamp(1, 0, 1, b"d" * 32), (OBJ,), (ZERO.lt,))))
VIEW, OTHERS_VIEW = ObjectHistorySet(OBJ, ((ONE, 0b11111),)), ObjectHistorySet(OBJ, ((ONE, 0b111110),))
REQUEST = Request(Kind.METHOD, 1, b"s" * 16, OPERATION, (VIEW,))
CONDITION = [ZERO.lt.pack()]


def test_everything_in_a_request_makes_its_timestamp() -> None:
    """The operation with all of its fields, kind, client, session, views, who showed them, evidence, lt_co."""
    requests = [
        REQUEST,
        altered(REQUEST, kind=Kind.BARRIER),
        altered(REQUEST, client=2),
        altered(REQUEST, session=b"t" * 16),
        altered(REQUEST, views=(ObjectHistorySet(OBJ, ((ZERO_HISTORY, 0b11111),)),)),
        altered(REQUEST, views=(ObjectHistorySet(OBJ + 1, VIEW.groups),)),
        altered(REQUEST, views=(OTHERS_VIEW,)),
        altered(REQUEST, evidence=(VIEW,)),
        altered(REQUEST, evidence=(OTHERS_VIEW,)),
        altered(REQUEST, views=(), evidence=(VIEW,)),
        altered(REQUEST, operation=None),
        *[altered(REQUEST, operation=operation) for operation in OTHER_OPERATIONS],
    ]
    digests = {_digest(request, CONDITION) for request in requests}
    digests |= {_digest(REQUEST, [ONE.latest.lt.pack()]), _digest(REQUEST, [])}
    assert len(digests) == len(requests) + 2


def test_neither_operation_nor_views_run_into_each_other() -> None:
    """Lengths and counts are hashed: no piece of one part passes for a piece of the next."""
    views = altered(REQUEST, views=(VIEW, VIEW), evidence=(VIEW,))
    evidence = altered(REQUEST, views=(VIEW,), evidence=(VIEW, VIEW))
    assert _digest(views, CONDITION) != _digest(evidence, CONDITION)
