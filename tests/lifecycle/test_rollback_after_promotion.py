"""A promoted generation is rolled back: the one before it is live again, and the cursor with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.invariants import Invariants
from lifecycle.world import World, after_promotions, digest, end_of, with_generation_one


def on_generation_two() -> World:
    """Generation 2 is live, generation 1 is previous; no probe starts by itself."""
    world = after_promotions(2)
    world.edit(trigger={})
    world.settle()
    assert world.update.status.live.number == 2
    Invariants(world)
    return world


def answered(world: World, request: str) -> tuple[str, str]:
    """The result of a request and its message."""
    world.ask(request)
    world.settle()
    last = world.update.status.last_request
    verb, _, token = request.partition("@")
    assert (last.verb, last.token) == (verb, token)
    return last.result, last.message


@pytest.mark.survives(
    "People",
    "a promoted generation turns out to be bad: request `rollback.g2`",
    "every target is back on the generation before, which is live again; the cursor is its cursor",
)
def test_the_live_generation_is_rolled_back_by_request() -> None:
    world = on_generation_two()
    first = world.generation(1).status.artifact.served_digest
    result, message = answered(world, "rollback.g2@1")

    assert (result, message) == (
        "Accepted",
        "shop-g2 is rolled back to shop-g1; it will not be served again",
    )
    assert world.target.digest == first
    world.rounds(2)
    status, second = world.update.status, world.generation(2).status
    assert (status.live.name, status.previous, status.candidate) == ("shop-g1", None, None)
    assert status.cursor.trained_through == end_of("2025-01")
    assert status.freshness.served_data_through == end_of("2025-01")
    assert (second.outcome, second.phase) == ("RolledBack", "RolledBack")
    assert second.verdict == "Accepted"
    assert second.rollout.promoted_at
    assert second.rollout.rolled_back_at
    assert second.rollout.rollback_reason == "requested by rollback.g2@1"
    assert world.generation(1).status.outcome == "Live"
    assert (status.counters.promoted, status.counters.rolled_back) == (2, 1)
    assert status.last_run.summary == "RolledBack g2"


def test_events_name_the_generation_that_is_rolled_back_and_no_second_promotion() -> None:
    world = on_generation_two()
    before = len(world.announced)
    world.ask("rollback.g2@1")
    world.rounds(3)
    assert world.announced[before:] == ["RollbackStarted", "RollbackCompleted"]


def test_conditions_say_that_the_targets_still_serve_while_they_are_rolled_back() -> None:
    world = on_generation_two()
    world.pods_ready = False
    world.ask("rollback.g2@1")
    world.settle()
    assert world.update.status.phase == "RollingBack"
    assert world.generation(2).status.phase == "RollingBack"
    live = next(c for c in world.generation(2).status.conditions if c.type == "Live")
    assert (live.status, live.reason) == ("False", "RollingBack")
    found = world.condition("LastRunSucceeded")
    assert (found.status, found.reason) == ("False", "RollingBack")
    assert world.update.metadata.finalizers


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("rollback@1", "name the generation; shop-g2 is live: rollback.g2@1"),
        ("rollback.g9@1", "there is no generation g9; shop-g2 is live: rollback.g2@1"),
        ("rollback.g1@1", "shop-g1 is no longer live; shop-g2 is live: rollback.g2@1"),
        ("rollback.g0@1", "shop-g0 was not rolled out; shop-g2 is live: rollback.g2@1"),
        ("rollback.2@1", "unknown verb 'rollback.2'; use one of run, retry, reject, quarantine, "),
        ("run.g2@1", "unknown verb 'run.g2'; use one of run, retry, reject, quarantine, "),
    ],
)
def test_a_stale_or_missing_number_is_refused_with_the_right_one(
    request_: str, message: str
) -> None:
    world = on_generation_two()
    result, answer = answered(world, request_)
    assert result == "Refused"
    assert answer.startswith(message)
    assert world.update.status.live.number == 2


def test_a_rollback_works_while_the_update_is_suspended() -> None:
    world = on_generation_two()
    world.edit(suspend=True)
    assert answered(world, "rollback.g2@1")[0] == "Accepted"
    world.rounds(2)
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.update.status.live.number == 1


def test_without_an_earlier_generation_nothing_is_withdrawn() -> None:
    world = with_generation_one()
    Invariants(world)
    result, message = answered(world, "rollback.g1@1")
    assert result == "Refused"
    assert message.startswith("no earlier generation is there to return to, so shop-g1 stays live")
    assert world.target.number == 1


def test_the_generation_that_rolls_out_is_rolled_back_and_not_the_live_one() -> None:
    world = on_generation_two()
    world.months.append("2025-04")
    world.pods_ready = False
    world.ask("run@1")
    while world.target.number != 3:
        world.round()
    result, message = answered(world, "rollback.g2@2")
    assert (result, message) == (
        "Refused",
        "shop-g2 does not roll out; shop-g3 rolls out: rollback.g3@2",
    )
    result, message = answered(world, "rollback.g3@3")
    assert (result, message) == (
        "Accepted",
        "shop-g3 is rolled back to shop-g2; it will not be served again",
    )
    assert "is being rolled back" in answered(world, "rollback.g2@4")[1]
    world.pods_ready = True
    world.rounds(2)
    assert world.generation(3).status.outcome == "RolledBack"
    assert world.update.status.live.number == 2


def test_a_second_request_for_the_same_generation_changes_nothing() -> None:
    world = on_generation_two()
    world.pods_ready = False
    answered(world, "rollback.g2@1")
    decided = world.generation(2).status.rollout
    assert answered(world, "rollback.g2@2")[0] == "Accepted"
    assert world.generation(2).status.rollout == decided
    world.pods_ready = True
    world.rounds(2)
    result, message = answered(world, "rollback.g2@3")
    assert (result, message) == (
        "Refused",
        "shop-g2 was rolled back already; no earlier generation is there to return to, so shop-g1 "
        "stays live; deliver data for a better one, or set spec.suspend to true to keep it",
    )


@pytest.mark.survives(
    "People",
    "a generation is rolled back while a candidate of it is trained",
    "the candidate retires at once and its Job is deleted; the next run continues from the "
    "generation that is live again",
)
def test_a_candidate_whose_parent_was_rolled_back_retires_and_its_job_is_ended() -> None:
    world = on_generation_two()
    world.months.append("2025-04")
    world.ask("run@1")
    while not any(job.stage == "train" for job in world.jobs.values()):
        world.step()
        if any(job.stage == "probe" for job in world.jobs.values()):
            world.complete_jobs()
    world.ask("rollback.g2@2")
    world.settle()
    third = world.generation(3).status
    assert (third.outcome, third.retired_reason) == ("Retired", "ParentRolledBack")
    assert third.message == "its parent shop-g2 was rolled back"
    assert not world.jobs
    world.rounds(2)
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_waiting_candidate_of_a_generation_that_is_rolled_back_retires() -> None:
    world = on_generation_two()
    world.months.append("2025-04")
    world.target = replace(world.target, complete=False, stalled="the owner's change is stuck")
    world.pods_ready = False
    world.ask("run@1")
    world.rounds(8)
    assert world.generation(3).status.phase == "Accepted"
    world.ask("rollback.g2@2")
    world.settle()
    assert world.generation(3).status.outcome == "Retired"


def test_the_next_run_takes_everything_over_from_the_generation_that_is_live_again() -> None:
    world = World()
    replay = {"retention": {"replay": {}}, "earlyStopping": {}}
    lora = {"type": "LoRA", "lora": {"continuation": "Continue"}}
    world.edit(training={**replay, "method": lora})
    Invariants(world)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    for month in ("2025-03", "2025-04"):
        world.months.append(month)
        world.rounds(8)
    assert world.update.status.live.number == 3
    world.ask("rollback.g3@1")
    world.rounds(3)
    world.months.append("2025-05")
    world.ask("retry@2")
    world.rounds(10)
    second, fourth = world.generation(2), world.generation(4)
    assert fourth.spec.parent.name == fourth.spec.baseline.name == "shop-g2"
    assert fourth.spec.data.windows[0].from_ == second.status.trained_through
    assert fourth.spec.data.buffer == second.status.artifact.buffer
    assert fourth.spec.continuation.adapter == second.status.artifact.adapter
    assert fourth.spec.data.historical == [*second.spec.data.historical, second.spec.data.manifest]
    assert world.update.status.live.number == 4
    assert world.update.status.previous.number == 2


@pytest.mark.survives(
    "People",
    "`retry` after a rollback gives the same weights again",
    "the candidate retires: a digest that was rolled back is never served again",
)
def test_a_candidate_with_the_weights_of_one_that_was_rolled_back_retires() -> None:
    world = on_generation_two()
    world.ask("rollback.g2@1")
    world.rounds(3)
    world.ask("retry@2")
    world.rounds(8)
    third = world.generation(3).status
    bad = world.generation(2).status.artifact.served_digest
    assert third.artifact.served_digest == bad
    assert (third.outcome, third.retired_reason) == ("Retired", "WeightsRolledBack")
    assert "weights of shop-g2" in third.message
    assert world.update.status.live.number == 1
    assert not [job for job in world.job_names_ever if "-g3-evaluate" in job]


def test_what_is_being_deleted_is_no_longer_a_generation_to_return_to() -> None:
    world = after_promotions(3, generations=2)
    world.edit(trigger={})
    while "shop-g1" in world.generations and not any(
        job.stage == "collect" for job in world.jobs.values()
    ):
        world.step()
    assert world.update.status.previous.number == 2
    world.ask("rollback.g3@1")
    world.settle()
    assert world.update.status.live.number == 2
    assert world.update.status.previous is None
    assert answered(world, "rollback.g2@2")[0] == "Refused"


def test_a_recreated_update_finishes_the_rollback_and_keeps_it() -> None:
    world = on_generation_two()
    world.pods_ready = False
    world.ask("rollback.g2@1")
    world.settle()
    world.recreate()
    world.settle()
    assert world.update.status.phase == "RollingBack"
    world.pods_ready = True
    world.rounds(3)
    assert world.update.status.live.number == 1
    assert world.generation(2).status.outcome == "RolledBack"
    world.recreate()
    world.rounds(3)
    assert world.update.status.live.number == 1
    assert world.target.number == 1


def test_the_generation_to_return_to_is_deleted_during_the_rollback() -> None:
    world = on_generation_two()
    world.pods_ready = False
    world.ask("rollback.g2@1")
    world.step()
    assert world.generation(2).status.rollout.rollback_reason
    world.delete_generation("shop-g1")
    world.rounds(2)
    found = world.condition("ActionRequired")
    assert (found.status, found.reason) == ("True", "NothingToReturnTo")
    assert world.target.number == 2
    Invariants(world).check_at_rest()


def test_a_value_that_another_client_sets_during_the_rollback_blocks_it() -> None:
    world = on_generation_two()
    world.pods_ready = False
    world.ask("rollback.g2@1")
    world.settle()
    world.target = replace(world.target, digest=digest("theirs"))
    world.rounds(2)
    assert world.update.status.phase == "RollingBack"
    assert world.condition("TargetsInSync").reason == "FieldConflict"


def test_a_refused_finalizer_does_not_hold_a_rollback_up() -> None:
    world = on_generation_two()
    world.refusing = {"finalizer": "WriteRefused"}
    world.ask("rollback.g2@1")
    world.rounds(3)
    assert world.target.number == 1
    assert world.generation(2).status.outcome == "RolledBack"
