"""The life of an update, told as sentences over a world without a cluster."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from lifecycle.world import World, digest, end_of


def a_world(**options: object) -> World:
    return World(**options)


def with_generation_one() -> World:
    world = a_world()
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(8)
    return world


def test_the_initial_model_is_imported_and_its_seeded_head_is_never_served() -> None:
    world = a_world()
    world.settle()
    world.turns(4)

    assert world.generation(0).status.artifact.head == "Seeded"
    assert world.served == []
    assert world.update.status.live is None
    assert world.update.status.phase == "Idle"
    ready = next(c for c in world.update.status.conditions if c.type == "Ready")
    assert (ready.status, ready.reason) == ("True", "AwaitingFirstGeneration")


def test_an_imported_model_with_a_trained_head_is_rolled_out_once_without_a_gate() -> None:
    world = a_world(seeded=False)
    world.settle()
    world.turns(3)

    assert world.served == [digest("initial")]
    assert world.update.status.live.number == 0


def test_generation_one_is_bootstrapped_by_absolute_rules_and_moves_the_cursor_to_t1() -> None:
    world = with_generation_one()
    first = world.generation(1)

    assert first.status.verdict == "Bootstrapped"
    assert first.spec.baseline is None
    assert world.served == [first.status.artifact.served_digest]
    assert world.update.status.cursor.trained_through == end_of("2025-01")
    assert world.update.status.live.name == "shop-g1"


def test_todays_holdout_is_training_data_of_the_next_run() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.turns(6)
    second = world.generation(2)

    assert second.spec.data.partitions == ["2025-02"]
    assert second.spec.data.holdout_partitions == ["2025-03"]
    assert second.spec.parent.name == "shop-g1"
    assert second.spec.baseline.name == "shop-g1"
    assert second.status.verdict == "Blessed"
    assert world.update.status.cursor.trained_through == end_of("2025-02")
    assert world.update.status.previous.name == "shop-g1"


def test_historical_shards_are_frozen_at_promotion_and_first_used_by_the_next_generation() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.turns(6)

    assert world.generation(1).spec.data.historical == []
    assert world.generation(2).spec.data.historical == [world.generation(1).spec.data.manifest]


def test_a_rejection_consumes_nothing_and_leaves_live_alone() -> None:
    world = with_generation_one()
    served = list(world.served)
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.55, 0.66)
    world.turns(6)

    assert world.generation(2).status.verdict == "Rejected"
    assert world.served == served
    assert world.update.status.cursor.trained_through == end_of("2025-01")
    assert world.update.status.live.name == "shop-g1"


def test_nothing_is_judged_twice_on_the_same_rows_recipe_and_weights() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.55, 0.66)
    world.turns(10)

    assert sorted(world.generations) == ["shop-g0", "shop-g1", "shop-g2"]
    assert world.update.status.last_probe.reason == "JudgedBefore"


def test_a_third_rejection_on_the_same_partition_is_not_tried() -> None:
    world = with_generation_one()
    for month in ("2025-03", "2025-04", "2025-05"):
        world.months.append(month)
        world.aucs[month] = (0.55, 0.66)
        world.turns(7)

    assert max(g.spec.number for g in world.generations.values()) == 3
    assert world.update.status.phase == "Held"
    assert world.update.status.cursor.proposed == ["2025-02"]

    world.aucs["2025-05"] = (0.70, 0.66)
    world.ask("quarantine@1")
    world.turns(7)
    assert world.update.status.cursor.holes == ["2025-02"]
    assert world.generation(4).spec.data.partitions == ["2025-03", "2025-04"]
    assert world.update.status.live.number == 4


def test_a_suspect_holdout_holds_the_candidate_and_the_next_clean_month_judges_it_untrained() -> (
    None
):
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.50, 0.50)
    world.turns(6)
    second = world.generation(2)

    assert (second.status.verdict, second.status.reason) == ("Inconclusive", "HoldoutSuspect")
    assert second.status.evaluation.looks == 0
    assert world.update.status.phase == "Held"
    assert world.update.status.cursor.proposed == ["2025-03"]
    assert world.update.status.live.name == "shop-g1"

    world.months.append("2025-04")
    world.turns(4)
    assert world.generation(2).status.verdict == "Inconclusive", "a hold ends only by a person"

    world.ask("quarantine@1")
    world.turns(6)
    trainings = [name for name in world.job_names_ever if "-g2-train-" in name]
    assert len(trainings) == 1
    assert world.generation(2).status.verdict == "Blessed"
    assert world.generation(2).status.evaluation.holdouts[-1].partitions == ["2025-04"]
    assert world.update.status.live.name == "shop-g2"
    assert world.update.status.cursor.holes == ["2025-03"]


def test_quarantining_a_training_partition_retires_the_candidate() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.turn()
    world.turn()
    status = world.update.status
    holes = status.cursor.model_copy(update={"holes": ["2025-02"]})
    world.update = world.update.model_copy(
        update={"status": status.model_copy(update={"cursor": holes})}
    )
    world.settle()

    assert world.generation(2).status.retired == "PartitionQuarantined"
    assert world.update.status.candidate is None
    assert not any("-g2-" in name for name in world.jobs)


def test_an_inconclusive_candidate_waits_for_a_longer_holdout_and_no_other_run_starts() -> None:
    world = with_generation_one()
    world.error = 0.02
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.61, 0.60)
    world.turns(6)
    second = world.generation(2)
    assert (second.status.verdict, second.status.reason) == ("Inconclusive", "ExtendHoldout")
    assert second.status.evaluation.looks == 1
    assert "shop-g3" not in world.generations

    world.error = 0.002
    world.months.append("2025-04")
    world.aucs["2025-04"] = (0.62, 0.60)
    world.turns(6)
    assert world.generation(2).status.evaluation.looks == 2
    assert world.generation(2).status.evaluation.holdouts[-1].partitions == ["2025-03", "2025-04"]
    assert world.generation(2).status.rollout.promoted_at is not None


def test_no_look_for_data_begins_while_a_longer_holdout_is_being_judged() -> None:
    world = with_generation_one()
    world.error = 0.02
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.61, 0.60)
    world.turns(6)
    world.months.append("2025-04")
    while not any("-g2-evaluate-2" in name for name in world.jobs):
        world.turn()
    world.ask("run@now")
    world.settle()
    assert world.update.status.last_request.result == "Refused"
    assert not any(job.stage == "probe" for job in world.jobs.values())


def test_three_looks_are_all_there_are() -> None:
    world = with_generation_one()
    world.error = 0.02
    for month in ("2025-03", "2025-04", "2025-05", "2025-06"):
        world.months.append(month)
        world.aucs[month] = (0.61, 0.60)
        world.turns(5)
    second = world.generation(2)
    assert second.status.evaluation.looks == 3
    assert second.status.reason == "LooksSpent"
    world.ask("retry@1")
    world.turns(3)
    assert world.update.status.last_request.result == "Refused"
    world.ask("reject@2")
    world.settle()
    assert world.generation(2).status.verdict == "Rejected"


def test_counts_that_cannot_decide_spend_no_look() -> None:
    world = a_world()
    rules = [{"name": "floor", "metric": "auc", "min": "0.52", "minEntities": 300}]
    world.edit(gate={"rules": rules})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(6)
    first = world.generation(1)

    assert (first.status.verdict, first.status.reason) == ("Inconclusive", "TooFew")
    assert first.status.evaluation.looks == 0
    assert not any("evaluate" in name for name in world.job_names_ever)

    world.months.append("2025-03")
    world.turns(6)
    assert world.generation(1).status.verdict == "Bootstrapped"


def test_pods_that_never_get_ready_send_every_target_back_and_live_stays() -> None:
    world = with_generation_one()
    live = world.served[-1]
    world.pods_ready = False
    world.months.append("2025-03")
    world.turns(10)
    second = world.generation(2)

    assert "0 of 2 new pods available; after 10m" in second.status.rollout.abort_reason
    assert world.served[-1] == live
    world.pods_ready = True
    world.turns(2)
    assert world.generation(2).status.rollout.reverted_at is not None
    assert world.update.status.live.name == "shop-g1"
    assert world.update.status.cursor.trained_through == end_of("2025-01")


def test_a_first_roll_that_fails_withdraws_our_fields() -> None:
    world = a_world()
    world.pods_ready = False
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(14)

    assert world.generation(1).status.rollout.abort_reason
    assert world.target.digest is None


def test_a_disrupted_pod_means_a_new_attempt_that_is_not_counted() -> None:
    world = a_world()
    world.settle()
    for _ in range(5):
        job = next(iter(world.jobs))
        world.now += timedelta(minutes=1)
        world.fail(job, 137, disrupted=True)
        world.settle()
    training = world.generation(0).status.training
    assert (training.attempt, training.counted) == (6, 0)


def test_memory_that_ran_out_halves_the_batch_until_the_attempts_are_spent() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.turn()
    job = next(name for name in world.jobs if "-g2-train-" in name)
    world.fail(job, 42)
    world.settle()
    world.now += timedelta(minutes=1)
    world.settle()
    training = world.generation(2).status.training
    assert training.batch_divisor == 2
    assert world.runs[training.job].run.train.batch_divisor == 2


def test_invalid_input_fails_at_once_and_is_not_tried_again() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.turn()
    job = next(name for name in world.jobs if "-g2-train-" in name)
    world.fail(job, 3, reason="MissingColumn")
    world.turns(5)
    assert world.generation(2).status.verdict == "Failed"
    assert world.generation(2).status.reason == "MissingColumn"
    assert "shop-g3" not in world.generations
    assert world.update.status.live.name == "shop-g1"


def test_a_job_deleted_by_hand_is_made_again_as_the_next_attempt() -> None:
    world = a_world()
    world.settle()
    world.jobs.clear()
    world.settle()
    assert world.generation(0).status.training.attempt == 2
    assert world.generation(0).status.training.counted == 1


def test_suspend_stops_the_job_and_lets_it_go_on() -> None:
    world = a_world()
    world.settle()
    world.edit(suspend=True)
    world.settle()
    assert all(job.suspended for job in world.jobs.values())
    assert world.update.status.phase == "Suspended"
    world.edit(suspend=False)
    world.settle()
    assert not any(job.suspended for job in world.jobs.values())


def test_a_recreated_update_adopts_and_production_does_not_move() -> None:
    world = with_generation_one()
    served = list(world.served)
    world.months.append("2025-03")
    world.turn()
    world.recreate()
    world.turns(8)

    assert world.generation(2).status.reason == "Orphaned"
    assert world.update.status.live.number == 3
    assert world.served[: len(served)] == served
    assert world.generation(3).spec.data.digest == world.generation(2).spec.data.digest


def test_a_deployment_of_another_update_is_left_alone() -> None:
    world = a_world()
    world.target = replace(world.target, claimed_by="other")
    world.settle()
    stalled = next(c for c in world.update.status.conditions if c.type == "Stalled")
    assert stalled.reason == "TargetClaimed"
    assert "other" in stalled.message
    assert world.target.claimed_by == "other"


def test_fields_that_somebody_wiped_are_put_back_three_times_an_hour() -> None:
    world = with_generation_one()
    for _ in range(5):
        world.target = replace(world.target, digest=None, number=None)
        world.settle()
        world.roll_pods()
    assert len(world.served) == 1 + 3
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert (sync.status, sync.reason) == ("False", "FieldsWiped")


def test_a_foreign_value_is_never_overwritten() -> None:
    world = with_generation_one()
    served = list(world.served)
    world.target = replace(world.target, digest=digest("theirs"))
    world.months.append("2025-03")
    world.turns(4)
    assert world.served == served
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert sync.reason == "FieldConflict"


def test_a_foreign_value_that_is_no_digest_is_told_all_the_same() -> None:
    world = with_generation_one()
    world.target = replace(world.target, digest="mine")
    world.settle()
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert sync.reason == "FieldConflict"
    assert "carries mine" in sync.message
    assert world.update.status.targets[0].digest is None


def test_a_request_found_on_an_update_without_history_is_recorded_and_not_run() -> None:
    world = a_world()
    world.ask("run@old")
    world.settle()
    assert world.update.status.last_request.result == "Recorded"


def test_a_suspended_update_refuses_to_look_for_data() -> None:
    world = with_generation_one()
    world.edit(suspend=True)
    world.settle()
    world.ask("run@1")
    world.settle()
    assert world.update.status.last_request.result == "Refused"
    assert "spec.suspend" in world.update.status.last_request.message
    assert not world.jobs


def test_a_run_by_request_passes_schedule_and_interval() -> None:
    world = a_world()
    world.edit(trigger={})
    world.settle()
    world.turns(2)
    world.months = ["2025-01", "2025-02"]
    world.turns(3)
    assert "shop-g1" not in world.generations
    world.ask("run@1")
    world.turns(8)
    assert world.update.status.live.number == 1
    assert world.generation(1).spec.trigger == "Request"
