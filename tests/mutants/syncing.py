"""Broken fetching from peers: object sync and vouched adoption."""

from qunfs.protocol import replica as r
from qunfs.protocol import sync as y
from tests.mutants.mutant import mutant, rewrite

SYNC = "DESIGN 3, object sync; paper 3.5, retrieving object versions"
ADOPTION = "DESIGN 3, inline repair is vouched adoption; paper 3.5, inline repair"

SYNCING = "tests/protocol/test_sync.py"
RULES = "tests/protocol/test_rules_adoption.py"


@mutant(
    "b+1 hosts must match", SYNC, f"{SYNCING}::test_one_host_is_not_believed", f"{SYNCING}::test_one_host_cannot_vouch"
)
def one_host_is_believed() -> None:
    """The first host to reply settles what a version is and who vouches."""
    rewrite(y.Synchroniser._count, ("return self._quorums.exceeds_malevolent(job.votes[vote])", "return True"))


@mutant("one host counts once", SYNC, f"{RULES}::test_one_host_that_replies_twice_is_one")
def one_host_counts_twice() -> None:
    """A host that replies twice to one question is two hosts."""
    rewrite(
        y.Synchroniser.on_reply,
        (
            "del self._numbers[number]",
            "server = next(s for s in range(9) if not any(v >> s & 1 for v in job.votes.values()))",
        ),
    )


@mutant(
    "replies count from whom they were asked", SYNC, f"{SYNCING}::test_replies_count_only_from_whom_they_were_asked"
)
def replies_of_anybody_count() -> None:
    """Another server may reply in a host's place."""
    rewrite(y.Synchroniser.on_reply, (" or asked != server", ""))


@mutant(
    "each chunk is agreed on", SYNC, f"{RULES}::test_a_late_difference_from_one_version_is_no_vote_on_that_from_another"
)
def late_replies_count() -> None:
    """A reply to the question before is a vote on the next."""
    rewrite(y.Synchroniser._ask_anew, ("self._forget_numbers(job)", "pass"))


@mutant("the rows are what was agreed on", SYNC, f"{RULES}::test_rows_that_do_not_match_the_digest_are_no_vote_for_it")
def rows_unchecked() -> None:
    """A host's rows count for the digest that it claims they have."""
    rewrite(y.Synchroniser._on_chunk, ("vote = rows_digest(reply.rows, reply.more)", "vote = reply.digest"))


@mutant(
    "more hosts are asked until they match", SYNC, f"{SYNCING}::test_silent_hosts_are_replaced_and_at_last_given_up"
)
def hosts_are_not_replaced() -> None:
    """A silent host keeps a sync from ending."""
    rewrite(y.Synchroniser.tick, ("if now >= deadline", "if False"))


@mutant("the request again from the start", SYNC, f"{RULES}::test_currentness_is_checked_again_after_a_sync")
def parked_requests_are_not_judged_again() -> None:
    """What was current before a sync passes for current after it."""
    rewrite(
        r.Replica._adopt,
        ("if not _is_current(record, own):", "if record.lt not in self._vouched and not _is_current(record, own):"),
    )


@mutant("adoption only where latest <= cur", ADOPTION, f"{RULES}::test_no_adoption_over_something_later")
def adoption_anywhere() -> None:
    """A record is adopted over anything later."""
    rewrite(r.Replica._adopt, ("if not _is_current(record, own):", "if False:"))


@mutant("b+1 vouch", ADOPTION, f"{RULES}::test_what_nobody_holds_is_not_adopted")
def adoption_on_the_client_s_word() -> None:
    """A client's record is adopted with whatever contents can be had."""
    rewrite(
        r.Replica._adopt,
        (
            "return self._park("
            "origin, payload, [self._sync.want_vouched(record, message.hosts, now, origin.principal)])",
            "known = (record, b'?'); self._vouched[record.lt] = known",
        ),
    )


FAIR = f"{RULES}::test_one_client_does_not_take_what_others_need_to_adopt"


@mutant("of one client no more than is left for all others", ADOPTION, FAIR)
def syncs_for_whoever_comes_first() -> None:
    """One client may have all object syncs under way that a replica allows."""
    share = "self._jobs_of[job.asker] >= self._limits.sync_jobs_max - len(self._jobs)"
    rewrite(y.Synchroniser._begin, (share, "len(self._jobs) >= self._limits.sync_jobs_max"))


@mutant("of one client no more than is left for all others", ADOPTION, FAIR)
def parking_for_whoever_comes_first() -> None:
    """One client may have all requests parked that a replica allows."""
    rewrite(r.Replica._park, ("self._parked_of[origin.principal] >= free", "free <= 0"))


@mutant("they vouch identically", ADOPTION, f"{SYNCING}::test_vouchers_must_agree_on_record_and_answer")
def vouching_for_any_record() -> None:
    """Whoever holds some record at that time vouches for this one."""
    rewrite(y.Synchroniser._on_vouched, ("reply.record == job.record.wire", "reply.record != b''"))


@mutant("they vouch identically", ADOPTION, f"{SYNCING}::test_vouchers_must_agree_on_record_and_answer")
def vouching_for_any_answer() -> None:
    """Vouchers need not agree on the answer."""
    rewrite(y.Synchroniser._on_vouched, ('b"+" + reply.answer)', 'b"+")'))


@mutant(
    "hosts that lack a record settle nothing",
    ADOPTION,
    f"{SYNCING}::test_hosts_that_lack_a_record_keep_nobody_from_vouching",
)
def hosts_without_the_record_count() -> None:
    """Replies of hosts that lack the record keep others from being asked."""
    rewrite(y.Synchroniser._ask_enough, ("[vote for vote in job.votes if vote != _NOT_VOUCHED]", "list(job.votes)"))


@mutant("all its objects together", ADOPTION, f"{RULES}::test_who_lacks_a_record_on_a_sibling_does_not_vouch")
def vouching_on_one_object() -> None:
    """A server vouches for what it has removed from a sibling."""
    rewrite(r.Replica._vouch, (" or not _is_in_all(record, self._own(record))", ""))


@mutant("only who ran a method knows its answer", ADOPTION, f"{RULES}::test_who_has_not_run_a_method_does_not_vouch")
def vouching_without_an_answer() -> None:
    """A server that holds a METHOD's version by sync vouches for an empty answer."""
    rewrite(r.Replica._vouch, ("if record.kind is Kind.METHOD and not answer:", "if False:"))


@mutant("record, contents and answer", ADOPTION, f"{RULES}::test_an_adopted_version_has_its_contents_on_every_object")
def adoption_without_contents() -> None:
    """Contents are fetched for the first object only."""
    rewrite(r.Replica._adopt, ("for obj in record.objects if not", "for obj in record.objects[:1] if not"))


@mutant(
    "conditioned-on versions that are missing are synced",
    SYNC,
    f"{RULES}::test_a_server_that_missed_a_version_fetches_it",
)
def missing_versions_are_not_fetched() -> None:
    """A server that misses a version leaves the client waiting for it."""
    rewrite(
        r.Replica._park_for_versions,
        ("hosts |= mask if history.find(target) is not None else 0", "return UpdateReply(Status.BUSY)"),
    )
