"""Broken queries: what makes an answer count."""

from qunfs.protocol import answering as an
from qunfs.protocol import fetching as fe
from qunfs.protocol import querying as qy
from tests.mutants.mutant import mutant, rewrite

QUERIES = "DESIGN 3, queries; model/sq.py"
SNAPSHOTS = "DESIGN 3, queries (multi-object snapshot)"

ANSWERING = "tests/protocol/test_answering.py"
QUERYING = "tests/protocol/test_querying.py"
RULES = "tests/protocol/test_rules_queries.py"


@mutant("a version counts when proven", QUERIES, f"{ANSWERING}::test_a_later_repairable_version_does")
def unproven_versions_are_read() -> None:
    """The newest version counts, proven or not."""
    rewrite(
        an.newest_established,
        ("(r for r in orders if r in established)", "(r for r in orders if r.kind is not Kind.BARRIER)"),
    )


@mutant("evidence included", QUERIES, f"{RULES}::test_a_version_proven_on_a_sibling_counts")
def queries_without_evidence() -> None:
    """Only the replies themselves prove a version."""
    rewrite(an.newest_established, ("proven(quorums, (everything, *evidence))", "proven(quorums, (everything,))"))


@mutant("(i) later histories with d", QUERIES, f"{ANSWERING}::test_a_later_repairable_version_does")
def later_versions_do_not_matter() -> None:
    """A later version that may be established is not looked at."""
    rewrite(
        an.newest_established, ("contains_repairable((mask | beyond) & view)", "contains_repairable(beyond & view)")
    )


@mutant("(i) and histories whose base is later", QUERIES, f"{ANSWERING}::test_pruning_must_not_hide_a_version")
def pruning_hides_versions() -> None:
    """Histories that have been pruned past a version do not count as its holders."""
    rewrite(
        an.newest_established,
        ("contains_repairable((mask | beyond) & view)", "contains_repairable(mask & view)"),
    )


@mutant(
    "(ii) later bases alone are fewer than r",
    QUERIES,
    f"{ANSWERING}",
    superfluous=(
        "a base is no barrier, so that a later base is itself a later record d, and the histories with d and those "
        "whose base is later together are already fewer than r by part (i)"
    ),
)
def later_bases_alone_do_not_matter() -> None:
    """Part (ii) of the rule is left out."""
    rewrite(an.newest_established, (" or quorums.contains_repairable(beyond & view)", ""))


@mutant("later barriers do not matter", QUERIES, f"{ANSWERING}::test_later_barriers_do_not_matter")
def later_barriers_matter() -> None:
    """A barrier keeps a query waiting."""
    rewrite(an.newest_established, ("r.lt > newest.lt and r.kind is not Kind.BARRIER", "r.lt > newest.lt"))


@mutant("c is held by b+1 of V", QUERIES, f"{RULES}::test_a_version_that_one_of_the_quorum_holds_does_not_count")
def versions_need_no_holder() -> None:
    """A version that nobody of the quorum need hold counts."""
    rewrite(an.newest_established, ("not quorums.exceeds_malevolent(holders & view) or ", ""))


@mutant("in some q-subset V", QUERIES, f"{RULES}::test_fewer_than_a_quorum_settle_nothing_however_much_they_agree")
def fewer_replies_than_a_quorum() -> None:
    """Replies of fewer than a quorum settle an answer."""
    rewrite(an.judge, ("not quorums.contains_quorum(mask_of(list(replies)))", "False"))
    rewrite(
        an.newest_established,
        ("for view in quorums.views_within(servers, views_max):", "for view in [mask_of(servers[:5])]:"),
    )


@mutant(
    "the doubtful are left out of V",
    QUERIES,
    f"{ANSWERING}::test_a_reader_that_looks_at_more_replies_leaves_the_doubtful_out",
)
def one_view_of_all_replies() -> None:
    """All replies are judged together and no quorum of them."""
    rewrite(
        an.newest_established,
        ("for view in quorums.views_within(servers, views_max):", "for view in [mask_of(servers)]:"),
    )


@mutant("b+1 identical answers", QUERIES, f"{ANSWERING}::test_answers_count_when_more_agree_than_can_lie")
def one_answer_counts() -> None:
    """The first answer counts."""
    rewrite(an.agreement, ("if quorums.exceeds_malevolent(mask):", "if True:"))


@mutant("answers computed at c", QUERIES, f"{ANSWERING}::test_answers_at_other_versions_do_not_count")
def answers_at_any_version_count() -> None:
    """Answers computed at other versions count."""
    rewrite(an.judge, ("for s, f in replies.items() if f.lt == record.lt", "for s, f in replies.items()"))


@mutant("the short way needs a quorum", QUERIES, f"{RULES}::test_the_short_way_to_an_answer_is_no_other_rule")
def unanimity_of_a_few() -> None:
    """Any number of equal replies is an answer."""
    rewrite(an.unanimous_answer, (" or not quorums.contains_quorum(servers)", ""))


@mutant(
    "the short way needs answers at the heads", QUERIES, f"{RULES}::test_the_short_way_to_an_answer_is_no_other_rule"
)
def unanimity_at_old_versions() -> None:
    """Equal replies at a version that is not the head are an answer."""
    rewrite(an.unanimous_answer, ("if fresh.lt != fresh.history.head.lt:", "if False:"))


@mutant(
    "each object later than none in the same replies",
    SNAPSHOTS,
    f"{RULES}::test_a_snapshot_is_not_joint_where_something_later_is_repairable",
    f"{ANSWERING}::test_no_snapshot_while_an_object_is_unsettled",
)
def snapshots_of_unsettled_objects() -> None:
    """An object that is not settled is read at the initial version."""
    rewrite(
        an.newest_snapshot,
        (
            "if record is None:\n            return None",
            "if record is None:\n            record = histories[min(histories)].base",
        ),
    )


@mutant(
    "one quorum holds all versions",
    SNAPSHOTS,
    f"{ANSWERING}::test_versions_that_no_quorum_holds_together_need_a_second_read",
)
def every_snapshot_is_joint() -> None:
    """Versions that were each the newest at some time pass for a snapshot."""
    rewrite(an.newest_snapshot, ("joint=False", "joint=True"))


@mutant(
    "two successive reads with the same versions",
    SNAPSHOTS,
    f"{RULES}::test_versions_that_no_quorum_holds_together_are_read_twice",
)
def one_read_is_a_snapshot() -> None:
    """One joint read is believed."""
    rewrite(
        qy.QueryRound._joint_judgement,
        ("not (snapshot.joint or snapshot.versions == self._seen_before[index])", "False"),
    )


@mutant(
    "two successive reads with the same versions",
    SNAPSHOTS,
    f"{RULES}::test_versions_that_no_quorum_holds_together_are_read_twice",
)
def no_second_read_settles() -> None:
    """A second joint read settles nothing."""
    rewrite(qy.QueryRound._joint_judgement, (" or snapshot.versions == self._seen_before[index]", ""))


@mutant(
    "later non-barriers each fewer than r in the same replies",
    SNAPSHOTS,
    f"{RULES}::test_a_snapshot_is_not_joint_where_something_later_is_repairable",
)
def later_versions_in_a_snapshot() -> None:
    """A quorum that holds all versions is enough, whatever is later in it."""
    rewrite(an.newest_snapshot, ("if not any(quorums.contains_repairable(mask & view) for mask in later):", "if True:"))


@mutant(
    "large answers must match the digest",
    QUERIES,
    f"{QUERYING}::test_when_the_long_answer_is_a_lie_everybody_is_asked_for_it_next",
)
def long_answers_unchecked() -> None:
    """The one server that sends an answer whole is believed."""
    rewrite(
        qy.QueryRound._settle,
        (
            "whole[answer_digest(answer)] = answer\n                answer = answer_digest(answer)",
            "for a in self.alike:\n                    whole[a.reply.results[index].answer] = answer\n"
            "                answer = answer_digest(answer)",
        ),
    )


@mutant(
    "a query that cannot be answered is repaired",
    QUERIES,
    f"{QUERYING}::test_a_query_that_wants_all_answers_whole_is_repaired_too",
)
def no_repair_once_answers_are_wanted_whole() -> None:
    """Once everybody is asked for long answers nothing is repaired any more."""
    rewrite(fe._fetch, ("(not item.everyone_whole or item in asked_for_all)", "not item.everyone_whole"))
