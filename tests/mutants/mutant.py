"""What a mutant is, and the ways to break one production function in the running process.

The *code* of a function is exchanged and not its name: whoever has imported the function, or holds a bound method of
it, runs the mutated one.  Nothing is written to a file.
"""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Final


@dataclass(frozen=True)
class Mutant:
    """One broken rule."""

    name: str
    rule: str
    where: str
    """Where the rule is stated: a section of DESIGN or of the paper."""
    apply: Callable[[], None]
    """The patch point; what it breaks is its docstring."""
    killers: tuple[str, ...]
    """The deterministic tests that are meant to kill it, as arguments of pytest."""
    superfluous: str = ""
    """Why nothing can kill it: another rule implies this one."""
    quick: bool = True
    """Whether its killers take so little time that the test suite runs them too."""


MUTANTS: Final[dict[str, Mutant]] = {}
"""All of them by name, in the order of the rules."""


def mutant(
    rule: str, where: str, *killers: str, superfluous: str = "", quick: bool = True
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Decorator: the function breaks this rule."""

    def decorate(patch: Callable[[], None]) -> Callable[[], None]:
        name = patch.__name__
        assert name not in MUTANTS, f"two mutants are called {name}"
        assert patch.__doc__, f"mutant {name} does not say what it breaks"
        assert killers or superfluous, f"mutant {name} has no test that is meant to kill it"
        MUTANTS[name] = Mutant(name, rule, where, patch, killers, superfluous, quick and not superfluous)
        return patch

    return decorate


class PatchPointMoved(Exception):
    """The production code no longer has what a mutant changes: the mutant is to be adapted."""


def become(function: Any, other: Callable[..., Any]) -> None:
    """Have a function do what another does; the other sees the globals of the first one's module."""
    _plain(function).__code__ = _plain(other).__code__


def rewrite(function: Any, *changes: tuple[str, str]) -> None:
    """Exchange pieces of a function's source, each of which must occur in it exactly once."""
    target = _plain(function)
    source = textwrap.dedent(inspect.getsource(target))
    for old, new in changes:
        if source.count(old) != 1:
            raise PatchPointMoved(f"{target.__qualname__} has {old!r} {source.count(old)} times")
        source = source.replace(old, new)
    target.__code__ = _code_in(compile(source, target.__code__.co_filename, "exec"), target.__name__)


def _plain(function: Any) -> FunctionType:
    function = inspect.unwrap(getattr(function, "__func__", function))
    assert isinstance(function, FunctionType)
    return function


def _code_in(module: CodeType, name: str) -> CodeType:
    found = [const for const in module.co_consts if isinstance(const, CodeType) and const.co_name == name]
    assert len(found) == 1
    return found[0]
