"""What every method of the namespace has in common: opening objects, refusing, and the form of answers.

An answer is ``(status, result, nodes)``: an nfsstat3, what the method has to say, and for each object that it looked at
``(id, (size, mtime, ctime) before or None, attribute row after)``, from which post-op attributes and wcc_data are made.
A refusal has the same form, with the attributes as they are.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from qunfs.objects.codes import nfsstat3
from qunfs.objects.ids import is_directory, is_file, is_valid, type_of
from qunfs.objects.registry import REGISTRY
from qunfs.objects.state import ATTRIBUTES_ROW, Attributes, unpack_attributes
from qunfs.protocol.execution import TYPE_KEY
from qunfs.protocol.operation import RESERVED_PREFIX, Context, Credentials, MethodFailed, ObjectView
from qunfs.protocol.packing import pack

_FIRST_ROW: Final = RESERVED_PREFIX[:-1] + bytes((RESERVED_PREFIX[-1] + 1,))


class Refusal(Exception):
    """The method refuses; what the caller may learn beyond the status is in ``result``."""

    def __init__(self, status: nfsstat3, result: object = None) -> None:
        super().__init__(status.name)
        self.status, self.result = status, result


class Node:
    """An object that a method has opened; changed attributes are written when the method is done."""

    __slots__ = ("attributes", "before", "obj", "removed", "row", "view")

    def __init__(self, obj: int, view: ObjectView, row: bytes | None, attributes: Attributes) -> None:
        self.obj, self.view, self.row, self.attributes = obj, view, row, attributes
        self.before = None if row is None else (attributes.size, attributes.mtime, attributes.ctime)
        self.removed = False

    def touch(self, now: int, *, modified: bool = False) -> None:
        """Move ctime on, strictly, and with it mtime when the contents were modified."""
        attributes = self.attributes
        attributes.ctime = max(attributes.ctime + 1, now)
        if modified:
            attributes.mtime = attributes.ctime

    def remove(self) -> None:
        """Make the object absent; what the protocol keeps with it stays."""
        self.removed = True
        self.attributes.nlink = 0

    def unlink(self, now: int) -> None:
        """Take one link away, and the object with the last one."""
        self.touch(now)
        if self.attributes.nlink > 1:
            self.attributes.nlink -= 1
        else:
            self.remove()

    def write(self) -> bytes:
        """Bring the state up to date and return the attribute row (nlink 0 when the object went away)."""
        row = self.attributes.pack()
        if self.removed:
            for key, _ in list(self.view.scan(_FIRST_ROW)):
                self.view.delete(key)
        elif row != self.row:
            self.view.put(ATTRIBUTES_ROW, row)
        return row


class Invocation:
    """One call of a method."""

    def __init__(self, views: Mapping[int, ObjectView], context: Context) -> None:
        self.views = views
        self.argument: Any = context.argument
        self.credentials: Credentials = context.credentials
        self.now = context.client_time
        self._nodes: dict[int, Node] = {}

    @property
    def only(self) -> int:
        """The object of a method that takes one."""
        (obj,) = self.views
        return obj

    def expect(self, *objects: int) -> None:
        """Fail unless the operation names exactly these objects (some may be the same)."""
        if self.views.keys() != set(objects) or set(map(type, objects)) != {int}:
            raise ValueError("operation on other objects than its argument says")

    def node(self, obj: int) -> Node:
        """An object that must exist; STALE otherwise."""
        node = self._nodes.get(obj)
        if node is None:
            view = self.views[obj]
            row = view.get(ATTRIBUTES_ROW)
            if row is None or not is_valid(obj):
                raise Refusal(nfsstat3.NFS3ERR_STALE)
            node = self._nodes[obj] = Node(obj, view, row, unpack_attributes(row))
        return node

    def fresh(self, obj: int, attributes: Attributes) -> Node:
        """An object that must not have been there; RETRY (with another id) otherwise."""
        if not (is_directory(obj) and is_valid(obj) if attributes.is_directory else is_file(obj)):
            raise ValueError("an id of another kind than the object")
        view = self.views[obj]
        for _ in view.scan(_FIRST_ROW):
            raise Refusal(nfsstat3.RETRY)
        view.put(TYPE_KEY, type_of(obj).encode())  # whatever the operation says: a wrong one would last
        node = self._nodes[obj] = Node(obj, view, None, attributes)
        return node

    def changed(self, result: object) -> bytes:
        """Write what changed; the answer of an update that takes effect."""
        nodes = [(obj, node.before, node.write()) for obj, node in sorted(self._nodes.items())]
        return _pack(nfsstat3.NFS3_OK, result, nodes)

    def unchanged(self, status: nfsstat3, result: object) -> bytes:
        """The answer of a query or a refusal."""
        nodes = [(obj, node.before, node.row) for obj, node in sorted(self._nodes.items()) if node.row is not None]
        return _pack(status, result, nodes)


Body = Callable[[Invocation], object]


def query(name: str, *, follow: Callable[[bytes], tuple[int, str, str] | None] | None = None) -> Callable[[Body], Body]:
    """Register a query of the namespace; the body returns its result."""

    def decorate(body: Body) -> Body:
        @REGISTRY.query(name, follow=follow)
        def run(views: Mapping[int, ObjectView], context: Context) -> bytes:
            call = Invocation(views, context)
            try:
                return call.unchanged(nfsstat3.NFS3_OK, body(call))
            except Refusal as refusal:
                raise MethodFailed(call.unchanged(refusal.status, refusal.result)) from None

        return body

    return decorate


def update(name: str) -> Callable[[Body], Body]:
    """Register an update of the namespace; the body changes nodes and returns its result."""

    def decorate(body: Body) -> Body:
        @REGISTRY.update(name)
        def run(views: Mapping[int, ObjectView], context: Context) -> bytes:
            call = Invocation(views, context)
            try:
                return call.changed(body(call))
            except Refusal as refusal:
                raise MethodFailed(call.unchanged(refusal.status, refusal.result)) from None

        return body

    return decorate


def _pack(status: nfsstat3, result: object, nodes: list[tuple[int, tuple[int, int, int] | None, bytes]]) -> bytes:
    return pack((status, result, nodes))
