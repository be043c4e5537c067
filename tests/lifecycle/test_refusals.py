"""Writes that quota, admission or missing rights refuse: reported, tried again slowly, no clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from lifecycle.world import World, two_targets_on_generation_one, with_generation_one

from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.state.observation import InvalidUpdate
from springtide_operator.lifecycle.state.observed import OWN_KEYS_TAKEN, Refusal
from springtide_operator.lifecycle.state.plan import Serve, StartJob

RANKER, RERANKER = "Deployment ranker", "Deployment reranker"


def rolling_out() -> World:
    """The target carries generation 2, and no pod of it gets ready."""
    world = with_generation_one()
    world.months.append("2025-03")
    world.pods_ready = False
    while world.target.number != 2:
        world.round()
    return world


@pytest.mark.survives(
    "Deployments",
    "admission, a quota or missing rights refuse the apply to one of two targets for four hours",
    "`ApplyRefused` in Stalled, ActionRequired and TargetsInSync with the message of the "
    "refusal; the deadline does not run, is written twice, and the rollout continues once the "
    "apply is accepted",
)
def test_a_refused_apply_pauses_the_deadline_and_is_reported_until_it_is_accepted() -> None:
    world = two_targets_on_generation_one()
    world.months.append("2025-03")
    world.refusing = {RERANKER: "ApplyRefused"}
    world.rounds(4)
    assert [t.number for t in world.targets.values()] == [2, 1]
    rollout = world.generation(2).status.rollout
    world.rounds(120)
    assert world.generation(2).status.rollout == rollout
    assert rollout.held_since
    for kind, status in (("Stalled", "True"), ("ActionRequired", "True"), ("Ready", "False")):
        found = world.condition(kind)
        assert found, kind
        assert (found.status, found.reason) == (status, "ApplyRefused")
        assert "is refused: quota" in found.message
    assert world.condition("TargetsInSync").reason == "ApplyRefused"

    world.refusing = {}
    world.rounds(3)
    assert [t.number for t in world.targets.values()] == [2, 2]
    assert world.generation(2).status.outcome == "Live"
    assert world.condition("Stalled") is None
    assert world.condition("ActionRequired").status == "False"


def test_a_refused_rollback_is_reported_and_done_once_it_is_accepted() -> None:
    world = rolling_out()
    world.refusing = {RANKER: "ApplyRefused"}
    world.rounds(60)
    assert world.target.number == 2
    assert world.update.status.phase == "RollingBack"
    assert world.condition("Stalled").reason == "ApplyRefused"
    world.refusing, world.pods_ready = {}, True
    world.rounds(3)
    assert world.target.number == 1
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.condition("Stalled") is None


def test_a_bake_is_watched_while_the_removal_of_the_finalizer_is_refused() -> None:
    world = rolling_out()
    world.edit(rollout={**world.spec["rollout"], "bake": {"duration": "1h"}})
    world.refusing = {"finalizer": "WriteRefused"}
    world.pods_ready = True
    world.rounds(2)
    assert world.generation(2).status.outcome == "Live"
    assert world.update.metadata.finalizers
    assert world.condition("ActionRequired").reason == "WriteRefused"
    world.crash_a_pod()
    for _ in range(12):
        world.now += timedelta(minutes=1)
        world.settle()
    assert "pods fail" in world.generation(2).status.rollout.rollback_reason
    assert world.target.number == 1


def test_no_rollout_starts_while_the_finalizer_is_refused() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.refusing = {"finalizer": "WriteRefused"}
    world.rounds(20)
    assert world.target.number == 1
    assert world.condition("ActionRequired").reason == "WriteRefused"
    world.refusing = {}
    world.rounds(3)
    assert world.target.number == 2


@pytest.mark.survives(
    "People",
    "an update is deleted during a rollout, and the apply of the rollback is refused permanently",
    "it is deleted after `rollout.deadline`; an Event names the Deployment and what stays on it",
)
def test_a_deleted_update_is_gone_although_its_rollback_is_refused_permanently() -> None:
    world = rolling_out()
    world.refusing = {RANKER: "ApplyRefused"}
    world._meta(deletion_timestamp=world.now)
    world.rounds(4)
    assert world.update.metadata.finalizers
    assert world.condition("Stalled").reason == "ApplyRefused"
    world.rounds(3)
    assert world.update.metadata.finalizers == ()
    assert "RollbackIncomplete" in world.events


@pytest.mark.survives(
    "People",
    "an update is deleted during a rollout while the operator is away for hours, and the apply of "
    "the rollback is refused for a few minutes",
    "the apply is repeated until it is accepted: the refusal counts from the first attempt",
)
def test_a_rollback_after_a_deletion_hours_ago_is_not_given_up_at_its_first_refusal() -> None:
    world = rolling_out()
    world.refusing = {RANKER: "ApplyRefused"}
    world._meta(deletion_timestamp=world.now)
    world.now += timedelta(hours=5)
    world.rounds(3)
    assert world.update.metadata.finalizers
    world.refusing = {}
    world.rounds(2)
    assert world.target.number == 1
    assert world.update.metadata.finalizers == ()
    assert "RollbackIncomplete" not in world.events


def test_a_refused_job_is_retried_after_its_pause_and_at_once_after_an_edit() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    tried: list[tuple] = []
    world.ask("run@1")
    world.refuse_jobs = lambda run: tried.append((world.now, run.job)) or True
    for _ in range(60):
        world.now += timedelta(seconds=5)
        world.settle()
    moments = [moment for moment, _ in tried]
    assert len(moments) > 3
    assert min(b - a for a, b in pairwise(moments)) >= timedelta(seconds=35)
    assert world.update.status.phase == "Queued"
    assert world.condition("Stalled").reason == "JobRefused"
    before = len(tried)
    world.edit(suspend=False)
    world.settle()
    assert len(tried) == before + 1


def test_a_refused_deletion_does_not_block_a_rollout() -> None:
    world = rolling_out()
    world.refuse_deletions = world.pods_ready = True
    world.rounds(4)
    assert world.generation(2).status.outcome == "Live"
    assert world.condition("ActionRequired").reason == "WriteRefused"
    world.refuse_deletions = False
    world.rounds(2)
    assert world.condition("ActionRequired").status == "False"


def test_a_refused_write_that_is_due_and_no_longer_needed_is_not_reported() -> None:
    world = with_generation_one()
    gone = Refusal("Job of yesterday", "JobRefused", "quota", world.now, world.now)
    seen = replace(world.seen(), refusals=(gone,))
    plan = decide(seen, world.now)
    assert plan.status.conditions == world.update.status.conditions


def test_labels_that_another_client_owns_are_applied_by_force_at_the_observed_version() -> None:
    world = with_generation_one()
    world.target = replace(world.target, digest=None, number=None, version="77")
    again_at = world.now + timedelta(seconds=30)
    taken = Refusal(RANKER, OWN_KEYS_TAKEN, "conflict", again_at, world.now)
    plan = decide(replace(world.seen(), refusals=(taken,)), world.now)
    (serve,) = (a for a in plan.actions if isinstance(a, Serve))
    assert serve.force_at_version == "77"
    world.target = replace(world.target, foreign_manager="kubectl")
    plan = decide(replace(world.seen(), refusals=(taken,)), world.now)
    assert not any(isinstance(a, Serve) for a in plan.actions)
    assert any(c.reason == "FieldConflict" for c in plan.status.conditions)


def test_an_invalid_update_keeps_its_status_and_reports_what_is_wrong() -> None:
    world = with_generation_one()
    update = world.update
    seen = InvalidUpdate(update.metadata, update.status, ("spec.gate: is missing",))
    plan = decide(seen, world.now)
    assert plan.actions == ()
    assert plan.status.phase == "Invalid"
    assert plan.status.progress.waiting_for == "spec.gate: is missing; change it"
    assert plan.status.live == update.status.live
    said = {c.type: c for c in plan.status.conditions}
    assert said["Stalled"].message == "spec.gate: is missing; change it"
    assert (said["Ready"].status, said["ActionRequired"].status) == ("False", "True")
    assert said["Serving"] == world.condition("Serving")


def test_the_same_refusal_gives_the_same_plan_without_any_write() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.refusing = {RANKER: "ApplyRefused"}
    world.rounds(4)
    plan = world.settle()
    assert not any(isinstance(a, StartJob | Serve) for a in plan.actions)
    assert plan.wake_after is not None
    assert timedelta(0) < plan.wake_after <= timedelta(seconds=35)


def rolling_out_on_two_targets() -> World:
    """Both targets carry generation 2, and no pod of it gets ready."""
    world = two_targets_on_generation_one()
    world.months.append("2025-03")
    world.pods_ready = False
    while [target.number for target in world.targets.values()] != [2, 2]:
        world.round()
    return world


@pytest.mark.parametrize("refused", [RANKER, RERANKER])
def test_a_rollback_refused_on_one_target_completes_on_the_other(refused: str) -> None:
    world = rolling_out_on_two_targets()
    world.refusing = {refused: "ApplyRefused"}
    world.rounds(10)
    for name, target in world.targets.items():
        assert target.number == (2 if f"Deployment {name}" == refused else 1)
    assert world.condition("ActionRequired").reason == "ApplyRefused"


@pytest.mark.parametrize("refused", [RANKER, RERANKER])
def test_a_deleted_update_rolls_back_every_target_whose_apply_is_accepted(refused: str) -> None:
    world = rolling_out_on_two_targets()
    world.refusing = {refused: "ApplyRefused"}
    world._meta(deletion_timestamp=world.now)
    world.now += timedelta(hours=1)  # the operator was down until now
    world.rounds(2)
    for name, target in world.targets.items():
        assert target.number == (2 if f"Deployment {name}" == refused else 1)
    world.rounds(5)  # longer than rollout.deadline after the first refusal
    assert world.update.metadata.finalizers == ()


@pytest.mark.parametrize("refused", [RANKER, RERANKER])
def test_removed_fields_are_applied_again_on_the_target_that_accepts_it(refused: str) -> None:
    world = two_targets_on_generation_one()
    for name, target in world.targets.items():
        world.targets[name] = replace(target, digest=None, number=None, uri=None)
    world.refusing = {refused: "ApplyRefused"}
    world.rounds(3)
    for name, target in world.targets.items():
        assert target.number == (None if f"Deployment {name}" == refused else 1)


@pytest.mark.survives(
    "People",
    "a quota of Jobs refuses the probe that a request asks for, while another probe uses the quota",
    "`JobRefused` until the other probe is read and deleted; then the request is handled",
)
def test_a_request_whose_job_a_quota_refuses_does_not_block_what_would_free_the_quota() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    while not any(job.stage == "probe" for job in world.jobs.values()):
        world.now += timedelta(minutes=1)
        world.settle()
    world.refuse_jobs = lambda run: len(world.jobs) >= 1
    world.ask("run@1")
    world.settle()
    assert world.condition("ActionRequired").reason == "JobRefused"
    world.rounds(12)
    assert world.update.status.live.number == 2
    assert world.update.status.last_request.token == "1"


def test_serving_does_not_wait_for_the_adoption_whose_deletion_is_refused() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    while not any(job.stage == "train" for job in world.jobs.values()):
        world.now += timedelta(minutes=2)
        world.settle()
        world.complete_jobs()
        world.settle()
    world.refuse_deletions = True
    world.recreate(cascade=False)
    world.settle()
    world.target = replace(world.target, digest=None, number=None, uri=None)
    world.settle()
    assert world.target.number == 1
    assert world.condition("ActionRequired").reason == "WriteRefused"


@pytest.mark.survives(
    "API server",
    "the API server's clock is set back by an hour while a refused apply holds a rollout",
    "the apply is repeated within two minutes, and the promotion is still the newest",
)
def test_a_clock_that_is_set_back_blocks_no_refused_write_and_loses_no_promotion() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.refusing = {RANKER: "ApplyRefused"}
    world.rounds(4)
    world.now -= timedelta(hours=1)
    world.refusing = {}
    world.round()
    assert world.generation(2).status.outcome == "Live"
    world.rounds(2)
    assert (world.target.number, world.update.status.live.number) == (2, 2)
