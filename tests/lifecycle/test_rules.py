"""Which assertion checks which rule: windows, cursor, analyses and the invariants, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest
from lifecycle.invariants import Invariants

TESTS = Path(__file__).parents[1]

RULES = {
    "Windows 1: trains on (cursor, t1], evaluated on (t1, t2], a partition on each side": (
        "a_window_begins_at_the_cursor",
        "test_a_run_trains_up_to_the_boundary_and_is_evaluated_on_later_rows",
    ),
    "Windows 1: t2 ends the newest complete partition; markers": (
        "test_a_partition_is_complete_when_it_ended_longer_ago_than_the_delays",
        "test_a_partition_without_its_marker_is_not_complete",
    ),
    "Windows 1: promotion moves the cursor to t1": (
        "a_promotion_follows_verdict_and_available_pods",
        "check_generation",
    ),
    "Windows 1: no group straddles the cut; Tail cuts at a timestamp": (
        "test_no_group_is_in_both_training_rows_and_holdout",
        "test_tail_splits_at_a_timestamp_and_keeps_equal_ones_together",
    ),
    "Windows 2: the cursor is that of live; a rejection consumes nothing": (
        "check_at_rest",
        "a_window_begins_at_the_cursor",
    ),
    "Windows 2: quarantined partitions are kept in status and at promotion in live's": (
        "a_promotion_follows_verdict_and_available_pods",
        "quarantined_partitions_are_never_used",
    ),
    "Windows 2: quarantined ones never count, a released one trains next, never a holdout": (
        "quarantined_partitions_are_never_used",
        "check_analyses",
        "test_a_released_partition_is_trained_on_next_and_never_a_holdout",
    ),
    "Windows 2: a quarantined holdout keeps the candidate, untrained": (
        "test_a_suspect_holdout_holds_the_candidate_until_the_next_clean_month",
    ),
    "Windows 2: quarantining a training partition retires the candidate": ("check_at_rest",),
    "Windows 2: a hold ends only by a user": ("check_change",),
    "Windows 3: nothing is evaluated twice but by retry": ("nothing_is_evaluated_twice",),
    "Windows 3: the manifest covers rows, holdout and quarantine": (
        "test_the_digest_covers_window_holdout_quarantine_and_rows",
    ),
    "Windows 3: two rejections that share a partition hold the third; the newest is proposed": (
        "no_third_run_on_rows_that_were_rejected_twice",
        "check_at_rest",
    ),
    "Windows 4: maxRows takes the oldest whole partitions": (
        "test_max_rows_takes_the_oldest_whole_partitions_and_the_rest_is_pending",
        "test_with_max_rows_the_holdout_is_the_next_eligible_partitions",
    ),
    "Windows 5: training and every holdout are disjoint; reserved entities never train": (
        "a_window_begins_at_the_cursor",
        "check_generation",
        "test_reserved_entities_are_never_trained_on_but_are_in_holdouts",
    ),
    "Windows 1: a partition that was not delivered is never passed silently": (
        "no_undelivered_month_is_passed",
        "test_an_undelivered_partition_is_quarantined_by_name_before_a_run_passes_it",
    ),
    "Windows 6: rows exposed under a rolled-back generation are left out by a row filter": (
        "rows_of_a_rolled_back_generation_are_left_out",
        "test_rows_of_an_excluded_generation_are_neither_trained_on_nor_in_the_holdout",
    ),
    "Windows 5: historical shards are those of promoted ancestors": (
        "historical_shards_are_those_of_the_ancestors",
    ),
    "Windows 5: the gate sees one artifact": ("check_change",),
    "Verdicts 2: NaN, missing, stale and foreign numbers never pass": ("results_pass_the_rules",),
    "Verdicts 4: a suspect holdout uses no interim analysis": (
        "check_generation",
        "check_analyses",
    ),
    "Verdicts 5: no other run starts while a candidate waits": ("one_run_at_a_time",),
    "Verdicts 5: counts decide before scoring where they suffice": (
        "an_interim_analysis_has_its_share_of_the_error",
        "test_counts_that_cannot_decide_use_no_interim_analysis",
    ),
    "Verdicts 5: at most 3 interim analyses, each at its share of the error": (
        "check_generation",
        "an_interim_analysis_has_its_share_of_the_error",
    ),
    "Verdicts 5: interim analyses are recorded per holdout and across retries": (
        "interim_analyses_are_shared_by_all_evaluations_of_a_holdout",
    ),
    "Verdicts 7: the first generation has no baseline": (
        "a_window_begins_at_the_cursor",
        "results_pass_the_rules",
    ),
    "Verdicts 9: a verdict says why": ("check_generation",),
    "Verdicts 10: a run works on its snapshot": ("a_job_is_recorded_before_it_is_created",),
    "Invariant: never two candidates": ("check_world", "one_run_at_a_time"),
    "Invariant: only accepted digests are served, an aborted generation never again": (
        "only_an_accepted_generation_is_served",
        "check_world",
    ),
    "Invariant: a rejected generation is never a parent": ("check_generation",),
    "Invariant: a verdict is in status before Jobs go": (
        "a_job_is_deleted_after_its_result_is_in_status",
    ),
    "Invariant: one Job for each attempt, recorded before it is made": (
        "a_job_is_recorded_before_it_is_created",
    ),
    "Invariant: every recorded fact has one notification, whose id stays": ("check_notifications",),
    "Invariant: every wait ends": ("check_at_rest",),
    "Promotion: verdict, start, apply, availability, then live; its parent still live": (
        "a_promotion_follows_verdict_and_available_pods",
    ),
    "Collection: a report goes with its generation": ("a_report_is_deleted_with_its_generation",),
    "Collection: nothing goes that anything still names": ("nothing_referenced_is_deleted",),
}
"""Rules of windows, cursor, analyses and the invariants, by the assertions that check them."""


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_an_existing_assertion(rule: str) -> None:
    there = "".join(file.read_text(encoding="utf-8") for file in TESTS.rglob("test_*.py"))
    for name in RULES[rule]:
        assert hasattr(Invariants, name) or f"def {name}(" in there, name
