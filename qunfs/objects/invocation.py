"""What every method of the namespace has in common: its argument's shape, opening objects, refusing, and answers.

An answer is ``(status, result, nodes)``: an nfsstat3, what the method has to say, and for each object that it looked at
``(id, (size, mtime, ctime) before or None, attribute row after)``, from which post-op attributes and wcc_data are made.
A refusal has the same form, with the attributes as they are.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from qunfs.objects.codes import nfsstat3
from qunfs.objects.ids import ATTRIBUTES_TYPE, DIRECTORY_TYPE, is_directory, is_file, is_valid
from qunfs.objects.registry import REGISTRY
from qunfs.objects.shapes import NO_ARGUMENT, Shapes, shape_of
from qunfs.objects.state import ATTRIBUTES_ROW, Attributes, unpack_attributes
from qunfs.protocol.execution import TYPE_KEY
from qunfs.protocol.operation import RESERVED_PREFIX, Context, Credentials, MethodFailed, ObjectView
from qunfs.protocol.packing import pack

_FIRST_ROW: Final = RESERVED_PREFIX[:-1] + bytes((RESERVED_PREFIX[-1] + 1,))
_OK: Final = int(nfsstat3.NFS3_OK)
_DIRECTORY_TYPE: Final = DIRECTORY_TYPE.encode()
_ATTRIBUTES_TYPE: Final = ATTRIBUTES_TYPE.encode()


class Refusal(Exception):
    """The method refuses; what the caller may learn beyond the status is in ``result``."""

    def __init__(self, status: nfsstat3, result: object = None) -> None:
        self.status, self.result = status, result


Before = tuple[int, int, int]
"""Size, mtime and ctime as the method found them."""


class Node:
    """An object that a method has opened; changed attributes are written when the method is done."""

    __slots__ = ("attributes", "before", "obj", "removed", "row", "view")

    def __init__(self, obj: int, view: ObjectView, row: bytes | None, attributes: Attributes) -> None:
        self.obj = obj
        self.view = view
        self.row = row
        self.attributes = attributes
        self.before: Before | None = None
        if row is not None:
            self.before = (attributes.size, attributes.mtime, attributes.ctime)
        self.removed = False

    def touch(self, now: int) -> None:
        """Move ctime on, strictly."""
        ctime = self.attributes.ctime + 1
        self.attributes.ctime = ctime if ctime > now else now

    def modify(self, now: int) -> None:
        """Move ctime on, strictly, and mtime with it: the contents were modified."""
        self.touch(now)
        self.attributes.mtime = self.attributes.ctime

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
    """One call of a method.  Raises TypeError for an argument of none of the shapes that the method takes."""

    __slots__ = ("_nodes", "argument", "credentials", "now", "views")

    def __init__(self, views: Mapping[int, ObjectView], context: Context, takes: Shapes) -> None:
        argument: Any = context.argument
        if shape_of(argument) not in takes:
            raise TypeError("not an argument of this method")
        self.views = views
        self.argument = argument
        self.credentials: Credentials = context.credentials
        self.now: int = context.client_time
        self._nodes: dict[int, Node] = {}

    @property
    def only(self) -> int:
        """The object of a method that takes one."""
        (obj,) = self.views
        return obj

    def expect(self, first: int, second: int, *more: int) -> None:
        """Fail unless the operation names exactly these objects (some may be the same)."""
        views = self.views
        if more:
            sound = views.keys() == {first, second, *more}
        else:
            sound = first in views and second in views and len(views) == (1 if first == second else 2)
        if not sound:
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
        """An object that must never have been there; RETRY (with another id) otherwise.

        What is gone keeps its type: somebody may have it open, and its contents may lie in a folder still.
        """
        if not (is_directory(obj) and is_valid(obj) if attributes.is_directory else is_file(obj)):
            raise ValueError("an id of another kind than the object")
        view = self.views[obj]
        if view.get(TYPE_KEY) is not None:
            raise Refusal(nfsstat3.RETRY)
        for _ in view.scan(_FIRST_ROW):
            raise Refusal(nfsstat3.RETRY)
        # whatever the operation says: a wrong one would last
        view.put(TYPE_KEY, _DIRECTORY_TYPE if attributes.is_directory else _ATTRIBUTES_TYPE)
        node = self._nodes[obj] = Node(obj, view, None, attributes)
        return node

    def changed(self, result: object) -> bytes:
        """Write what changed; the answer of an update that takes effect."""
        shown = [(node.obj, node.before, node.write()) for node in self._opened()]
        return pack((_OK, result, shown))

    def unchanged(self, status: int, result: object) -> bytes:
        """The answer of a query or a refusal."""
        shown: list[tuple[int, Before | None, bytes]] = []
        for node in self._opened():
            if node.row is not None:
                shown.append((node.obj, node.before, node.row))
        return pack((status, result, shown))

    def _opened(self) -> list[Node]:
        """The nodes in the order of their ids."""
        nodes = self._nodes
        if len(nodes) > 1:
            return [nodes[obj] for obj in sorted(nodes)]
        return list(nodes.values())


Body = Callable[[Invocation], object]


def query(
    name: str, takes: Shapes = NO_ARGUMENT, *, follow: Callable[[bytes], tuple[int, str, str] | None] | None = None
) -> Callable[[Body], Body]:
    """Register a query of the namespace, of an argument of these shapes.

    The body returns its result; it raises a refusal, or returns it, which is cheaper.
    """

    def decorate(body: Body) -> Body:
        @REGISTRY.query(name, follow=follow)
        def run(views: Mapping[int, ObjectView], context: Context) -> bytes | MethodFailed:
            call = Invocation(views, context, takes)
            try:
                result = body(call)
            except Refusal as refusal:
                result = refusal
            if isinstance(result, Refusal):
                return MethodFailed(call.unchanged(result.status, result.result))
            return call.unchanged(_OK, result)

        return body

    return decorate


def update(name: str, takes: Shapes) -> Callable[[Body], Body]:
    """Register an update of the namespace, as :func:`query` does; the body changes nodes and returns its result."""

    def decorate(body: Body) -> Body:
        @REGISTRY.update(name)
        def run(views: Mapping[int, ObjectView], context: Context) -> bytes | MethodFailed:
            call = Invocation(views, context, takes)
            try:
                return call.changed(body(call))
            except Refusal as refusal:
                refused = refusal
            return MethodFailed(call.unchanged(refused.status, refused.result))

        return body

    return decorate
