"""What an update does to Deployments, and what it leaves to others."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.declared import SPEC, TWO_TARGETS
from lifecycle.world import (
    World,
    digest,
    end_of,
    two_targets_on_generation_one,
    with_generation_one,
)


def stuck_in_a_roll() -> World:
    """A world whose second generation rolls out, and whose new pods do not get ready."""
    world = World()
    world.target = replace(world.target, template=digest("owner's"))
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(8)
    world.pods_ready = False
    world.months.append("2025-03")
    while world.target.number != 2:
        world.turn()
    return world


@pytest.mark.survives(
    "Deployments",
    "new pods never become ready",
    "every target is rolled back to the live generation at the deadline",
)
def test_pods_that_never_get_ready_send_every_target_back_and_live_stays() -> None:
    world = with_generation_one()
    live = world.served[-1]
    world.pods_ready = False
    world.months.append("2025-03")
    world.turns(10)
    second = world.generation(2)

    assert "0 of 2 new pods available; after 10m" in second.status.rollout.rollback_reason
    assert world.served[-1] == live
    world.pods_ready = True
    world.turns(2)
    assert world.generation(2).status.rollout.rolled_back_at is not None
    assert world.update.status.live.name == "shop-g1"
    assert world.update.status.cursor.trained_through == end_of("2025-01")


def test_pods_are_no_new_ones_before_the_controller_has_seen_the_new_template() -> None:
    world = stuck_in_a_roll()
    world.target = replace(world.target, updated=2, available=2, old=0, settled=False)
    world.turns(10)
    assert "0 of 2 new pods available; after" in world.generation(2).status.rollout.rollback_reason


@pytest.mark.survives(
    "Deployments",
    "another client changes the pod template (for example the image) during a rollout, and the "
    "pods of the changed template do not become ready",
    "`FieldConflict` names the client; nothing is written, promoted or rolled back, however "
    "long it takes; once they are ready, or the change is undone, the rollout continues with "
    "the time that was left",
)
@pytest.mark.parametrize("undone", [False, True])
def test_a_template_that_is_changed_during_a_roll_holds_it(undone: bool) -> None:
    world = stuck_in_a_roll()
    served, due = list(world.served), world.generation(2).status.rollout.deadline
    world.target = replace(world.target, template=digest("another"), changed_by="kubectl-set")
    world.settle()
    changed_at = world.now
    world.turns(60)
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
        world.turns(10)
        assert world.generation(2).status.rollout.rollback_reason
    else:
        world.pods_ready = True
        world.turns(2)
        rollout = world.generation(2).status.rollout
        assert rollout.promoted_at
        assert rollout.targets[0].template == digest("another")
    assert world.target.template == (digest("owner's") if undone else digest("another"))
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert sync.status == "True"


@pytest.mark.parametrize(
    "change",
    [{"foreign_manager": "helm"}, {"digest": digest("theirs")}, {"uid": ""}, {"paused": True}],
    ids=["taken", "set", "deleted", "paused"],
)
def test_time_in_which_a_roll_cannot_go_on_is_given_back_to_it(change: dict) -> None:
    world = stuck_in_a_roll()
    before, due = world.target, world.generation(2).status.rollout.deadline
    world.target = replace(world.target, **change)
    world.settle()
    held_at = world.now
    world.turns(60)
    assert world.generation(2).status.rollout.rollback_reason == ""
    world.target = before
    world.settle()
    assert world.generation(2).status.rollout.deadline == due + (world.now - held_at)
    world.pods_ready = True
    world.turns(2)
    assert world.generation(2).status.rollout.promoted_at


def test_a_changed_template_that_lost_our_variables_gets_them_before_it_is_waited_for() -> None:
    world = stuck_in_a_roll()
    lost = {"digest": None, "number": None}
    world.target = replace(world.target, template=digest("another"), **lost)
    world.settle()
    assert world.target.number == 2
    assert world.generation(2).status.rollout.held_since


@pytest.mark.survives(
    "Deployments",
    "the first rollout fails",
    "our fields are removed; the Deployment runs what it ran before",
)
def test_a_first_roll_that_fails_withdraws_our_fields() -> None:
    world = World()
    world.pods_ready = False
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(14)

    assert world.generation(1).status.rollout.rollback_reason
    assert world.target.digest is None


@pytest.mark.survives(
    "Deployments",
    "at rest a change of the template by its owner rolls out, and its pods do not become ready",
    "`Serving` stays True and has the number of available pods and of new ones",
)
def test_a_roll_of_the_owner_that_is_stuck_is_told_apart_from_serving_pods() -> None:
    world = with_generation_one()
    world.target = replace(world.target, updated=1, available=2, old=2, ready=0)
    world.settle()
    serving = next(c for c in world.update.status.conditions if c.type == "Serving")
    assert (serving.status, serving.reason) == ("True", "PartiallyAvailable")
    assert "2 of 2 pods available, 0 of them of its newest template" in serving.message


def test_a_deployment_of_another_update_is_left_alone() -> None:
    world = World()
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
    assert (sync.status, sync.reason) == ("False", "FieldsRemoved")
    assert "exclude MODEL_URI and MODEL_DIGEST there; they are applied again at 13:" in sync.message


def test_a_foreign_value_is_never_overwritten() -> None:
    world = with_generation_one()
    served = list(world.served)
    world.target = replace(world.target, digest=digest("theirs"))
    world.months.append("2025-03")
    world.turns(4)
    assert world.served == served
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert sync.reason == "FieldConflict"


def test_whoever_set_our_variables_reads_how_to_hand_them_over() -> None:
    world = with_generation_one()
    world.target = replace(world.target, foreign_manager="kubectl-rollout")
    world.settle()
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert sync.reason == "FieldConflict"
    assert "kubectl-rollout sets MODEL_URI or MODEL_DIGEST" in sync.message
    assert (
        "kubectl set env deployment/ranker --containers=server MODEL_URI- MODEL_DIGEST-"
        in sync.message
    )


def test_a_foreign_value_that_is_no_digest_is_told_all_the_same() -> None:
    world = with_generation_one()
    world.target = replace(world.target, digest="mine")
    world.settle()
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert sync.reason == "FieldConflict"
    assert "carries mine" in sync.message
    assert world.update.status.targets[0].digest is None


def test_a_roll_that_goes_back_names_the_time_that_it_was_given_not_an_edited_one() -> None:
    world = stuck_in_a_roll()
    world.edit(rollout={**world.spec["rollout"], "deadline": "2h"})
    world.turns(8)
    reason = world.generation(2).status.rollout.rollback_reason
    assert "after 10m (rollout.deadline)" in reason


def until_start(world: World, number: int) -> None:
    """Go on to the write that begins a roll, and no further."""
    name = f"shop-g{number}"
    while not (
        name in world.generations and world.generation(number).status.rollout.step_started_at
    ):
        world.now += timedelta(seconds=5)
        world.run_jobs()
        world.step()


@pytest.mark.survives(
    "Operator",
    "it is down for longer than `rollout.deadline` after the start of a rollout was recorded, "
    "before the first apply or between two",
    "the deadline starts again with the apply: the new pods get all of it",
)
@pytest.mark.parametrize("applied", [0, 1])
def test_a_roll_whose_apply_comes_late_has_its_whole_time_from_then_on(applied: int) -> None:
    world = two_targets_on_generation_one()
    world.months.append("2025-03")
    until_start(world, 2)
    world.step()  # the finalizer
    world.die(applied)
    assert [t.number for t in world.targets.values()].count(2) == applied
    world.now += timedelta(minutes=11)
    world.pods_ready = False
    world.settle()
    assert [t.number for t in world.targets.values()] == [2, 2]
    assert world.generation(2).status.rollout.deadline == world.now + timedelta(minutes=10)
    world.turns(4)
    assert world.generation(2).status.rollout.rollback_reason == ""
    world.turns(1)
    assert "after 10m (rollout.deadline)" in world.generation(2).status.rollout.rollback_reason


def test_a_change_of_the_owner_before_the_late_apply_is_what_the_roll_begins_with() -> None:
    world = World()
    world.target = replace(world.target, template=digest("owner's"))
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(8)
    world.months.append("2025-03")
    until_start(world, 2)
    world.now += timedelta(minutes=11)
    world.target = replace(world.target, template=digest("another"), available=0, updated=0)
    world.settle()
    assert world.target.number == 2
    assert world.generation(2).status.rollout.targets[0].template == digest("another")
    world.turns(2)
    assert world.generation(2).status.rollout.promoted_at


def test_a_roll_whose_apply_follows_at_once_is_begun_by_one_write() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    until_start(world, 2)
    began = world.generation(2)
    while world.target.number != 2:
        world.step()
    assert world.generation(2) == began


def test_a_rollout_whose_fields_are_removed_again_and_again_waits_and_is_not_to_blame() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.pods_ready = False
    while world.target.number != 2:
        world.turn()
    due = world.generation(2).status.rollout.deadline
    for _ in range(3):
        world.target = replace(world.target, digest=None, number=None)
        world.now += timedelta(minutes=2)
        world.settle()
    assert world.generation(2).status.rollout.deadline == due
    world.target = replace(world.target, digest=None, number=None)
    world.turns(8)
    assert world.generation(2).status.rollout.held_since
    assert world.generation(2).status.rollout.rollback_reason == ""
    assert world.condition("ActionRequired").reason == "FieldsRemoved"
    world.pods_ready = True
    world.turns(30)
    assert world.generation(2).status.outcome == "Live"


@pytest.mark.survives(
    "Deployments",
    "a Deployment is removed from `rollout.targets` during a rollout that is rolled back, and "
    "added again later",
    "it is rolled back with the others, without a `FieldConflict`, and the next rollout "
    "includes it",
)
def test_a_target_that_left_the_spec_during_a_rollout_is_rolled_back_with_the_others() -> None:
    world = two_targets_on_generation_one()
    rollout = world.spec["rollout"]
    world.months.append("2025-03")
    world.pods_ready = False
    while world.targets["reranker"].number != 2:
        world.turn()
    world.edit(rollout={**rollout, "targets": rollout["targets"][:1]})
    world.turns(6)
    world.pods_ready = True
    world.turns(2)
    assert [t.number for t in world.targets.values()] == [1, 1]
    assert world.generation(2).status.rollout.rolled_back_at

    told = len(world.events)
    world.edit(rollout=rollout)
    world.turns(1)
    assert "FieldConflict" not in world.events[told:]
    world.months.append("2025-04")
    world.turns(6)
    assert [t.number for t in world.targets.values()] == [3, 3]


def test_a_target_that_left_the_spec_where_nothing_is_live_loses_what_we_put_there() -> None:
    world = World(spec={**SPEC, **TWO_TARGETS})
    world.pods_ready = False
    world.settle()
    world.months = ["2025-01", "2025-02"]
    rollout = world.spec["rollout"]
    while world.targets["reranker"].number != 1:
        world.turn()
    world.edit(rollout={**rollout, "targets": rollout["targets"][:1]})
    world.turns(8)
    assert [t.digest for t in world.targets.values()] == [None, None]


def test_what_somebody_else_set_to_an_older_digest_of_ours_stays() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.turns(8)
    first = world.generation(1).status.artifact.served_digest
    world.target = replace(world.target, digest=first, number=1, foreign_manager="kubectl-rollout")
    world.turns(2)
    assert world.target.digest == first
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert sync.reason == "FieldConflict"


def test_a_target_that_left_the_spec_and_another_client_changed_is_left_alone() -> None:
    world = two_targets_on_generation_one()
    rollout = world.spec["rollout"]
    world.months.append("2025-03")
    world.pods_ready = False
    while world.targets["reranker"].number != 2:
        world.turn()
    world.edit(rollout={**rollout, "targets": rollout["targets"][:1]})
    world.targets["reranker"] = replace(world.targets["reranker"], foreign_manager="helm")
    world.turns(6)
    world.pods_ready = True
    world.turns(2)
    assert [t.number for t in world.targets.values()] == [1, 2]
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_deleted_update_takes_back_a_target_that_left_the_spec_during_the_rollout() -> None:
    world = two_targets_on_generation_one()
    rollout = world.spec["rollout"]
    world.months.append("2025-03")
    world.pods_ready = False
    while world.targets["reranker"].number != 2:
        world.turn()
    world.edit(rollout={**rollout, "targets": rollout["targets"][:1]})
    world._meta(deletion_timestamp=world.now)
    world.turns(3)
    assert [t.number for t in world.targets.values()] == [1, 1]
    assert world.update.metadata.finalizers == ()


@pytest.mark.parametrize("waits_for", ["suspend", "the other target"])
def test_removed_fields_come_back_while_an_accepted_generation_waits(waits_for: str) -> None:
    world = World(spec={**SPEC, **TWO_TARGETS})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(8)
    world.months.append("2025-03")
    world.pods_ready = False
    world.targets["ranker"] = replace(world.targets["ranker"], complete=False)
    world.turns(8)
    if waits_for == "suspend":
        world.edit(suspend=True)
        world.targets["ranker"] = replace(world.targets["ranker"], complete=True)
        world.settle()
    assert world.generation(2).status.phase == "Accepted"
    target = world.targets["reranker"]
    world.targets["reranker"] = replace(target, digest=None, number=None, uri=None)
    world.settle()
    assert [each.number for each in world.targets.values()] == [1, 1]
    assert world.generation(2).status.phase == "Accepted"


@pytest.mark.survives(
    "Deployments",
    "the pods of the live generation crash after its fields were removed and applied again",
    "the next generation rolls out, because the owner changed nothing",
)
def test_pods_of_live_that_crash_after_a_restore_do_not_hold_the_fix() -> None:
    world = World()
    world.target = replace(world.target, template=digest("owner's"))
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(8)
    world.pods_ready = False
    world.target = replace(world.target, digest=None, number=None, uri=None)
    world.settle()
    world.target = replace(world.target, stalled="ProgressDeadlineExceeded")
    world.months.append("2025-03")
    world.turns(5)
    assert world.target.number == 2


def test_an_unfinished_change_of_a_paused_target_asks_to_resume_it() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.pods_ready = False
    world.target = replace(world.target, complete=False, paused=True)
    world.turns(8)
    assert world.target.number == 1
    assert world.condition("ActionRequired").reason == "TargetPaused"
    assert world.generation(2).status.phase == "Accepted"


def test_a_rollback_takes_no_deployment_that_another_update_claims() -> None:
    world = stuck_in_a_roll()
    while not world.generation(2).status.rollout.rollback_reason:
        world.now += timedelta(minutes=1)
        world.step()
    targets = [{"targetRef": {"name": n}, "container": "server"} for n in ("ranker", "reranker")]
    world.edit(rollout={"targets": targets, "deadline": "10m"})
    world.bring_target("reranker")
    world.targets["reranker"] = theirs = replace(world.targets["reranker"], claimed_by="another")
    world.pods_ready = True
    world.turns(3)
    assert world.targets["reranker"] == theirs
    assert world.target.number == 1
    assert world.condition("Stalled").reason == "TargetClaimed"


@pytest.mark.parametrize("changed", ["ranker", "reranker"])
def test_a_rollback_holds_only_the_target_that_another_client_set(changed: str) -> None:
    world = World(spec={**SPEC, **TWO_TARGETS})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(8)
    world.months.append("2025-03")
    world.pods_ready = False
    while not any(g.status.rollout.rollback_reason for g in world.generations.values()):
        world.now += timedelta(minutes=1)
        world.run_jobs()
        world.step()
    world.targets[changed] = replace(world.targets[changed], digest=digest("theirs"))
    world.pods_ready = True
    world.turns(3)
    other = next(name for name in world.targets if name != changed)
    assert (world.targets[other].number, world.targets[changed].digest) == (1, digest("theirs"))
    assert world.condition("TargetsInSync").reason == "FieldConflict"
    assert world.update.status.phase == "RollingBack"


@pytest.mark.survives(
    "Deployments",
    "after a rollback the pods of the live generation crash, too",
    "the rollback ends once the Deployment itself reports no progress, so that the next generation "
    "can be trained and served",
)
def test_a_rollback_ends_although_the_pods_of_live_never_get_available() -> None:
    world = stuck_in_a_roll()
    world.turns(8)
    assert (world.target.number, world.update.status.phase) == (1, "RollingBack")
    world.target = replace(world.target, stalled="ProgressDeadlineExceeded")
    world.turns(8)
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.condition("Serving").status == "False"
    world.months.append("2025-04")
    world.pods_ready = True
    world.turns(8)
    assert world.update.status.live.number == 3


def on_one_target_of_two() -> World:
    """A rollout of generation 2 to ranker; reranker is there and was no target when it began."""
    world = stuck_in_a_roll()
    both = [{"targetRef": {"name": n}, "container": "server"} for n in ("ranker", "reranker")]
    world.edit(rollout={"targets": both, "deadline": "10m"})
    world.bring_target("reranker")
    world.settle()
    assert world.targets["reranker"].number == 2
    return world


@pytest.mark.survives(
    "Deployments",
    "a Deployment becomes a target during a rollout and leaves the spec again before its end",
    "it is rolled back with the others",
)
def test_a_target_that_came_and_went_during_a_rollout_is_rolled_back() -> None:
    world = on_one_target_of_two()
    world.edit(rollout={"targets": world.spec["rollout"]["targets"][:1], "deadline": "10m"})
    world.turns(8)
    assert world.generation(2).status.rollout.rollback_reason
    assert [target.number for target in world.targets.values()] == [1, 1]


@pytest.mark.survives(
    "Deployments",
    "it is paused during a rollout while the operator is away, for longer than the deadline",
    "once it is resumed, the rollout has its full deadline again, because the time left is not "
    "known",
)
def test_a_pause_while_the_operator_was_away_takes_no_time_from_a_rollout() -> None:
    world = stuck_in_a_roll()
    world.target = replace(world.target, paused=True)
    world.now += timedelta(hours=2)
    world.settle()
    world.target = replace(world.target, paused=False)
    world.turn()
    rollout = world.generation(2).status.rollout
    assert not rollout.rollback_reason
    assert timedelta(minutes=5) < rollout.deadline - world.now <= timedelta(minutes=10)
    world.turns(8)
    assert world.generation(2).status.outcome in {"", "RolledBack"}
    assert world.target.number == 1
