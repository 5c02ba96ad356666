"""Broken quorums, timestamps, records, proofs and classification: what clients and servers compute alike."""

from qunfs.protocol import classify as c
from qunfs.protocol import history as h
from qunfs.protocol import quorum as q
from tests.mutants.mutant import mutant, rewrite

SIZES = "DESIGN 3, sizes; paper 3.3"
TIMESTAMPS = "DESIGN 3, LogicalTimestamp; paper 3.5, compact timestamps"
RECORDS = "DESIGN 3, record"
PROOF = "DESIGN 3, proof"
CLASSIFY = "DESIGN 3, classify(o); paper Figure 3, 700-712"
SETUP = "DESIGN 3, request and METHOD/BARRIER/COPY; paper Figure 3, s_setup"

CLASSIFYING = "tests/protocol/test_classify.py"
HISTORIES = "tests/protocol/test_history.py"
RULES = "tests/protocol/test_rules_classify.py"
DIGESTS = "tests/protocol/test_rules_digest.py"


# ---- sizes


@mutant("a quorum is q servers", SIZES, f"{CLASSIFYING}::test_line_705_barrier_when_the_latest_is_repairable_only")
def quorum_of_one_less() -> None:
    """q-1 servers pass for a quorum."""
    rewrite(q.ThresholdQuorums.contains_quorum, (">= self.q", ">= self.q - 1"))


@mutant("repairable is order >= r", SIZES, f"{CLASSIFYING}::test_line_705_barrier_when_the_latest_is_incomplete")
def repairable_with_one_less() -> None:
    """r-1 servers pass for a repairable set."""
    rewrite(q.ThresholdQuorums.contains_repairable, (">= self.r", ">= self.r - 1"))


@mutant("b servers may all lie", SIZES, f"{CLASSIFYING}::test_proof_by_base_needs_more_than_can_lie")
def b_servers_are_believed() -> None:
    """b servers pass for more than can lie."""
    rewrite(q.ThresholdQuorums.exceeds_malevolent, ("> self.b", ">= self.b"))


@mutant("constraint (2): q + t <= n", SIZES, f"{RULES}::test_each_constraint_is_checked_for_itself")
def constraint_2_unchecked() -> None:
    """A system whose operations need not complete is taken."""
    rewrite(q.ThresholdQuorums.__init__, ("self.q + self.t > self.n", "False"))


@mutant("constraint (3): 2q - b - n >= r", SIZES, f"{RULES}::test_each_constraint_is_checked_for_itself")
def constraint_3_unchecked() -> None:
    """A system that may lose an established candidate is taken."""
    rewrite(q.ThresholdQuorums.__init__, ("2 * self.q - self.b - self.n < self.r", "False"))


@mutant("constraint (4): q + r - n > b", SIZES, f"{RULES}::test_each_constraint_is_checked_for_itself")
def constraint_4_unchecked() -> None:
    """A system in which an established candidate excludes no other potential one is taken."""
    rewrite(q.ThresholdQuorums.__init__, ("self.q + self.r - self.n <= self.b", "False"))


# ---- timestamps


@mutant("the digest covers the operation", TIMESTAMPS, DIGESTS)
def digest_without_operation() -> None:
    """Two operations under one condition get one timestamp."""
    rewrite(c._outline, ('b"" if request.operation is None else request.operation.wire', 'b""'))


@mutant("the digest covers kind, client and session", TIMESTAMPS, DIGESTS)
def digest_without_header() -> None:
    """Two clients, sessions or kinds of request get one timestamp."""
    rewrite(c._outline, ("request.kind, request.session, ", "0, bytes(16), "))
    rewrite(c._digest, ("request.client.to_bytes", "(0).to_bytes"))


@mutant("the digest covers each view", TIMESTAMPS, DIGESTS)
def digest_without_views() -> None:
    """Requests with different views get one timestamp."""
    rewrite(c._digest, ("in request.views", "in ()"))
    rewrite(c._outline, ("*views", "*[]"))


@mutant("the digest says which servers showed a view", TIMESTAMPS, DIGESTS)
def digest_without_servers() -> None:
    """The same histories of other servers give the same timestamp."""
    rewrite(c._shown, ("(histories.obj, mask, ", "(histories.obj, 0, "))


@mutant("the digest covers the evidence", TIMESTAMPS, DIGESTS)
def digest_without_evidence() -> None:
    """Requests that prove different things get one timestamp."""
    rewrite(c._digest, ("in request.evidence", "in ()"))
    rewrite(c._outline, ("*evidence", "*[]"), ("len(evidence)", "0"))


@mutant("the digest covers lt_co", TIMESTAMPS, DIGESTS)
def digest_without_lt_co() -> None:
    """What the request is conditioned on is not hashed."""
    rewrite(c._digest, ("parts += lt_co", "pass"))


@mutant(
    "time is above the latest of all views",
    TIMESTAMPS,
    f"{CLASSIFYING}::test_one_timestamp_for_all_objects_above_all_of_them",
)
def time_above_one_view_only() -> None:
    """The time of an operation may be below what one of its objects has."""
    rewrite(c.setup_classified, ("1 + max(c.latest.time", "1 + min(c.latest.time"))
    rewrite(c.setup_unanimous, ("if candidate.lt.time > time", "if not time"))


@mutant("a barrier sorts behind versions of its time", TIMESTAMPS, f"{CLASSIFYING}::test_lines_1109_1112_barrier")
def barriers_without_their_bit() -> None:
    """A barrier's timestamp does not say that it is one."""
    rewrite(c.setup_classified, ("int(request.kind is Kind.BARRIER)", "0"))


# ---- records


@mutant("cur of a METHOD is lt_co", RECORDS, f"{HISTORIES}::test_what_follows_from_the_kind")
def method_current_at_its_own_time() -> None:
    """A METHOD is current wherever nothing is later than itself."""
    rewrite(h.method, ("lt, lt_co, wire)", "lt, (lt,) * len(objects), wire)"))


@mutant("cur of a BARRIER is its own time", RECORDS, f"{HISTORIES}::test_what_follows_from_the_kind")
def barrier_current_at_lt_co() -> None:
    """A BARRIER is current only where nothing is later than what it is conditioned on."""
    rewrite(h.barrier, ("(lt,) * len(objects)", "lt_co"))


@mutant("cur of a COPY is the barrier's time", RECORDS, f"{CLASSIFYING}::test_lines_1113_1116_copy")
def copy_current_at_its_own_time() -> None:
    """A COPY is accepted over a barrier that it does not know."""
    rewrite(c._setup_copy, ("(c.bar_cand.lt for c", "(lt for c"))


@mutant(
    "a COPY of a repairable record goes on with its segment",
    RECORDS,
    f"{CLASSIFYING}::test_copy_of_a_repairable_record_goes_on_with_its_segment",
)
def every_copy_starts_a_segment() -> None:
    """A merely repairable source is taken for established."""
    rewrite(c._setup_copy, ("None if is_proven else source", "None"))


@mutant("a continued segment inherits bot", RECORDS, f"{HISTORIES}::test_what_follows_from_the_kind")
def copies_prove_their_source() -> None:
    """A COPY of a merely repairable record claims that the record is established."""
    rewrite(h.copy, ("tuple(continues.bottom(obj) for obj in objects)", "lt_co"))


@mutant(
    "a continued segment inherits src", RECORDS, f"{RULES}::test_a_copy_of_a_copy_belongs_to_the_segment_of_the_first"
)
def copies_forget_their_segment() -> None:
    """Copies of one segment pass for contenders."""
    rewrite(h.copy, ("continues.src", "continues.lt"))


# ---- proof


@mutant("proof by order >= q", PROOF, f"{CLASSIFYING}::test_line_705_barrier_when_the_latest_is_repairable_only")
def proof_by_order_r() -> None:
    """A repairable record counts as proven."""
    rewrite(c.proven, ("contains_quorum(mask):", "contains_repairable(mask):"))


@mutant("proof by b+1 bases", PROOF, f"{CLASSIFYING}::test_proof_by_base_needs_more_than_can_lie")
def proof_by_one_base() -> None:
    """One server's base counts as proven."""
    rewrite(c.proven, ("quorums.exceeds_malevolent(mask)", "mask"))


@mutant("proof by b+1 bases", PROOF, f"{CLASSIFYING}::test_proof_by_base_needs_more_than_can_lie")
def no_proof_by_bases() -> None:
    """What histories were pruned to proves nothing."""
    rewrite(c.proven, ("if quorums.exceeds_malevolent(mask)", "if False"))


@mutant("barriers are never proven", PROOF, f"{CLASSIFYING}::test_barriers_are_never_proven")
def barriers_are_proven() -> None:
    """A barrier in a quorum counts as an established version."""
    rewrite(c.proven, ("for r in groups[0][0].records if r.kind is not Kind.BARRIER", "for r in groups[0][0].records"))


@mutant(
    "a proof on one object holds for the operation",
    PROOF,
    f"{RULES}::test_a_request_may_prove_on_a_sibling_what_it_builds_on",
)
def evidence_ignored() -> None:
    """Only the views prove anything."""
    rewrite(c.setup_classified, ("(*request.views, *request.evidence)", "request.views"))


# ---- classify


@mutant(
    "ObjCand is the greatest of order >= r, or proven",
    CLASSIFY,
    f"{CLASSIFYING}::test_proof_by_base_needs_more_than_can_lie",
)
def proven_is_no_object_candidate() -> None:
    """A record that is proven and in few histories is passed over."""
    rewrite(
        c.classify,
        ("(record in established or quorums.contains_repairable(mask))", "quorums.contains_repairable(mask)"),
    )


@mutant(
    "ObjCand is the greatest of order >= r, or proven",
    CLASSIFY,
    f"{CLASSIFYING}::test_line_705_barrier_when_the_latest_is_incomplete",
)
def anything_is_an_object_candidate() -> None:
    """A record in one history may be the object candidate."""
    rewrite(c.classify, ("(record in established or quorums.contains_repairable(mask))", "True"))


@mutant(
    "METHOD only when ObjCand is proven",
    CLASSIFY,
    f"{CLASSIFYING}::test_line_705_barrier_when_the_latest_is_repairable_only",
)
def method_on_a_repairable_candidate() -> None:
    """A repairable latest candidate calls for a METHOD."""
    rewrite(c.classify, ("latest == obj_cand.lt and obj_cand in established", "latest == obj_cand.lt"))


@mutant(
    "METHOD only when the latest is ObjCand", CLASSIFY, f"{CLASSIFYING}::test_line_710_a_later_barrier_forbids_a_method"
)
def method_below_the_latest() -> None:
    """A proven candidate calls for a METHOD whatever is later."""
    rewrite(c.classify, ("latest == obj_cand.lt and obj_cand in established", "obj_cand in established"))


@mutant("BarCand is of order >= r", CLASSIFY, f"{CLASSIFYING}::test_line_707_the_barrier_must_be_the_latest")
def any_barrier_is_the_barrier_candidate() -> None:
    """A barrier in one history may be the barrier candidate."""
    rewrite(c.classify, (" and quorums.contains_repairable(mask):", ":"))


@mutant(
    "COPY only at a barrier of order >= q", CLASSIFY, f"{CLASSIFYING}::test_line_707_a_repairable_barrier_is_not_enough"
)
def copy_at_a_repairable_barrier() -> None:
    """A repairable barrier is enough to copy."""
    rewrite(c.classify, ("contains_quorum(orders[bar_cand])", "contains_repairable(orders[bar_cand])"))


@mutant(
    "COPY only when the latest is BarCand",
    CLASSIFY,
    f"{RULES}::test_line_707_an_established_barrier_below_the_latest_is_no_ground_to_copy",
)
def copy_below_the_latest() -> None:
    """A barrier in a quorum is enough to copy, whatever is later."""
    rewrite(c.classify, ("latest == bar_cand.lt and ", ""))


# ---- what a request may be


@mutant(
    "exactly q histories in a view",
    SETUP,
    f"{CLASSIFYING}::test_a_view_is_exactly_a_quorum_or_nothing_at_the_initial_version",
)
def views_of_any_size() -> None:
    """A view may show fewer or more than q histories."""
    rewrite(
        c.setup_classified,
        ("if not (quorums.is_view(view.mask) or (view.mask == 0 and request.kind is Kind.METHOD)):", "if False:"),
    )


@mutant(
    "exactly q histories in a view",
    SETUP,
    f"{CLASSIFYING}::test_a_view_is_exactly_a_quorum_or_nothing_at_the_initial_version",
)
def views_of_more_than_a_quorum() -> None:
    """A view may show more than q histories."""
    rewrite(q.ThresholdQuorums.is_view, ("== self.q", ">= self.q"))


@mutant(
    "only a METHOD goes without histories",
    SETUP,
    f"{CLASSIFYING}::test_a_view_is_exactly_a_quorum_or_nothing_at_the_initial_version",
)
def empty_views_for_repairs() -> None:
    """A BARRIER or COPY need show nothing either."""
    rewrite(c.setup_classified, ("(view.mask == 0 and request.kind is Kind.METHOD)", "view.mask == 0"))


@mutant(
    "METHOD if every object classifies METHOD", SETUP, f"{RULES}::test_every_object_of_a_request_calls_for_its_kind"
)
def method_if_one_object_calls_for_it() -> None:
    """One object that is ready carries the others."""
    rewrite(c.setup_classified, ("kinds == {Kind.METHOD}", "Kind.METHOD in kinds"))


@mutant("BARRIER if no object classifies METHOD", SETUP, f"{RULES}::test_every_object_of_a_request_calls_for_its_kind")
def barriers_on_healthy_objects() -> None:
    """A barrier may be put on an object that is ready."""
    rewrite(
        c.setup_classified,
        ("request.kind is Kind.BARRIER and Kind.METHOD not in kinds", "request.kind is Kind.BARRIER"),
    )


@mutant("COPY if every object classifies COPY", SETUP, f"{RULES}::test_a_joint_copy_needs_a_barrier_on_every_object")
def copy_if_one_object_calls_for_it() -> None:
    """One object under a barrier carries the others."""
    rewrite(c.setup_classified, ("kinds == {Kind.COPY}", "Kind.COPY in kinds"))


@mutant("a joint COPY copies one record", SETUP, f"{CLASSIFYING}::test_a_joint_copy_copies_one_record")
def joint_copy_of_different_records() -> None:
    """The objects of a COPY need not agree on what is copied."""
    rewrite(c._setup_copy, ("if any(c.obj_cand != source for c in classes):", "if False:"))


@mutant(
    "a repairable record is copied on all its objects",
    SETUP,
    f"{CLASSIFYING}::test_a_repairable_record_of_several_objects_is_copied_on_all_of_them",
)
def repairable_record_copied_on_one_object() -> None:
    """A COPY of a joint record that may not be established leaves its siblings out."""
    rewrite(c._setup_copy, ("(is_proven or len(source.objects) <= 1)", "True"))


@mutant("the short way is no other rule", SETUP, f"{RULES}::test_a_view_of_one_history_needs_a_quorum_too")
def unanimous_below_a_quorum() -> None:
    """A view of one history need not be a quorum's."""
    rewrite(c.setup_unanimous, (" or not quorums.is_view(mask)", ""))
