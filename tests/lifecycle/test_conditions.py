"""Conditions are true in every state, and the requests that their messages name are accepted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.world import World, stuck_in_a_rollout, with_generation_one

from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.state.observation import InvalidUpdate


def on_hold(partitions: int = 1) -> World:
    """A world whose second generation is on hold for a suspect holdout of so many partitions."""
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.50, 0.50)
    world.rounds(8)
    second = world.generation(2)
    evaluation = second.status.evaluation
    names = [f"2025-03-{day:02d}" for day in range(1, partitions + 1)]
    holdout = evaluation.holdouts[-1].model_copy(
        update={"partitions": names if partitions > 1 else evaluation.holdouts[-1].partitions}
    )
    evaluation = evaluation.model_copy(update={"holdouts": [holdout]})
    status = second.status.model_copy(update={"evaluation": evaluation})
    world.generations["shop-g2"] = second.model_copy(update={"status": status})
    world.settle()
    return world


def result_of(world: World, verb: str) -> str:
    world.ask(f"{verb}@{len(world.asked)}")
    world.settle()
    return world.update.status.last_request.result


def rolling_back() -> World:
    """A world whose second generation is rolled back; the targets have live's variables again."""
    world = stuck_in_a_rollout()
    while not world.generation(2).status.rollout.rollback_reason:
        world.now += timedelta(minutes=1)
        world.step()
    world.settle()
    assert world.target.number == 1
    return world


def rolled_out_by_another_version() -> World:
    """A world whose second generation rolls out, with a phase that this version does not know."""
    world = stuck_in_a_rollout()
    world.target = replace(world.target, available=2, old=2, ready=0)
    world.set_status_values("shop-g2", phase="Canary")
    world.settle()
    return world


def test_a_hold_of_more_partitions_than_can_be_quarantined_names_the_other_requests() -> None:
    world = on_hold(partitions=17)
    message = world.condition("ActionRequired").message
    assert message.startswith(
        "shop-g2 is on hold: annotate springtide.dev/request=retry@<token> to evaluate again, or "
        "reject@<token>; the holdout is suspect: "
    )
    assert result_of(world, "quarantine") == "Refused"
    assert world.update.status.last_request.message == (
        "17 partitions would be quarantined (0 are), and at most 16 can be; use reject"
    )
    assert result_of(world, "reject") == "Accepted"


def test_a_hold_of_a_suspended_update_names_retry_for_the_time_after_it() -> None:
    world = on_hold()
    world.edit(suspend=True)
    world.settle()
    assert world.condition("ActionRequired").message.startswith(
        "shop-g2 is on hold: annotate springtide.dev/request=quarantine@<token> to leave 2025-03 "
        "out, or reject@<token>; retry@<token> to evaluate again once spec.suspend is false; "
    )
    assert result_of(world, "retry") == "Refused"
    world.edit(suspend=False)
    assert result_of(world, "retry") == "Accepted"


def failed_import(message: str) -> World:
    world = World()
    world.settle()
    (name,) = world.jobs
    world.fail(name, 3, reason="InvalidInput")
    job = world.jobs[name]
    failure = job.result.failure.model_copy(update={"message": message})
    result = job.result.model_copy(update={"failure": failure})
    world.jobs[name] = replace(job, result=result)
    world.settle()
    return world


def test_a_long_message_of_a_failed_import_does_not_displace_what_to_do() -> None:
    world = failed_import("x" * 1024)
    message = world.condition("ActionRequired").message
    assert message.startswith(
        "shop-g0 failed; fix the cause and annotate springtide.dev/request=retry@<token>; "
    )
    assert result_of(world, "retry") == "Accepted"


def test_a_failed_import_of_a_suspended_update_says_to_resume_it_first() -> None:
    world = failed_import("the folder is missing")
    world.edit(suspend=True)
    world.settle()
    assert world.condition("ActionRequired").message.startswith(
        "shop-g0 failed; fix the cause, set spec.suspend to false and annotate "
        "springtide.dev/request=retry@<token>; "
    )


def test_many_invalid_fields_do_not_displace_what_to_do() -> None:
    problems = tuple(f"spec.gate.rules[{n}].metric: is missing" for n in range(40))
    world = World()
    seen = InvalidUpdate(world.update.metadata, world.update.status, problems)
    status = decide(seen, world.now).status
    (stalled,) = (c for c in status.conditions if c.type == "Stalled")
    assert stalled.message.endswith("; change it")
    assert status.progress.waiting_for == stalled.message


def rejected_twice(**gate: object) -> World:
    """A world after two rejections in a row that were trained on the same partition."""
    world = with_generation_one()
    world.edit(gate={**world.spec["gate"], **gate})
    for month in ("2025-03", "2025-04"):
        world.months.append(month)
        world.aucs[month] = (0.55, 0.66)
        world.rounds(8)
    assert world.condition("ActionRequired").reason == "RejectedTwice"
    return world


def test_the_hold_of_a_generation_is_reported_though_a_user_ended_that_of_a_deleted_one() -> None:
    world = World()
    world.settle()
    for month in ("2025-01", "2025-02", "2025-03", "2025-04"):
        world.months.append(month)
        world.aucs[month] = (0.5, 0.5)
        world.rounds(10)
        if world.condition("ActionRequired").reason == "RejectedTwice" and not world.asked:
            world.ask("reject@1")
            world.settle()
            assert world.update.status.acknowledged_holds == ["shop-g2"]
            for name in ("shop-g1", "shop-g2"):
                world.delete_generation(name)
            world.rounds(20)
    assert max(world.generations) == "shop-g2", "the numbers of deleted ones are used again"
    assert world.condition("ActionRequired").reason == "RejectedTwice"


def test_two_rejections_offer_retry_only_while_a_run_on_the_same_rows_can_start() -> None:
    message = rejected_twice().condition("ActionRequired").message
    assert "retry@<token> to train again, or reject@<token>" in message
    world = rejected_twice(onInconclusive={"type": "Reject"})
    assert world.condition("ActionRequired").message == (
        "shop-g3 is the second rejection in a row that was trained on 2025-02; no third run "
        "starts: annotate springtide.dev/request=quarantine@<token> to leave 2025-02 out, or "
        "reject@<token> to train on the next data; 1 of 1 interim analyses of its holdout are "
        "used up"
    )
    assert result_of(world, "reject") == "Accepted"
    world.months.append("2025-05")
    world.rounds(8)
    assert world.generation(4).status.outcome == "Live"


def test_a_run_that_was_evaluated_offers_no_retry_without_interim_analyses() -> None:
    world = with_generation_one()
    world.edit(gate={**world.spec["gate"], "onInconclusive": {"type": "Reject"}})
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.53, 0.66)
    world.rounds(8)
    message = world.condition("DataReady").message
    assert message == (
        "the same rows, recipe and weights were used by shop-g2 (Rejected); 1 interim analyses of "
        "their holdout were used, and none is left, so a run waits for the next data"
    )
    assert result_of(world, "retry") == "Accepted"
    world.rounds(4)
    assert "shop-g3" not in world.generations


def test_a_run_that_was_evaluated_offers_retry_to_a_suspended_update_once_it_is_resumed() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.55, 0.66)
    world.rounds(8)
    world.edit(suspend=True)
    world.settle()
    assert world.condition("DataReady").message.endswith(
        "springtide.dev/request=retry@<token> runs them again once spec.suspend is false"
    )
    assert result_of(world, "retry") == "Refused"
    world.edit(suspend=False)
    assert result_of(world, "retry") == "Accepted"


def test_a_run_that_was_evaluated_offers_no_retry_while_another_generation_is_in_progress() -> None:
    world = World()
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.aucs["2025-02"] = (0.3, 0.3)
    world.rounds(8)
    assert "retry@<token>" in world.condition("DataReady").message
    world.delete_generation("shop-g0")
    world.settle()
    assert world.condition("DataReady").message == (
        "the same rows, recipe and weights were used by shop-g1 (Rejected); another run is in "
        "progress"
    )
    assert result_of(world, "retry") == "Refused"


def test_a_request_during_an_import_does_not_name_reject_which_is_refused() -> None:
    world = World()
    world.settle()
    assert result_of(world, "run") == "Refused"
    assert world.update.status.last_request.message == (
        "shop-g0 is the initial model and in progress; wait for its end"
    )


def test_a_request_during_a_rollout_does_not_name_reject_which_is_refused() -> None:
    world = stuck_in_a_rollout()
    assert result_of(world, "run") == "Refused"
    assert world.update.status.last_request.message == "shop-g2 is rolling out; wait for its end"


@pytest.mark.parametrize("available", [1, 2])
def test_pods_that_are_replaced_in_a_rollback_keep_serving_true_without_their_number(
    available: int,
) -> None:
    world = rolling_back()
    world.target = replace(world.target, available=available, old=1)
    world.settle()
    serving = world.condition("Serving")
    assert (serving.status, serving.reason) == ("True", "RollingBack")
    assert serving.message == (
        "Deployment ranker has available pods; the rollback of shop-g2 is not finished"
    )


def test_a_run_is_rolled_back_once_the_targets_serve_live_again() -> None:
    world = rolling_back()
    assert world.condition("LastRunSucceeded").reason == "RollingBack"
    world.pods_ready = True
    world.rounds(2)
    assert world.condition("LastRunSucceeded").reason == "RolledBack"


@pytest.mark.survives(
    "Deployments",
    "it is paused while a rollout is rolled back",
    "`TargetPaused` says how to resume; the rollback is not reported as complete before the pods "
    "are replaced",
)
def test_a_rollback_waits_for_a_paused_target_whose_pods_are_not_replaced() -> None:
    world = rolling_back()
    world.target = replace(world.target, paused=True, available=1, old=1)
    world.rounds(3)
    assert world.update.status.phase == "RollingBack"
    assert world.condition("ActionRequired").reason == "TargetPaused"
    assert "RollbackCompleted" not in world.events
    world.target = replace(world.target, paused=False)
    world.pods_ready = True
    world.rounds(2)
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_target_that_is_paused_at_rest_is_reported_and_training_goes_on() -> None:
    world = with_generation_one()
    world.target = replace(world.target, paused=True)
    world.settle()
    message = (
        "Deployment ranker is paused; kubectl rollout resume deployment/ranker; no generation "
        "rolls out meanwhile"
    )
    for kind, status in (("ActionRequired", "True"), ("TargetsInSync", "False")):
        found = world.condition(kind)
        assert (found.status, found.reason, found.message) == (status, "TargetPaused", message)
    assert world.condition("Stalled") is None
    assert world.condition("Serving").status == "True"
    world.complete_jobs()  # the probe
    world.settle()
    assert world.update.status.progress.waiting_for == message
    world.months.append("2025-03")
    world.rounds(8)
    assert world.generation(2).status.verdict == "Accepted"
    assert world.condition("Stalled").reason == "TargetPaused"
    world.target = replace(world.target, paused=False)
    world.rounds(2)
    assert world.generation(2).status.outcome == "Live"
    assert world.condition("ActionRequired").status == "False"


def test_a_rollback_does_not_wait_for_a_target_that_is_scaled_to_0() -> None:
    world = rolling_back()
    world.target = replace(world.target, desired=0, updated=0)
    world.settle()
    assert world.generation(2).status.outcome == "RolledBack"


def test_targets_on_a_generation_that_another_version_rolls_out_serve() -> None:
    world = rolled_out_by_another_version()
    serving = world.condition("Serving")
    assert (serving.status, serving.reason) == ("True", "RollingOut")


def test_a_rollout_of_another_version_is_no_conflict_of_another_client() -> None:
    world = rolled_out_by_another_version()
    assert world.condition("TargetsInSync").status == "True"
    assert world.condition("ActionRequired").reason == "UnknownStatusValue"


def test_whether_a_run_with_a_verdict_of_another_version_succeeded_is_unknown() -> None:
    world = with_generation_one()
    world.set_status_values("shop-g1", verdict="Shadowed")
    world.settle()
    found = world.condition("LastRunSucceeded")
    assert (found.status, found.reason) == ("Unknown", "UnknownStatusValue")
    assert found.message == (
        "shop-g1 has verdict 'Shadowed', which this version of the operator does not know"
    )
