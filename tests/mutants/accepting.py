"""Broken acceptance: what becomes of histories and versions."""

from qunfs.protocol import acceptance as a
from qunfs.protocol import held_object as h
from qunfs.protocol import versions as v
from server import service as s
from tests.mutants.mutant import become, mutant, rewrite

SERVER = "DESIGN 3, server, on a request"
SKIP = "DESIGN 3, skip rule"
PROOF_RULE = "DESIGN 3, proof rule"
KEPT = "DESIGN 3, kept versions"

SCENARIOS = "tests/protocol/test_scenarios.py"
RULES = "tests/protocol/test_rules_acceptance.py"
VERSIONS = "tests/store/test_versions.py"


@mutant("older barriers are dropped", SERVER, f"{RULES}::test_a_barrier_takes_the_place_of_older_ones")
def older_barriers_stay() -> None:
    """Every barrier stays until something is established above it."""
    rewrite(a.accept, ("if record.kind is Kind.BARRIER:\n            records", "if False:\n            records"))


@mutant("all objects or none", SERVER, f"{RULES}::test_a_record_enters_all_its_histories")
def accepted_on_the_first_object_only() -> None:
    """A record enters the history of its first object only."""
    rewrite(
        a.accept,
        ("for obj in record.objects:\n        records", "for obj in record.objects[:1]:\n        records"),
        ("_usual(own, record)", "None"),
    )


PERSIST = "tests/protocol/test_rules_persist.py"


@mutant("no history that is not durable leaves the server", SERVER, PERSIST)
def send_before_persist() -> None:
    """Replies go out before the commit."""
    rewrite(
        s.Service._answer,
        ("self._store.commit()\n    self._dispatch(sends)", "self._dispatch(sends)\n    self._store.commit()"),
    )


@mutant("no history that is not durable leaves the server", SERVER, PERSIST)
def send_before_persist_on_ticks() -> None:
    """What time brings about goes out without a commit."""
    rewrite(s.Service._tick, ("self._answer(", "self._dispatch("))


@mutant("no history that is not durable leaves the server", SERVER, "tests/store/test_service.py")
def send_the_first_part_before_persist() -> None:
    """Of a wake-up with much to answer, the first part goes out without a commit."""
    rewrite(
        s.Service.on_frames,
        ("self._answer(sends)\n            sends, size", "self._dispatch(sends)\n            sends, size"),
    )


# ---- skip rule


@mutant("a COPY removes what can never be established", SKIP, f"{RULES}::test_a_copy_removes_contenders_everywhere")
def nothing_is_skipped() -> None:
    """Contenders stay in the histories."""
    become(a._skip, lambda histories, accepted: None)


@mutant("removed from all its objects", SKIP, f"{RULES}::test_a_copy_removes_contenders_everywhere")
def skipped_on_one_object_only() -> None:
    """A joint contender stays on its siblings."""
    rewrite(a._skip, ("for sibling in dead.objects:", "for sibling in (obj,):"))


@mutant("o included", SKIP, f"{RULES}::test_a_copy_removes_contenders_everywhere")
def skipped_on_siblings_only() -> None:
    """A joint contender stays where the copy is."""
    rewrite(a._skip, ("for sibling in dead.objects:", "for sibling in set(dead.objects) - {obj}:"))


@mutant("y.src != p.src", SKIP, f"{RULES}::test_a_copy_spares_its_own_segment")
def own_segment_is_skipped() -> None:
    """A COPY removes what it copies."""
    rewrite(a._skip, (" or dead.src == accepted.src", ""))


@mutant("y.lt > bot", SKIP, f"{RULES}::test_a_copy_spares_what_is_not_above_bot")
def established_is_skipped() -> None:
    """A COPY removes what lies below its bot."""
    rewrite(a._skip, ("dead.lt <= bottom or ", ""))


@mutant("y.lt > bot and not > lt_co", SKIP, f"{RULES}::test_a_copy_removes_contenders_below_its_source")
def only_above_lt_co_is_skipped() -> None:
    """Contenders between bot and the copied record stay."""
    rewrite(a._skip, ("bottom = accepted.bottom(obj)", "bottom = accepted.conditioned_on(obj)"))


@mutant("METHODs and COPYs only", SKIP, f"{RULES}::test_a_copy_leaves_barriers_alone")
def barriers_are_skipped() -> None:
    """A COPY removes barriers as well."""
    rewrite(a._skip, ("dead.kind not in (Kind.METHOD, Kind.COPY) or ", ""))


@mutant("never the base", SKIP, f"{RULES}::test_a_copy_never_removes_a_base")
def bases_are_skipped() -> None:
    """A COPY removes a contender even where it is a base."""
    rewrite(a._skip, ("dead in records and records[0] != dead", "dead in records"))


@mutant(
    "the head falls back to the newest remaining version",
    SKIP,
    f"{RULES}::test_a_copy_removes_contenders_everywhere",
    f"{VERSIONS}::test_the_head_follows_the_history",
)
def head_stays() -> None:
    """The rows of a version that was skipped stay the object's state."""
    rewrite(v.VersionStore.set_history, ("if head is not old:", "if False:"))


# ---- proof rule


@mutant("bot becomes the base", PROOF_RULE, f"{RULES}::test_a_method_proves_what_it_is_conditioned_on")
def nothing_is_proved() -> None:
    """Histories keep everything."""
    become(a._prove, lambda histories, accepted, obj, conditioned: None)
    become(a._usual, lambda own, accepted: None)


@mutant("wherever the record stands", PROOF_RULE, f"{RULES}::test_a_copy_of_a_proven_source_proves_it_on_siblings")
def proved_on_one_object_only() -> None:
    """The proof does not reach the siblings."""
    rewrite(a._prove, ("for sibling in proof.objects:", "for sibling in (obj,):"))


@mutant("wherever the record stands", PROOF_RULE, f"{RULES}::test_a_method_proves_what_it_is_conditioned_on")
def straight_path_leaves_siblings() -> None:
    """The straight path of a METHOD does not reach the siblings."""
    rewrite(a._prove_elsewhere, ("for sibling in proof.objects:", "for sibling in ():"))


@mutant("on accepting a METHOD or COPY", PROOF_RULE, f"{RULES}::test_a_copy_of_a_proven_source_proves_it_on_siblings")
def only_methods_prove() -> None:
    """A COPY proves nothing."""
    rewrite(
        a.accept, ("if record.kind is not Kind.BARRIER:\n        for", "if record.kind is Kind.METHOD:\n        for")
    )


@mutant("also within a segment", PROOF_RULE, f"{RULES}::test_a_copy_of_a_copy_proves_the_segment_s_bot")
def only_starts_of_segments_prove() -> None:
    """A COPY that goes on with a segment proves nothing."""
    rewrite(
        a.accept,
        (
            "if record.kind is not Kind.BARRIER:\n        for",
            "if record.kind is not Kind.BARRIER and record.starts_segment:\n        for",
        ),
    )


@mutant("a missing base is inserted", PROOF_RULE, f"{RULES}::test_a_missing_base_is_inserted_with_its_version")
def missing_bases_stay_missing() -> None:
    """A server that missed the base keeps its old one."""
    rewrite(a._prove, ("if proof is None and conditioned is not None and accepted.starts_segment:", "if False:"))


@mutant(
    "a repairable source never becomes a base", PROOF_RULE, f"{RULES}::test_a_repairable_source_never_becomes_a_base"
)
def sources_become_bases() -> None:
    """What a COPY copies becomes the base, established or not."""
    rewrite(a._prove, ("bottom = accepted.bottom(obj)", "bottom = accepted.conditioned_on(obj)"))


@mutant("a repairable source is not inserted either", PROOF_RULE, f"{RULES}::test_a_repairable_source_is_not_inserted")
def any_missing_source_is_inserted() -> None:
    """A COPY that goes on with a segment inserts its source as a base."""
    rewrite(a._prove, (" and accepted.starts_segment", ""))


@mutant(
    "adoption has the same side effects",
    "DESIGN 3, inline repair",
    f"{SCENARIOS}::test_a_client_alone_gets_on[adoption_has_side_effects-silent]",
)
def adoption_without_side_effects() -> None:
    """A server that adopts a COPY skips and proves nothing."""
    rewrite(
        a.accept,
        ("if record.kind is Kind.COPY:", "if record.kind is Kind.COPY and conditioned is not None:"),
        (
            "if record.kind is not Kind.BARRIER:\n        for",
            "if record.kind is not Kind.BARRIER and conditioned is not None:\n        for",
        ),
    )


# ---- versions


@mutant(
    "a version in a history is never collected", KEPT, f"{VERSIONS}::test_versions_of_the_history_are_never_collected"
)
def versions_of_histories_collected() -> None:
    """The oldest versions go, in the history or not."""
    rewrite(
        v.VersionStore._collect, ("{record.lt for record in known.history.records} | safe", "{known.head.lt} | safe")
    )


@mutant(
    "what the next record builds on is kept",
    KEPT,
    "tests/protocol/test_hostile_input.py::test_the_version_that_an_update_is_conditioned_on_outlives_the_update",
    f"{VERSIONS}::test_a_version_just_added_and_its_parent_are_not_collected_at_once",
)
def parents_of_new_versions_collected() -> None:
    """A version that is about to be the base may go before it is."""
    rewrite(v.VersionStore._collect, ("spared.parent is not None and", "False and"))


@mutant("a record needs its version", KEPT, f"{VERSIONS}::test_a_history_needs_its_versions")
def records_without_versions() -> None:
    """A history may hold records whose versions are gone."""
    rewrite(
        h.HeldObject.take,
        (
            'raise VersionMissing(f"the version of {record} is in the history but not held")',
            "head = self.head",
        ),
    )
