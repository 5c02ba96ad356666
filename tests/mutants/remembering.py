"""Broken methods: running an update exactly once, and only under what its caller saw."""

from qunfs.objects import naming, topology
from qunfs.objects import rename as rn
from qunfs.protocol import execution as e
from qunfs.protocol import replica as r
from tests.mutants.mutant import mutant, rewrite

ONCE = "DESIGN 3, exactly once"
DRC = "DESIGN 3, exactly once; model/drc.py"
RETRY = "DESIGN 3, exactly once (RETRY)"
FAILS = "DESIGN 3, an update whose method fails makes no version"

EXECUTION = "tests/protocol/test_execution.py"
RULES = "tests/protocol/test_rules_server.py"


@mutant(
    "a sequence equal to the last gets its answer", ONCE, f"{EXECUTION}::test_a_repeat_gets_the_answer_and_runs_nothing"
)
def repeated_operations_run_again() -> None:
    """The duplicate cache is not asked."""
    rewrite(e.run_update, ("entry = home.get(key)", "entry = None"))


@mutant("the home object remembers", DRC, f"{EXECUTION}::test_the_home_remembers_whatever_objects_a_reissue_has")
def first_object_remembers() -> None:
    """The lowest object remembers, and a re-issue may have another."""
    rewrite(e.run_update, ("views[operation.home]", "views[operation.objects[0]]"))


@mutant("a lower sequence is STALE", ONCE, f"{EXECUTION}::test_an_operation_overtaken_by_its_session_is_stale")
def lower_sequences_run() -> None:
    """An operation that was overtaken by its session runs."""
    rewrite(e.run_update, ("if sequence > operation.sequence:", "if False:"))


@mutant("sessions of one client are told apart", ONCE, f"{EXECUTION}::test_clients_and_sessions_are_told_apart")
def sessions_not_told_apart() -> None:
    """A client has one entry for all its sessions."""
    rewrite(e.run_update, ("_CLIENT.pack(client) + operation.session", "_CLIENT.pack(client) + bytes(16)"))


@mutant("clients are told apart", ONCE, f"{EXECUTION}::test_clients_and_sessions_are_told_apart")
def clients_not_told_apart() -> None:
    """All clients share their sessions."""
    rewrite(e.run_update, ("_CLIENT.pack(client)", "_CLIENT.pack(0)"))


@mutant(
    "evicted within one client only",
    ONCE,
    f"{EXECUTION}::test_a_client_that_fills_the_cache_evicts_its_own_oldest_sessions_only",
)
def others_sessions_are_evicted() -> None:
    """A busy client has the home forget the others."""
    rewrite(e.run_update, ("_make_room(home, key[: -len(operation.session)]", "_make_room(home, _DUPLICATES"))


@mutant(
    "the least recent session goes first",
    ONCE,
    f"{EXECUTION}::test_a_client_that_fills_the_cache_evicts_its_own_oldest_sessions_only",
)
def latest_sessions_are_evicted() -> None:
    """The sessions in use are forgotten."""
    rewrite(e._make_room, ("sorted(entries)[", "sorted(entries, reverse=True)["))


@mutant(
    "so many sessions per client",
    ONCE,
    f"{EXECUTION}::test_a_client_that_fills_the_cache_evicts_its_own_oldest_sessions_only",
)
def sessions_are_never_evicted() -> None:
    """A client fills the home's state."""
    rewrite(
        e._make_room, ("for _, key in sorted(entries)[: max(0, len(entries) - sessions + 1)]:", "for _, key in ():")
    )


@mutant("a hit is answered as a query", ONCE, f"{EXECUTION}::test_a_repeat_gets_the_answer_and_runs_nothing")
def hits_make_versions() -> None:
    """A repeat makes a version of its own."""
    rewrite(e.run_update, ("entry[_ENTRY.size :], effective=False", "entry[_ENTRY.size :], effective=True"))


@mutant(
    "a failed method makes no version", FAILS, f"{EXECUTION}::test_a_refusal_makes_no_version_and_is_not_remembered"
)
def failures_are_effective() -> None:
    """A refusal is a version, and remembered."""
    rewrite(e._invoke, ("_FAILED, answer.answer, False", "_OK, answer.answer, True"))


@mutant(
    "a failed method makes no version", FAILS, f"{RULES}::test_a_method_that_fails_is_answered_and_makes_no_version"
)
def failures_are_accepted() -> None:
    """A replica accepts what had no effect."""
    rewrite(r.Replica._method, ("if not run.effective:", "if False:"))


@mutant(
    "types are fixed by the first update", "DESIGN 4, objects", f"{EXECUTION}::test_types_are_fixed_by_the_first_update"
)
def types_unchecked() -> None:
    """An object may be taken for another type."""
    rewrite(e._untyped, ("elif known != kind:", "elif False:"))


@mutant(
    "RETRY when the name is bound to another id", RETRY, "tests/nfs/test_interleaving.py", "tests/nfs/test_naming.py"
)
def removal_of_whatever_is_there() -> None:
    """REMOVE and RMDIR take away what the caller did not mean."""
    rewrite(naming._open_for_removal, ("if entry.obj != obj:", "if False:"))


@mutant(
    "RETRY when the names are bound to other ids", RETRY, "tests/nfs/test_interleaving.py", "tests/nfs/test_rename.py"
)
def rename_of_whatever_is_there() -> None:
    """RENAME moves or replaces what the caller did not mean."""
    rewrite(rn._find, ("if bound != (want.moved, want.replaced):", "if False:"))


@mutant("RETRY when a directory has moved", RETRY, "tests/nfs/test_interleaving.py", "tests/nfs/test_rename.py")
def topology_not_compared() -> None:
    """An ancestor walk of the past decides."""
    rewrite(topology.bump, ("if _generation(view) != generation:", "if False:"))
