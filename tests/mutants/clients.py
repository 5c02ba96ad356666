"""Broken clients: what counts as done, repairs, and what is shown to servers."""

from qunfs.protocol import client as cl
from qunfs.protocol import history_cache as hc
from qunfs.protocol import planning as pl
from qunfs.protocol import quorum_rpc as qr
from qunfs.protocol import repairing as rp
from qunfs.protocol import trust as tr
from qunfs.protocol import update_round as ur
from qunfs.protocol import updating as up
from tests.mutants.mutant import become, mutant, rewrite

ACCEPTED = "DESIGN 3, client; paper Figure 3, c_increment"
ANSWERED = "DESIGN 3, a failing method counts with q servers and b+1 answers"
CLIENT = "DESIGN 3, client"
REPAIR = "DESIGN 3, client (repair); paper 3.4"
CACHE = "DESIGN 3, authenticators (bad MACs)"

RULES = "tests/protocol/test_rules_client.py"
PLANS = "tests/protocol/test_rules_planning.py"
SCENARIOS = "tests/protocol/test_scenarios.py"


@mutant("done when a quorum has accepted", ACCEPTED, f"{RULES}::test_an_update_is_done_when_a_quorum_has_accepted_it")
def done_when_repairable() -> None:
    """r acceptances are enough."""
    rewrite(ur.UpdateRound._outcome, ("if quorum(whole) and", "if self._quorums.contains_repairable(whole) and"))


@mutant("b+1 identical answers", ACCEPTED, f"{RULES}::test_an_answer_counts_when_more_gave_it_than_can_lie")
def one_server_answers_an_update() -> None:
    """The first answer to an update counts."""
    rewrite(ur.UpdateRound._outcome, ("quorum(whole) and self._quorums.exceeds_malevolent(mask)", "quorum(whole)"))


@mutant(
    "an acceptance counts only when shown",
    ACCEPTED,
    f"{RULES}::test_an_acceptance_counts_only_when_its_histories_show_it",
)
def acceptances_unseen() -> None:
    """A server that says so has accepted, whatever it shows."""
    become(ur._shows, lambda shown, candidate: True)


@mutant(
    "an acceptance without an answer is no answer",
    ACCEPTED,
    f"{RULES}::test_acceptances_without_an_answer_count_and_settle_no_answer",
)
def empty_answers_count() -> None:
    """Servers that hold a version by sync answer for the method."""
    rewrite(ur.UpdateRound.judge, ("if self._answer_needed and", "if False and"))


@mutant("accepted and answered do not add up", ANSWERED, f"{RULES}::test_acceptances_and_answers_do_not_add_up")
def accepted_and_answered_add_up() -> None:
    """A quorum half of which ran the method without effect is enough."""
    rewrite(ur.UpdateRound._outcome, ("accepted if status is Status.ACCEPTED else answered", "accepted | answered"))


@mutant(
    "the same sequence at every re-issue",
    "DESIGN 3, exactly once",
    f"{RULES}::test_a_reissue_has_the_same_sequence_and_home",
)
def reissues_get_a_new_sequence() -> None:
    """A re-issued update is another one."""
    rewrite(
        up._stamp, ("home, session, sequence\n", "home, session, means.sequence * 1000 + means.counters['retries']\n")
    )


@mutant("more servers than can lie must refuse", CLIENT, f"{RULES}::test_one_server_s_refusal_does_not_fail_an_update")
def one_refusal_is_enough() -> None:
    """One server's refusal fails an operation."""
    rewrite(up._raise_refusals, ("if means.quorums.exceeds_malevolent(mask):", "if True:"))


@mutant(
    "a TIME refusal is stamped anew, same sequence",
    "DESIGN 6, client time",
    f"{RULES}::test_an_update_refused_by_the_clock_is_stamped_anew",
)
def clocks_are_not_read_again() -> None:
    """An operation with a bad time is sent again as it is."""
    rewrite(up.update, ("operation = _stamp(means, call, ids, types, operation.sequence)", "pass"))


# ---- what is shown


@mutant("a history with a bad MAC is forgotten", CACHE, f"{RULES}::test_a_history_with_a_bad_mac_is_forgotten")
def bad_macs_are_kept() -> None:
    """A liar locks a bad vector in behind "unchanged" replies."""
    rewrite(hc.HistoryCache.culled, ("if obj in self._objects:", "if False:"))


@mutant("whose histories are refused is shown last", CACHE, f"{RULES}::test_a_history_with_a_bad_mac_is_forgotten")
def nobody_is_suspected() -> None:
    """Who is complained about is shown as before."""
    become(tr.Trust.accuse, lambda self, issuer, reporter: None)


@mutant(
    "who issued bad MACs to more than can lie is left out",
    CACHE,
    f"{RULES}::test_who_issued_bad_macs_to_more_than_can_lie_is_left_out",
)
def nobody_is_left_out() -> None:
    """A server that is known to be malevolent is shown."""
    rewrite(tr.Trust.left_out, ("self._quorums.exceeds_malevolent(self._reporters.get(server, 0))", "False"))


@mutant(
    "suspected servers' views come last",
    REPAIR,
    f"{SCENARIOS}::test_bad_macs_for_some_servers_hold_nobody_up",
    quick=False,
)
def suspicion_has_no_effect() -> None:
    """Views are tried in one order whatever happened."""
    rewrite(
        tr.Trust._preference,
        ("(self.suspicion.get(s, 0), s not in self._reachable)", "0"),
        ("if not self.left_out(s)", "if True"),
    )
    rewrite(
        tr.Trust.left_out,
        ("server in self._doubted or self._quorums.exceeds_malevolent(self._reporters.get(server, 0))", "False"),
    )


@mutant(
    "a history without MACs is asked for again",
    "DESIGN 3, queries (unchanged)",
    f"{RULES}::test_what_a_client_says_that_it_holds",
)
def claims_without_macs() -> None:
    """A client says that it holds a history whose MACs it lacks, and never gets them."""
    rewrite(hc.to_claim, ("None if want_auth and not one.vectors else one.history", "one.history"))


@mutant(
    "a later reply takes the place of an earlier",
    "DESIGN 3, client (caches)",
    f"{RULES}::test_what_a_client_says_that_it_holds",
)
def old_histories_stay() -> None:
    """A server is in two histories at once."""
    rewrite(hc._without, ("one.servers &= ~servers", "pass"))


# ---- repair


@mutant("greatest ObjCand first", REPAIR, PLANS)
def least_candidate_first() -> None:
    """A repair begins at the oldest candidate."""
    rewrite(pl._Search.unready, (", reverse=True", ""))


@mutant("c.objects if c is multi-object and not proven", REPAIR, PLANS)
def joint_records_repaired_on_one_object() -> None:
    """A barrier is put on one object of a joint record."""
    rewrite(pl.Planner._step, ("if len(source.objects) > 1 and source not in search.established:", "if False:"))


@mutant("a joint record that a sibling disagrees on waits", REPAIR, PLANS)
def disagreeing_siblings_are_repaired_along() -> None:
    """A joint repair goes on though a sibling has another candidate."""
    rewrite(
        pl.Planner._step,
        ("if any(search.classes[index][sibling].obj_cand != source for sibling in group):", "if False:"),
    )


@mutant("inline repair if c is the latest everywhere in G", REPAIR, PLANS)
def inline_repair_below_the_latest() -> None:
    """Adoption is asked for where something later keeps servers from it."""
    rewrite(
        pl.Planner._step, ("latest = all(search.classes[index][o].latest == source.lt for o in group)", "latest = True")
    )


@mutant("inline repair if c is the latest everywhere in G", REPAIR, PLANS)
def no_inline_repair() -> None:
    """Every repair takes a barrier and a copy."""
    rewrite(pl.Planner._step, ("source if latest else None", "None"))


@mutant("BARRIER for those that are neither ready nor to be copied", REPAIR, PLANS)
def barriers_again_and_again() -> None:
    """Objects that are under a barrier get another."""
    rewrite(pl._Search.needs_barrier, (" and self._copy_view(obj, source) is None", ""))
    rewrite(pl._Search.copies, ("return views if len(views) == len(group) else None", "return None"))


@mutant("go by fresh histories when METHODs come to nothing", "protocol/updating.py", SCENARIOS)
def old_histories_for_ever() -> None:
    """A METHOD that one server cannot take is sent for ever, because of what a server that is down once showed."""
    rewrite(up.update, ("among = phase.replied if", "among = EVERYONE if"))


@mutant("go by fresh histories when METHODs come to nothing", "protocol/updating.py", SCENARIOS)
def old_histories_in_repairs() -> None:
    """A repair finds nothing to do for the same reason."""
    rewrite(rp.repair, ("read.replied if afresh and turn == 0 else EVERYONE", "EVERYONE"))


@mutant("rotate among plans", REPAIR, PLANS)
def one_plan_only() -> None:
    """The first plan is tried for ever."""
    rewrite(pl.Planner._step, ("barriers[turn % len(barriers)]", "barriers[0]"))


@mutant("rotate among plans", REPAIR, PLANS)
def inline_repair_for_ever() -> None:
    """A liar that claims to hold a record has it adopted for ever."""
    rewrite(pl.Planner._step, (" and turn % 3 != 2", ""))


@mutant("siblings that a repair needs are read", REPAIR, PLANS)
def siblings_are_not_read() -> None:
    """A joint record is given up when a sibling's histories are not at hand."""
    rewrite(pl.Planner._step, ("if more:", "if False:"))


@mutant("proofs pool over all replies", REPAIR, PLANS)
def proofs_of_one_view_only() -> None:
    """A proof counts only in the view that shows it."""
    rewrite(
        pl.Planner.searched_views,
        (
            "proven(self._quorums, self._evidence(self._related(objects), self._quorums.n))",
            "proven(self._quorums, first)",
        ),
    )


@mutant("no more evidence than is needed", "protocol/planning.py", PLANS)
def all_evidence_always() -> None:
    """One history with a bad MAC has every repair refused."""
    rewrite(pl.Planner._growing_evidence, ("    yield ()\n", "    yield self._evidence(objects, n)\n"))


# ---- waiting


@mutant("a client never contends with itself", CLIENT, f"{RULES}::test_updates_of_one_object_queue_up")
def no_queues() -> None:
    """Updates of one client race for an object."""
    become(cl.Client._enter_queues, lambda self, work, objects: True)


@mutant(
    "buffers before an operation starts",
    "DESIGN 3, client; second paper, FIRST and LAST",
    f"{RULES}::test_an_operation_waits_for_n_buffers",
)
def no_buffers() -> None:
    """Any number of operations is under way."""
    rewrite(cl.Client._settle, ("self._for_buffers and self._buffers >= n", "self._for_buffers"))


@mutant(
    "buffers come back",
    "DESIGN 3, client; second paper, FIRST and LAST",
    f"{RULES}::test_an_operation_waits_for_n_buffers",
)
def buffers_are_lost() -> None:
    """A client stops when its buffers are used up."""
    rewrite(cl.Client._end, ("self._buffers += self._quorums.n", "pass"))


@mutant("silent servers are resent to", CLIENT, f"{RULES}::test_silent_servers_are_asked_again_and_others_too")
def silent_servers_are_dropped() -> None:
    """A request that was lost is not sent again."""
    become(qr.QuorumRpc._resend, lambda self, phase, now: setattr(phase, "resend_at", now + 1e9))


@mutant(
    "further servers are probed when replies are late",
    CLIENT,
    f"{RULES}::test_silent_servers_are_asked_again_and_others_too",
)
def no_probing() -> None:
    """A silent server of the preferred quorum holds an operation up."""
    become(qr.QuorumRpc._probe, lambda self, phase, now: setattr(phase, "probe_at", now + 1e9))
