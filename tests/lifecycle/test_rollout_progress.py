"""How a rollout progresses: its deadline, and what pauses it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from lifecycle.canary_scenes import started
from lifecycle.world import (
    World,
    digest,
    stuck_in_a_rollout,
    two_targets_on_generation_one,
    with_generation_one,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Begun = Callable[[], World]


STALLED = 'ReplicaSet "ranker-5d4f" has timed out progressing.'


def retried() -> World:
    """A failed rollout is retried while pods of live make no progress: its ReplicaSet is there."""
    world = stuck_in_a_rollout()
    world.target = replace(world.target, trouble="image pull failed: registry/server:2 not found")
    world.rounds(8)
    world.pods_ready, world.target = True, replace(world.target, trouble="")
    world.rounds(2)
    assert world.generation(2).status.outcome == "RolloutFailed"
    world.target = replace(world.target, complete=False, stalled=STALLED, stalled_at=world.now)
    world.pods_ready = False
    world.now += timedelta(minutes=1)
    world.ask("retry.g2@1")
    world.settle()
    assert world.target.number == 2
    return _as_before(world)


def undone() -> World:
    """The template was changed to one whose pods made no progress, and the change was undone."""
    world = stuck_in_a_rollout()
    world.target = replace(world.target, template=digest("another"))
    world.rounds(6)
    world.target = replace(world.target, stalled=STALLED, stalled_at=world.now)
    world.round()
    world.target = replace(world.target, template=digest("owner's"))
    return _as_before(world)


def _as_before(world: World) -> World:
    """The Deployment controller has seen the template, and keeps the report for now."""
    at = world.now - timedelta(minutes=2)
    world.target = replace(world.target, settled=True, stalled=STALLED, stalled_at=at)
    world.settle()
    return world


def test_pods_are_not_new_before_the_controller_has_observed_the_new_template() -> None:
    world = stuck_in_a_rollout()
    world.target = replace(world.target, updated=2, available=2, old=0, settled=False)
    world.rounds(10)
    assert "0 of 2 new pods available after" in world.generation(2).status.rollout.rollback_reason


@pytest.mark.parametrize("begun", [stuck_in_a_rollout, lambda: started(ready=False)])
def test_a_clock_that_is_set_back_prolongs_no_rollout_whose_pods_fail(begun: Begun) -> None:
    world = begun()
    world.now -= timedelta(days=1)
    world.rounds(10)
    reason = world.generation(2).status.rollout.rollback_reason
    assert "pods available after 10m (rollout.deadline)" in reason


def test_a_clock_that_is_set_back_prolongs_no_rollback_whose_pods_make_no_progress() -> None:
    world = stuck_in_a_rollout()
    while not world.generation(2).status.rollout.rollback_reason:
        world.round()
    world.settle()
    world.now -= timedelta(days=1)
    world.target = replace(world.target, stalled="ProgressDeadlineExceeded")
    world.rounds(10)
    assert world.generation(2).status.outcome == "RolledBack"


@pytest.mark.survives(
    "Deployments",
    "another client changes the pod template (for example the image) during a rollout, and the "
    "pods of the changed template do not become ready",
    "`FieldConflict` names the client; nothing is written, promoted or rolled back, however "
    "long it takes; once they are ready, or the change is undone, the rollout continues with "
    "the time that was left",
)
@pytest.mark.parametrize("undone", [False, True])
def test_a_template_changed_during_a_rollout_pauses_it(undone: bool) -> None:
    world = stuck_in_a_rollout()
    served, due = list(world.served), world.generation(2).status.rollout.deadline
    world.target = replace(world.target, template=digest("another"), changed_by="kubectl-set")
    world.settle()
    changed_at = world.now
    world.rounds(60)
    rollout = world.generation(2).status.rollout
    assert (rollout.promoted_at, rollout.rollback_reason, world.served) == (None, "", served)
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert (sync.status, sync.reason) == ("False", "FieldConflict")
    assert "its pod template was changed by kubectl-set while shop-g2 rolls out" in sync.message

    held = world.now - changed_at
    if undone:
        world.target = replace(world.target, template=digest("owner's"))
        world.settle()
        rollout = world.generation(2).status.rollout
        assert (rollout.deadline, rollout.held_since) == (due + held, None)
        world.rounds(10)
        assert world.generation(2).status.rollout.rollback_reason
    else:
        world.pods_ready = True
        world.rounds(2)
        rollout = world.generation(2).status.rollout
        assert rollout.promoted_at
        assert rollout.targets[0].template == digest("another")
    assert world.target.template == (digest("owner's") if undone else digest("another"))
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert sync.status == "True"


@pytest.mark.survives(
    "Deployments",
    "`retry.g<number>`, or a change of the template that was undone, brings back a template whose "
    "Deployment still reports that pods of another one make no progress",
    "the report is not about this rollout: it goes on until its own deadline, or a new report",
)
@pytest.mark.parametrize("begun", [retried, undone])
def test_an_earlier_report_of_no_progress_fails_no_rollout(begun: Begun) -> None:
    world = begun()
    assert world.generation(2).status.rollout.rollback_reason == ""
    assert world.target.stalled
    at = world.now
    world.target = replace(world.target, stalled_at=at + timedelta(minutes=1))
    world.round()
    assert "has timed out" in world.generation(2).status.rollout.rollback_reason


def test_without_a_new_report_a_rollout_fails_at_its_deadline() -> None:
    world = retried()
    world.rounds(10)
    reason = world.generation(2).status.rollout.rollback_reason
    assert "after 10m (rollout.deadline)" in reason


@pytest.mark.parametrize(
    "change",
    [{"foreign_manager": "helm"}, {"digest": digest("theirs")}, {"uid": ""}, {"paused": True}],
    ids=["taken", "set", "deleted", "paused"],
)
def test_time_in_which_a_rollout_is_paused_extends_its_deadline(change: dict) -> None:
    world = stuck_in_a_rollout()
    before, due = world.target, world.generation(2).status.rollout.deadline
    world.target = replace(world.target, **change)
    world.settle()
    held_at = world.now
    world.rounds(60)
    assert world.generation(2).status.rollout.rollback_reason == ""
    world.target = before
    world.settle()
    assert world.generation(2).status.rollout.deadline == due + (world.now - held_at)
    world.pods_ready = True
    world.rounds(2)
    assert world.generation(2).status.rollout.promoted_at


@pytest.mark.survives(
    "Deployments",
    "at rest a change of the template by its owner rolls out, and its pods do not become ready",
    "`Serving` stays True and has the number of available pods and of new ones",
)
def test_a_stuck_rollout_of_the_owner_is_distinguished_from_serving_pods() -> None:
    world = with_generation_one()
    world.target = replace(world.target, updated=1, available=2, old=2, ready=0)
    world.settle()
    serving = next(c for c in world.update.status.conditions if c.type == "Serving")
    assert (serving.status, serving.reason) == ("True", "PartiallyAvailable")
    assert "2 of 2 pods available, 0 of them of its newest template" in serving.message


def test_a_rollout_whose_target_has_available_pods_does_not_end_serving() -> None:
    world = stuck_in_a_rollout()
    assert world.condition("Serving").reason == "NotAvailable"
    world.target = replace(world.target, available=2, old=2, ready=0)
    world.settle()
    serving = world.condition("Serving")
    assert (serving.status, serving.reason) == ("True", "RollingOut")
    assert serving.message == (
        "Deployment ranker has available pods; the rollout of shop-g2 is not finished"
    )


def until_start(world: World, number: int) -> None:
    """Go on to the write that begins a roll, and no further."""
    name = f"shop-g{number}"
    while not (
        name in world.generations and world.generation(number).status.rollout.step_started_at
    ):
        world.now += timedelta(seconds=5)
        world.complete_jobs()
        world.step()


@pytest.mark.survives(
    "Operator",
    "it is down for longer than `rollout.deadline` after the start of a rollout was recorded, "
    "before the first apply or between two",
    "the deadline starts again with the apply: the new pods get all of it",
)
@pytest.mark.parametrize("applied", [0, 1])
def test_a_rollout_with_a_late_apply_has_its_whole_deadline_from_then_on(applied: int) -> None:
    world = two_targets_on_generation_one()
    world.months.append("2025-03")
    until_start(world, 2)
    world.step()  # the finalizer
    world.crash_after(applied)
    assert [t.number for t in world.targets.values()].count(2) == applied
    world.now += timedelta(minutes=11)
    world.pods_ready = False
    world.settle()
    assert [t.number for t in world.targets.values()] == [2, 2]
    assert world.generation(2).status.rollout.deadline == world.now + timedelta(minutes=10)
    world.rounds(4)
    assert world.generation(2).status.rollout.rollback_reason == ""
    world.rounds(1)
    assert "after 10m (rollout.deadline)" in world.generation(2).status.rollout.rollback_reason


def test_a_rollout_with_a_late_apply_starts_from_the_owners_changed_template() -> None:
    world = World()
    world.target = replace(world.target, template=digest("owner's"))
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    world.months.append("2025-03")
    until_start(world, 2)
    world.now += timedelta(minutes=11)
    world.target = replace(world.target, template=digest("another"), available=0, updated=0)
    world.settle()
    assert world.target.number == 2
    assert world.generation(2).status.rollout.targets[0].template == digest("another")
    world.rounds(2)
    assert world.generation(2).status.rollout.promoted_at


def test_a_rollout_whose_apply_follows_at_once_is_started_by_one_write() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    until_start(world, 2)
    began = world.generation(2)
    while world.target.number != 2:
        world.step()
    assert world.generation(2) == began


def test_an_unfinished_change_of_a_paused_target_asks_to_resume_it() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.pods_ready = False
    world.target = replace(world.target, complete=False, paused=True)
    world.rounds(8)
    assert world.target.number == 1
    assert world.condition("ActionRequired").reason == "TargetPaused"
    assert world.generation(2).status.phase == "Accepted"


@pytest.mark.survives(
    "Deployments",
    "it is paused during a rollout while the operator is away, for longer than the deadline",
    "once it is resumed, the rollout has its full deadline again, because the time left is not "
    "known",
)
def test_a_pause_while_the_operator_was_down_does_not_count_for_the_deadline() -> None:
    world = stuck_in_a_rollout()
    world.target = replace(world.target, paused=True)
    world.now += timedelta(hours=2)
    world.settle()
    world.target = replace(world.target, paused=False)
    world.round()
    rollout = world.generation(2).status.rollout
    assert not rollout.rollback_reason
    assert timedelta(minutes=5) < rollout.deadline - world.now <= timedelta(minutes=10)
    world.rounds(8)
    assert world.generation(2).status.outcome in {"", "RolledBack"}
    assert world.target.number == 1
