"""Broken checks: MACs, the bound on time, admission, repeats, currentness and arguments."""

from hashlib import blake2b
from typing import Any

from qunfs.objects import invocation as inv
from qunfs.protocol import admission as ad
from qunfs.protocol import authenticator as au
from qunfs.protocol import planning as pl
from qunfs.protocol import replica as r
from tests.mutants.mutant import become, mutant, rewrite

AUTHENTICATORS = "DESIGN 3, authenticators; paper 3.5"
REQUEST = "DESIGN 3, request; paper Figure 3, 1000-1008"
SERVER = "DESIGN 3, server, on a request; paper Figure 3, 1000-1030"
ADMISSION = "DESIGN 6, admission"
SHAPES = "docs/decisions/0007"

LISTS = "docs/protocol.md, lists of objects"
MACS = "tests/protocol/test_authenticator.py"
SCENARIOS = "tests/protocol/test_scenarios.py"
ROLL = "tests/protocol/test_roll.py"
RULES = "tests/protocol/test_rules_server.py"


# ---- authenticators


@mutant(
    "own MAC column is checked", AUTHENTICATORS, f"{RULES}::test_a_history_with_a_bad_mac_is_refused_and_not_culled"
)
def macs_unchecked() -> None:
    """Whatever a client shows is believed."""
    become(au.Authenticator.invalid, lambda self, obj, history, mask, macs: [])


@mutant("MACs are bound to the object", AUTHENTICATORS, f"{MACS}::test_a_mac_holds_for_nothing_else")
def macs_for_any_object() -> None:
    """A history can be moved to another object."""

    class Nothing:
        def pack(self, _obj: int) -> bytes:
            return bytes(8)

    au._OBJECT = Nothing()  # type: ignore[misc, assignment]


@mutant("MACs are directional", AUTHENTICATORS, f"{MACS}::test_a_mac_is_not_valid_in_the_other_direction")
def macs_in_both_directions() -> None:
    """A history can be reflected to its issuer as the verifier's own."""

    class Symmetric:
        def __init__(self, *data: bytes, **options: Any) -> None:
            self._hash = options.get("hash") or blake2b(*data, **options)

        def copy(self) -> "Symmetric":
            return Symmetric(hash=self._hash.copy())

        def update(self, data: bytes) -> None:
            self._hash.update(data)

        def digest(self) -> bytes:
            return self._hash.digest()[: au.MAC_BYTES] * 2

    au.blake2b = Symmetric  # type: ignore[misc, assignment]
    au._copy, au._update, au._digest = Symmetric.copy, Symmetric.update, Symmetric.digest  # type: ignore[misc, assignment]


@mutant("MACs cover the history", AUTHENTICATORS, f"{MACS}::test_a_mac_holds_for_nothing_else")
def macs_of_the_object_only() -> None:
    """One MAC holds for every history of an object."""
    rewrite(au.Authenticator.tags, ("digest = history.digest", "digest = bytes(32)"))
    rewrite(
        au.Authenticator.valid, ("+ history.digest", "+ bytes(32)"), ("self._tags.get((obj, history.digest))", "None")
    )
    rewrite(au.Authenticator.invalid, ("self._tags.get((obj, history.digest))", "self._tags.get((obj, bytes(32)))"))


# ---- requests


@mutant("CULLED and not cull", REQUEST, f"{RULES}::test_a_history_with_a_bad_mac_is_refused_and_not_culled")
def cull_and_go_on() -> None:
    """The histories of up to b servers that are not valid are overlooked."""
    rewrite(r.Replica._update, ("if culled:", "if len({one.server for one in culled}) > self.quorums.b:"))


@mutant("evidence is authenticated as views are", REQUEST, f"{RULES}::test_evidence_with_a_bad_mac_is_refused_too")
def evidence_unchecked() -> None:
    """Whatever a client shows as evidence is believed."""
    rewrite(r.Replica._invalid, ("(*request.views, *request.evidence)", "request.views"))


@mutant("a bound on time", REQUEST, f"{SCENARIOS}::test_times_beyond_the_bound_are_culled")
def time_unbounded() -> None:
    """One server may show a time that leaves no room for others."""
    rewrite(r.Replica._invalid, ("history.latest.lt.time > newest", "False"))


@mutant("whose MAC does not hold is not merely late", REQUEST, f"{SCENARIOS}::test_times_beyond_the_bound_are_culled")
def late_histories_need_no_macs() -> None:
    """A time that anybody may have made up is passed for one that its server has issued."""
    rewrite(
        r.Replica._invalid,
        ("invalid = self._authenticator", "invalid = [] if history.latest.lt.time > newest else self._authenticator"),
    )


@mutant(
    "no proof takes a history that every server refuses",
    "docs/protocol.md, the bound on time",
    "tests/protocol/test_rules_client.py::test_a_proof_that_only_a_late_history_completes_is_none",
)
def late_times_are_evidence() -> None:
    """A proof that a liar's late history completes is shown for ever, and refused, and nothing is repaired."""
    rewrite(pl.Planner._evidence, ("least=False", "least=True"))


@mutant(
    "the bound on time is absolute",
    "DESIGN 3, request; model/wedge.py",
    f"{SCENARIOS}::test_one_liar_cannot_wedge_an_object_with_high_times",
)
def time_bound_relative_to_own_history() -> None:
    """The bound is relative to what the server holds itself."""
    rewrite(
        r.Replica._invalid,
        ("wall_ns // 1000 + self.limits.time_ahead_max", "0"),
        ("obj = histories.obj", "obj = histories.obj; newest = self.store.history(obj).latest.lt.time + (1 << 30)"),
    )


@mutant("rights", ADMISSION, f"{RULES}::test_admission")
def readers_may_update() -> None:
    """A read-only client may update."""
    rewrite(ad.refusal, ("if not rights.read_write:", "if False:"))


@mutant("credentials are those that the cluster file grants", ADMISSION, f"{RULES}::test_admission")
def credentials_unchecked() -> None:
    """A client may act for anybody."""
    become(ad.credentials_refusal, lambda rights, operation: None)


@mutant("client time within a window", ADMISSION, f"{RULES}::test_admission")
def client_time_unchecked() -> None:
    """A client's clock may say anything."""
    become(ad.in_time, lambda operation, wall_ns, limits: True)


@mutant("repairs of readers are rate limited", ADMISSION, f"{RULES}::test_readers_may_repair_now_and_then")
def repairs_unlimited() -> None:
    """A reader may ask for any number of repairs."""
    become(ad.RepairRate.allows, lambda self, client, obj, now: True)


@mutant("ids are for who may look everywhere", LISTS, f"{ROLL}::test_who_may_not_act_for_root_learns_no_ids")
def ids_for_everybody() -> None:
    """Any client may have the objects listed."""
    become(ad.may_list, lambda rights: True)


@mutant("lists are rate limited", LISTS, f"{ROLL}::test_listing_takes_no_more_than_its_share_of_a_replica")
def lists_unlimited() -> None:
    """A client may keep replicas busy with lists."""
    rewrite(r.Replica._roll, ("if not self._roll_rate.allows(origin.principal, 0, now):", "if False:"))


@mutant("an update names its home and sequence", "DESIGN 3, exactly once", f"{RULES}::test_admission")
def updates_without_a_home() -> None:
    """An update that no object remembers is run."""
    rewrite(r.Replica._admit, ("request.operation.home == 0 or request.operation.sequence == 0", "False"))


# ---- repeats


@mutant("a repeat gets the stored answer", SERVER, f"{RULES}::test_a_repeat_gets_the_stored_answer_and_nothing_runs")
def repeats_unknown() -> None:
    """A request that was accepted before is judged like a new one."""
    become(r.Replica._repeated, lambda self, candidate, own: None)


@mutant(
    "a repeat gets the stored answer",
    SERVER,
    "tests/protocol/test_execution.py::test_a_repeated_request_gets_the_stored_answer",
)
def repeats_known_by_history_only() -> None:
    """An answer is forgotten when its record is pruned."""
    rewrite(r.Replica._repeated, ("self._answers.get(candidate.wire)", "None"))


# ---- currentness


@mutant("currentness", SERVER, f"{RULES}::test_a_method_on_a_view_that_is_behind_fails")
def currentness_unchecked() -> None:
    """A candidate is accepted over anything later."""
    become(r._is_current, lambda candidate, own: True)


@mutant("currentness on every object", SERVER, f"{RULES}::test_one_object_that_is_ahead_fails_the_whole_update")
def currentness_of_the_first_object() -> None:
    """Only one object of an update need be current."""
    rewrite(r._is_current, ("candidate.cur)", "candidate.cur[:1])"))


@mutant("latest <= cur", SERVER, f"{RULES}::test_a_late_server_accepts_at_its_current_time")
def currentness_strict() -> None:
    """A history that ends at cur itself is not current."""
    rewrite(r._is_current, (".latest.lt > current", ".latest.lt >= current"))


@mutant("latest <= cur and not lt_co", SERVER, f"{RULES}::test_a_barrier_is_accepted_over_what_it_has_seen")
def currentness_at_lt_co() -> None:
    """What counts is lt_co, so that barriers and copies stay outside."""
    rewrite(r._is_current, ("candidate.cur)", "candidate.lt_co)"))


@mutant("FAIL shows the current histories", SERVER, f"{RULES}::test_a_method_on_a_view_that_is_behind_fails")
def fail_without_histories() -> None:
    """A client that is behind is not told where the server stands."""
    rewrite(r.Replica._fail, ("histories=self._current(candidate.objects)", ""))


@mutant(
    "room for repairs in full histories",
    "protocol/limits.py, records_before_refusal_max",
    f"{RULES}::test_full_histories_have_room_for_repairs",
)
def methods_fill_histories() -> None:
    """METHODs are accepted up to the last record that a history can hold."""
    rewrite(r.Replica._update, ("self.limits.records_before_refusal_max", "self.limits.records_per_history_max"))


# ---- arguments


@mutant(
    "an argument of another shape than declared is refused",
    SHAPES,
    "tests/objects/test_shapes.py::test_fields_of_other_types_are_refused",
)
def shapes_unchecked() -> None:
    """A method takes whatever a client sends, as far as it gets."""
    rewrite(inv.Invocation.__init__, ("if shape_of(argument) not in takes:", "if False:"))
