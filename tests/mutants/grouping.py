"""Broken recursive thresholds, and places that count servers where a quorum system should be asked."""

from qunfs.protocol import answering as a
from qunfs.protocol import classify as c
from qunfs.protocol import planning as p
from qunfs.protocol import quorum_rpc as qr
from qunfs.protocol import recursive_quorum as rq
from qunfs.protocol import trust as t
from qunfs.protocol import update_round as ur
from tests.mutants.mutant import mutant, rewrite

GROUPS = "paper 3.3, recursive thresholds"
QUORUMS = "tests/protocol/test_quorum.py"
RULES = "tests/protocol/test_rules_groups.py"
CLIENT = "tests/protocol/test_recursive_client.py"

CONSTRAINT_2 = f"{QUORUMS}::test_constraint_2_operations_at_a_quorum_may_complete"
CONSTRAINT_3 = f"{QUORUMS}::test_constraint_3_an_established_candidate_is_repairable_in_every_quorum"
CONSTRAINT_4 = f"{QUORUMS}::test_constraint_4_an_established_candidate_excludes_other_potential_ones"
LYING, CRASHING = "[lying-groups]", "[three-crashing-groups]"
SITE = f"{QUORUMS}::test_a_group_may_be_lost_as_a_whole_and_a_server_in_each_other"
SIZES = f"{QUORUMS}::test_sizes_of_recursive_thresholds_multiply"
VIEWS = f"{QUORUMS}::test_views_are_the_quorums_with_none_to_spare{LYING}"
Recursive = rq.RecursiveThresholdQuorums


# ---- the four families of sets


@mutant("a quorum is a quorum of groups", GROUPS, CONSTRAINT_3 + LYING)
def groups_quorum_by_number() -> None:
    """Any q servers pass for a quorum, of whatever groups they are."""
    rewrite(Recursive.contains_quorum, ("self.outer.contains_quorum(groups)", "mask.bit_count() >= self.q"))


@mutant("a quorum is a quorum of groups", GROUPS, CONSTRAINT_3 + LYING)
def groups_quorum_of_repairable_groups() -> None:
    """As many groups as are repairable among groups pass for a quorum of them."""
    rewrite(Recursive.contains_quorum, ("self.outer.contains_quorum(", "self.outer.contains_repairable("))


@mutant("a quorum is a quorum of groups with a quorum within each", GROUPS, CONSTRAINT_3 + CRASHING)
def groups_stand_for_their_servers() -> None:
    """One server speaks for its group."""
    rewrite(Recursive.contains_quorum, ("group.contains_quorum(mask >> first & everyone)", "mask >> first & everyone"))


@mutant("a quorum needs no group in which too many have failed", GROUPS, CONSTRAINT_2 + LYING)
def groups_quorum_of_all() -> None:
    """All groups must take part, so that none may be lost."""
    rewrite(
        Recursive.contains_quorum, ("return self.outer.contains_quorum(groups)", "return groups + 1 >> self.outer.n")
    )


@mutant("repairable sets are of repairable groups", GROUPS, CONSTRAINT_4 + LYING)
def groups_repairable_by_number() -> None:
    """Any r servers pass for a repairable set."""
    rewrite(Recursive.contains_repairable, ("self.outer.contains_repairable(groups)", "mask.bit_count() >= self.r"))


@mutant("repairable sets are of repairable groups", GROUPS, CONSTRAINT_4 + CRASHING)
def groups_repairable_by_one_server_each() -> None:
    """One server makes its group one of the repairable ones."""
    rewrite(
        Recursive.contains_repairable,
        ("group.contains_repairable(mask >> first & everyone)", "mask >> first & everyone"),
    )


@mutant("repairable sets are no larger than need be", GROUPS, CONSTRAINT_3 + LYING)
def groups_repairable_like_quorums() -> None:
    """Only a quorum of repairable groups is repairable: what is established may not be seen to be."""
    rewrite(Recursive.contains_repairable, ("self.outer.contains_repairable(", "self.outer.contains_quorum("))


@mutant("a whole group may lie", GROUPS, SITE)
def groups_lie_by_number() -> None:
    """b+1 servers are believed, even those of one malevolent group."""
    rewrite(Recursive.exceeds_malevolent, ("self.outer.exceeds_malevolent(groups)", "mask.bit_count() > self.b"))


@mutant("in each group so many may lie as it tolerates", GROUPS, CONSTRAINT_4 + "[groups-that-differ]", SITE)
def groups_lie_like_they_crash() -> None:
    """Whoever may be faulty may lie: more than a quorum and a repairable set can outvote."""
    rewrite(Recursive.exceeds_malevolent, ("group.exceeds_malevolent(", "group.exceeds_faulty("))


@mutant("a whole group may fail", GROUPS, SITE)
def groups_fail_by_number() -> None:
    """t+1 servers are taken for more than can fail together, even when they are one group."""
    rewrite(Recursive.exceeds_faulty, ("self.outer.exceeds_faulty(groups)", "mask.bit_count() > self.t"))


@mutant("in each group so many may fail as it tolerates", GROUPS, CONSTRAINT_2 + CRASHING)
def groups_never_fail_too_much() -> None:
    """No group counts as lost before all of it has failed."""
    rewrite(
        Recursive.exceeds_faulty,
        ("group.exceeds_faulty(mask >> first & everyone)", "mask >> first & everyone == everyone"),
    )


@mutant(
    "as many groups as the threshold takes", GROUPS, f"{QUORUMS}::test_recursive_systems_that_make_no_sense_are_refused"
)
def groups_of_any_number() -> None:
    """A threshold takes fewer or more groups than its constraints were checked for."""
    rewrite(Recursive.__init__, ("len(groups) != outer.n", "False"))


@mutant("sizes are of the smallest sets", GROUPS, SIZES)
def groups_sizes_of_the_outer_threshold() -> None:
    """A client waits for as many servers as there are groups in a quorum."""
    rewrite(Recursive.__init__, ("_least([group.q for group in groups], outer.q)", "outer.q"))


# ---- views


@mutant("a view has no server to spare", GROUPS, VIEWS)
def groups_views_with_servers_to_spare() -> None:
    """A group of a view may have more servers than a quorum of it."""
    rewrite(Recursive.is_view, ("not group.is_view(part)", "not group.contains_quorum(part)"))


@mutant("a view has no group to spare", GROUPS, VIEWS)
def groups_views_with_groups_to_spare() -> None:
    """A view may have more groups than a quorum of them."""
    rewrite(Recursive.is_view, ("self.outer.is_view(groups)", "self.outer.contains_quorum(groups)"))


@mutant("a view has only servers that there are", GROUPS, VIEWS)
def groups_views_of_unknown_servers() -> None:
    """Bits above the last server go unseen."""
    rewrite(Recursive.is_view, ("mask >> self.n == 0 and ", ""))


@mutant(
    "few views do without any one server",
    GROUPS,
    f"{QUORUMS}::test_few_recursive_views_suffice_to_do_without_any_one_server",
)
def groups_views_of_other_servers_first() -> None:
    """The first views tried have none of the first servers of any group, and differ too little among themselves."""
    rewrite(
        Recursive.views_within,
        ("for differences in range(self.outer.q + 1):", "for differences in range(self.outer.q, -1, -1):"),
    )


# ---- servers counted where the quorum system should be asked


@mutant(
    "the client and replica ask for quorums, not numbers",
    GROUPS,
    f"{RULES}::test_a_record_is_proven_by_a_quorum_of_sites",
)
def proof_by_number() -> None:
    """q servers prove a record."""
    rewrite(
        c.proven,
        (
            "record.kind is not Kind.BARRIER and quorums.contains_quorum(mask)",
            "record.kind is not Kind.BARRIER and mask.bit_count() >= quorums.q",
        ),
    )


@mutant(
    "the client and replica ask for quorums, not numbers",
    GROUPS,
    f"{RULES}::test_a_record_shown_by_one_quorum_alone_is_proven_if_it_is_one",
)
def proof_by_number_of_one_history() -> None:
    """q servers that show one history prove it."""
    rewrite(c.proven, ("quorums.contains_quorum(groups[0][1])", "groups[0][1].bit_count() >= quorums.q"))


@mutant(
    "the client and replica ask who may lie, not how many",
    GROUPS,
    f"{RULES}::test_a_base_is_proven_by_more_sites_than_can_lie",
)
def bases_by_number() -> None:
    """b+1 bases prove a record, even of one malevolent group."""
    rewrite(c.proven, ("if quorums.exceeds_malevolent(mask)", "if mask.bit_count() > quorums.b"))


@mutant(
    "the client and replica ask what is repairable, not how many",
    GROUPS,
    f"{RULES}::test_lines_702_703_a_candidate_is_repairable_by_sites",
)
def candidates_by_number() -> None:
    """r holders make a candidate repairable."""
    rewrite(
        c.classify,
        (
            "record in established or quorums.contains_repairable(mask)",
            "record in established or mask.bit_count() >= quorums.r",
        ),
    )


@mutant(
    "the client and replica ask what is repairable, not how many",
    GROUPS,
    f"{RULES}::test_lines_702_703_a_candidate_is_repairable_by_sites",
)
def barriers_by_number() -> None:
    """r holders make a barrier the object's."""
    rewrite(
        c.classify,
        (
            "record.lt > bar_cand.lt) and quorums.contains_repairable(mask)",
            "record.lt > bar_cand.lt) and mask.bit_count() >= quorums.r",
        ),
    )


@mutant(
    "the client and replica ask for quorums, not numbers",
    GROUPS,
    f"{RULES}::test_lines_707_711_copy_and_method_take_a_quorum_of_sites",
)
def copies_by_number() -> None:
    """q holders of a barrier call for a COPY."""
    rewrite(c.classify, ("quorums.contains_quorum(orders[bar_cand])", "orders[bar_cand].bit_count() >= quorums.q"))


@mutant("a view is a quorum, not a number", GROUPS, f"{RULES}::test_a_view_is_a_quorum_of_sites_with_none_to_spare")
def views_by_number() -> None:
    """Any q histories are a view."""
    rewrite(c.setup_classified, ("quorums.is_view(view.mask)", "view.mask.bit_count() == quorums.q"))


@mutant("answers count by who may lie", GROUPS, f"{RULES}::test_answers_count_by_sites")
def answers_by_number() -> None:
    """b+1 equal answers count, even of one malevolent group."""
    rewrite(a.agreement, ("quorums.exceeds_malevolent(mask)", "mask.bit_count() > quorums.b"))


@mutant("an unanimous answer takes a quorum", GROUPS, f"{RULES}::test_answers_count_by_sites")
def unanimous_by_number() -> None:
    """q equal answers count, of whatever groups."""
    rewrite(a.unanimous_answer, ("not quorums.contains_quorum(servers)", "servers.bit_count() < quorums.q"))


@mutant(
    "an update is done when a quorum has accepted it", GROUPS, f"{RULES}::test_an_update_is_done_at_a_quorum_of_sites"
)
def acceptances_by_number() -> None:
    """q acceptances are enough, of whatever groups."""
    rewrite(
        ur.UpdateRound._outcome,
        ("if quorum(whole) and", "if whole.bit_count() >= self._quorums.q and"),
    )


# ---- whom a client asks


@mutant(
    "preferred servers are a quorum",
    "paper 3.5, preferred quorums",
    f"{CLIENT}::test_a_round_trip_asks_one_quorum_and_no_server_more",
)
def preferred_by_number() -> None:
    """The first q servers are asked, quorum or not."""
    rewrite(
        Recursive.to_ask,
        ("if self.contains_quorum(held | mask_of(first)):", "if held.bit_count() + len(first) >= self.q:"),
    )


@mutant(
    "preferred quorums share the work",
    "paper 3.5, preferred quorums",
    f"{CLIENT}::test_a_round_trip_asks_one_quorum_and_no_server_more",
)
def groups_keep_their_first_servers() -> None:
    """Within its group it is always the same servers that are asked."""
    rewrite(Recursive.rotated, ("group.rotated(turn // count)", "group.rotated(0)"))


@mutant(
    "a silent server is replaced by one of its group",
    "paper 3.5, preferred quorums and probing",
    f"{QUORUMS}::test_another_server_of_the_same_site_takes_a_silent_one_s_place",
)
def replaced_by_anybody() -> None:
    """Servers that are no use alone are asked in a silent one's place."""
    rewrite(Recursive.to_ask, ("if held else order", "if False else order"))


@mutant(
    "servers are asked until a quorum may reply",
    "paper 3.5, preferred quorums and probing",
    f"{CLIENT}::test_a_silent_server_costs_one_request_and_a_silent_group_a_few",
)
def probing_by_number() -> None:
    """One more server for each that is late, of whatever group."""
    rewrite(
        qr.QuorumRpc._ask,
        ("self._quorums.to_ask(prompt, order, phase.wanted - hopeful)", "order[: phase.wanted - hopeful]"),
    )


@mutant(
    "who is doubted leaves a quorum",
    "DESIGN 3, trust; paper 3.5",
    f"{CLIENT}::test_explanations_of_bad_macs_leave_a_quorum",
)
def doubted_by_number() -> None:
    """As many servers may be doubted as a quorum leaves out, whichever they are."""
    rewrite(t._covers, ("quorums.contains_quorum(left)", "left.bit_count() >= quorums.q"))


@mutant("evidence is of a quorum", GROUPS, f"{CLIENT}::test_evidence_grows_from_a_quorum")
def evidence_by_number() -> None:
    """The least suspected q histories are shown, though they may prove nothing."""
    rewrite(
        p.Planner._evidence,
        ("self._quorums.to_ask(0, self._ranked(obj, held), servers)", "self._ranked(obj, held)[:servers]"),
    )
