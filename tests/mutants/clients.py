"""Broken clients: what counts as done, repairs, and what is shown to servers."""

from qunfs.nfs import calls
from qunfs.protocol import client as cl
from qunfs.protocol import evidence as ev
from qunfs.protocol import fetching as fe
from qunfs.protocol import history_cache as hc
from qunfs.protocol import planning as pl
from qunfs.protocol import querying as qy
from qunfs.protocol import quorum_rpc as qr
from qunfs.protocol import repairing as rp
from qunfs.protocol import sync as sy
from qunfs.protocol import trust as tr
from qunfs.protocol import update_round as ur
from qunfs.protocol import updating as up
from tests.mutants.mutant import become, mutant, rewrite

ACCEPTED = "DESIGN 3, client; paper Figure 3, c_increment"
ANSWERED = "DESIGN 3, a failing method counts with q servers and b+1 answers"
CLIENT = "DESIGN 3, client"
REPAIR = "DESIGN 3, client (repair); paper 3.4"
CACHE = "DESIGN 3, authenticators (bad MACs)"
EVIDENCE = "docs/protocol.md, evidence"

PLACES = "docs/protocol.md, whom updates are sent to"
TIMES = "docs/protocol.md, the bound on time"
PARDON = "docs/decisions/0003"

RULES = "tests/protocol/test_rules_client.py"
CLOCKS = "tests/protocol/test_rules_clocks.py"
TRUST = "tests/protocol/test_trust.py"
PLANS = "tests/protocol/test_rules_planning.py"
SCENARIOS = "tests/protocol/test_scenarios.py"
PLACING = "tests/nfs/test_placing.py"
FINDINGS = "tests/protocol/test_evidence.py"


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
    rewrite(hc.HistoryCache.forget, ("if obj in self._objects:", "if False:"))


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
    "who was left out is shown again when nothing else helps",
    "docs/decisions/0003",
    "tests/protocol/test_trust.py::test_who_was_left_out_is_tried_again_when_nothing_helps",
)
def left_out_for_good() -> None:
    """Correct servers that were accused because clocks differ stay left out."""
    rewrite(tr.Trust.reconsider, ("self._reporters.clear()", "pass"))


@mutant(
    "doubts that do not help are dropped",
    "docs/decisions/0003",
    "tests/protocol/test_trust.py::test_doubts_that_do_not_help_are_dropped",
)
def doubted_for_good() -> None:
    """What explains all complaints is believed whatever comes of it."""
    rewrite(tr.Trust.reconsider, ("self._explained, self._futile, self._explanations = 0, 0, [()]", "pass"))


@mutant(
    "times are held against nobody",
    TIMES,
    f"{RULES}::test_a_time_that_is_too_late_for_a_server_is_held_against_nobody",
)
def times_are_accusations() -> None:
    """Who issued what is too late for a server's clock is suspected, and so is that server."""
    rewrite(ur._note_complaints, ("if not late and trust", "if trust"))


@mutant(
    "what slow clocks may refuse is shown last",
    TIMES,
    f"{CLOCKS}::test_what_slow_clocks_may_refuse_is_not_shown_when_there_is_another_quorum",
)
def late_times_are_shown() -> None:
    """Servers whose clocks are fast are led on to times that others refuse."""
    rewrite(tr.Trust.without_late, ("if not late:", "if True:"))


@mutant(
    "what slow clocks may refuse is shown last",
    TIMES,
    f"{CLOCKS}::test_a_late_history_is_shown_when_there_is_no_other_way",
)
def late_times_are_never_shown() -> None:
    """A correct server that has accepted something late is never heard."""
    rewrite(tr._Late.failed, ("self.dropped -= 1", "pass"))


@mutant(
    "what slow clocks may refuse is shown last",
    TIMES,
    f"{CLOCKS}::test_a_late_history_is_shown_when_there_is_no_other_way",
)
def late_times_are_never_shown_to_methods() -> None:
    """The same, as long as all others call for a METHOD."""
    rewrite(up.update, ("if means.trust.met_late:", "if False:"))


@mutant(
    "each turn of doing without late times is longer",
    TIMES,
    f"{CLOCKS}::test_a_clock_that_goes_before_others_holds_an_object_up_for_that_long",
    f"{CLOCKS}::test_each_number_of_histories_to_do_without_gets_time_enough",
)
def late_times_are_shown_ever_so_often() -> None:
    """A liar leads the fast clock on before the slow one has caught up, again and again."""
    rewrite(tr._Late.failed, ("patience << min(self._turns, _DOUBLINGS_MAX)", "patience"))


@mutant(
    "who goes by histories of now need not pause",
    "docs/protocol.md, pauses",
    "tests/protocol/test_paper.py::test_section_3_5_whoever_pauses_is_not_beaten_by_each_pause",
)
def a_pause_before_each_try() -> None:
    """An update goes by histories as old as its pauses, and those that need not wait keep it off for ever."""
    rewrite(up.update, ("not (ahead and paused)", "True"))


@mutant(
    "who goes by histories of now need not pause",
    "docs/protocol.md, pauses",
    "tests/protocol/test_paper.py::test_section_3_5_overloaded_servers_are_asked_after_pauses",
)
def overload_is_no_reason_to_pause() -> None:
    """Every second time a server that has no room is asked again at once."""
    rewrite(up.update, ("(ahead and paused)", "paused"))


@mutant(
    "attempts that wait for clocks pause longer",
    TIMES,
    f"{CLOCKS}::test_few_attempts_are_made_while_clocks_catch_up",
)
def late_times_are_tried_as_often() -> None:
    """Servers are asked again and again for what time alone settles."""
    rewrite(rp.repair, ("means.trust.stretch() if too_late else 1", "1"))


@mutant(
    "attempts that wait for clocks pause longer",
    TIMES,
    f"{CLOCKS}::test_where_others_are_in_the_way_pauses_are_no_longer",
)
def stretched_once_and_for_all() -> None:
    """After late times every repair's back-off is longer."""
    rewrite(rp.repair, ("if too_late", "if True"))


@mutant(
    "each turn of doing without late times is longer",
    TIMES,
    f"{CLOCKS}::test_each_number_of_histories_to_do_without_gets_time_enough",
)
def other_objects_begin_late_times_anew() -> None:
    """While other objects are contended for, no turn ever gets longer."""
    rewrite(tr._Late.failed, ("if wall_ns - self._last_ns > _LATE_FOR_NS:", "if True:"))


@mutant(
    "who is connected anew is pardoned",
    PARDON,
    f"{TRUST}::test_who_was_left_out_and_is_connected_anew_is_pardoned",
    f"{TRUST}::test_a_client_shows_a_server_again_that_was_replaced",
)
def nobody_is_pardoned() -> None:
    """An honest server in the place of a liar is left out as the liar was."""
    rewrite(tr.Trust.pardon, ("if operations >= due and", "if False and"))


@mutant("who is connected anew is pardoned", PARDON, f"{TRUST}::test_a_client_shows_a_server_again_that_was_replaced")
def what_liars_showed_is_kept() -> None:
    """Bad MACs of before are shown as those of the honest server."""
    rewrite(cl.Client._pardon, ("self._means.cache.forget_all(server)", "pass"))


@mutant("pardons are ever rarer", PARDON, f"{TRUST}::test_a_liar_that_connects_again_and_again_is_pardoned_ever_less")
def whoever_connects_is_pardoned() -> None:
    """A liar has only to connect again and again to be shown always."""
    rewrite(tr.Trust.pardon, ("operations + (_PARDONED_FOR << min(times, _DOUBLINGS_MAX))", "0"))


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
        ("(proven(s), self.suspicion.get(s, 0), s not in self._reachable)", "0"),
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


@mutant("who is ahead is shown when METHODs come to nothing", "docs/protocol.md", SCENARIOS)
def whoever_is_ahead_need_not_be_shown() -> None:
    """A METHOD that one server cannot take is sent for ever: a liar agrees, or a server that is down once did."""
    rewrite(up.update, ("ahead = _ahead(phase)", "pass"))


@mutant("who is ahead is shown when METHODs come to nothing", "docs/protocol.md", SCENARIOS)
def whoever_is_ahead_need_not_be_repaired() -> None:
    """A repair finds nothing to do for the same reason."""
    rewrite(rp.repair, ("ahead if turn == 0 else 0", "0"))


@mutant("who is ahead is shown when METHODs come to nothing", "docs/protocol.md", SCENARIOS)
def whoever_is_ahead_is_merely_preferred() -> None:
    """Other views, in which it is not shown, call for a METHOD."""
    rewrite(pl.Planner._masks, ("needed = mask & ahead", "needed = 0"))


CHAINS = f"{SCENARIOS}::test_rivals_in_a_longer_chain_than_one_message_takes"


@mutant("a chain of candidates is repaired from its greatest", "docs/protocol.md", CHAINS)
def chains_are_read_as_a_whole() -> None:
    """A repair reads the objects of all candidates that overlap, more than a message may name."""
    rewrite(rp.repair, (" and len(need | plan.objects) <= _TOGETHER_MAX", ""))


@mutant("a chain of candidates is repaired from its greatest", "docs/protocol.md", CHAINS)
def the_greatest_waits_for_lesser_ones() -> None:
    """The siblings of lesser candidates are asked for first, and the chain never ends."""
    rewrite(pl.Planner._step, ("if alone:", "if False:"))


SIBLINGS = f"{SCENARIOS}::test_what_is_proven_only_on_siblings_is_found_there"


@mutant("what siblings prove counts in repairs", "docs/protocol.md", SIBLINGS)
def siblings_prove_nothing_to_repairs() -> None:
    """The greatest candidate is established, as a sibling shows that does not fit into the read: it is so for ever."""
    rewrite(pl.Planner.repair, ("self.proofs(sorted(objects))", "self._evidence(objects, self._quorums.n)"))


@mutant("heads that only liars may have come last in evidence", "docs/protocol.md", SIBLINGS)
def phantoms_crowd_siblings_out() -> None:
    """A liar's head names objects that nobody has heard of, and no room is left for those that prove something."""
    rewrite(
        pl.Planner._related,
        ("(self._quorums.exceeds_malevolent(shown[r]), r.lt)", "r.lt"),
        (" and self._cache.of(sibling)", ""),
    )


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
    rewrite(pl.Planner._step, ("if incomplete:", "if False:"))


@mutant("proofs pool over all replies", REPAIR, PLANS)
def proofs_of_one_view_only() -> None:
    """A proof counts only in the view that shows it."""
    rewrite(
        pl.Planner.searched_views,
        (
            "proven(self._quorums, self.proofs(objects))",
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


# ---- whom updates are sent to


@mutant(
    "updates go where the fewest versions are missing",
    PLACES,
    f"{PLACING}::test_files_pass_from_tree_to_tree_and_little_is_fetched",
)
def the_home_is_always_asked() -> None:
    """Files that pass through three trees are fetched in each, and so are the directories."""
    become(up._whom_to_ask, lambda means, prepared, home: home)


@mutant(
    "others than a quorum are asked at the third attempt",
    PLACES,
    f"{PLACING}::test_clients_in_turn_have_nobody_fetch_anything",
)
def everybody_is_told_at_once() -> None:
    """Servers that have not been asked for long fetch all that they have missed, whenever clients take turns."""
    rewrite(up.update, ("attempt > 1 or (attempt > 0 and bool(means.trust.suspicion))", "attempt > 0"))


@mutant(
    "the first directories in a directory share its preferred quorum",
    PLACES,
    f"{PLACING}::test_trees_are_worked_on_without_fetching",
)
def directories_have_any_quorum() -> None:
    """What is done to a directory and its parent, or to two neighbours, has some replica fetch the one or the other."""
    rewrite(calls.Procedures._new_directory, ("if parent == ROOT or parent in self._full else parent", ""))


@mutant("and the others spread", PLACES, f"{PLACING}::test_the_work_on_one_large_tree_is_everybody_s")
def all_directories_share_a_quorum() -> None:
    """A tree is the work of q servers, however large it is."""
    rewrite(calls.Procedures._new_directory, (" or parent in self._full", ""))


# ---- what is held against servers


@mutant(
    "one of two lies, nobody can tell which",
    EVIDENCE,
    f"{FINDINGS}::test_one_of_two_that_disagree_lies_and_nobody_can_tell_which",
)
def a_disagreement_outvotes() -> None:
    """Whoever is complained about is as good as found out, and so is who complains."""
    rewrite(ev.Evidence._is_outvoted, ("self._quorums.exceeds_malevolent(self._opponents.get(server, 0))", "True"))


@mutant(
    "one of two lies, nobody can tell which",
    EVIDENCE,
    f"{FINDINGS}::test_who_disagrees_with_more_than_can_lie_lies",
)
def nobody_is_outvoted() -> None:
    """However many servers one disagrees with, it is one word against another."""
    rewrite(
        ev.Evidence._is_outvoted,
        ("self._quorums.exceeds_malevolent(self._opponents.get(server, 0))", "False"),
    )


@mutant("proven liars come last", EVIDENCE, f"{FINDINGS}::test_proven_liars_come_last_and_quorums_stay_possible")
def proven_liars_are_asked_as_before() -> None:
    """A proven liar is asked like anybody who was late to be found out."""
    rewrite(
        tr.Trust._preference,
        ("(proven(s), self.suspicion.get(s, 0).bit_length() // 2)", "self.suspicion.get(s, 0).bit_length() // 2"),
        ("(proven(s), self.suspicion.get(s, 0), s not in", "(self.suspicion.get(s, 0), s not in"),
    )


@mutant(
    "no answer is no wrong answer",
    EVIDENCE,
    f"{FINDINGS}::test_another_answer_than_what_counts_is_a_lie_and_none_is_not",
)
def who_has_not_run_the_method_lies() -> None:
    """A correct server that holds a version by object sync is taken for a liar."""
    rewrite(ur.UpdateRound.contradicted, (' and answer != b""', ""))


@mutant(
    "answers are compared at one version",
    EVIDENCE,
    f"{FINDINGS}::test_answers_at_other_versions_and_refusals_are_no_lies",
)
def whoever_is_behind_lies() -> None:
    """A correct server that answers from another version is taken for a liar."""
    rewrite(qy._contradicted, (" and tuple([fresh.lt for fresh in joint]) == at", ""))


@mutant("refusals are no answers", EVIDENCE, f"{FINDINGS}::test_refusals_differ_between_whole_answers_and_digests")
def refusals_are_lies() -> None:
    """A correct server that refuses is taken for a liar."""
    rewrite(qy._contradicted, ("told[0] in ran and agreed.code in ran and ", ""))


@mutant(
    "who lacks a version does not lie about it",
    EVIDENCE,
    f"{FINDINGS}::test_hosts_that_send_other_rows_than_more_than_can_lie_are_noted",
)
def who_lacks_a_version_lies() -> None:
    """A correct server that has collected a version is taken for a liar."""
    rewrite(sy.Synchroniser._contradict, ("not in (agreed, ignorance)", "!= agreed"))


@mutant(
    "a repair's proofs count for the query after it",
    "docs/protocol.md, the query rule",
    f"{FINDINGS}::test_what_a_repair_has_proven_holds_for_the_query_after_it",
)
def repairs_prove_nothing_to_queries() -> None:
    """A liar that shows a record to repairs and not to queries holds a query up for ever."""
    rewrite(fe._make_answerable, ("item.proofs = means.planner.proofs(objects)", "pass"))
