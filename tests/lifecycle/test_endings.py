"""How things end: history and weights are collected, updates deleted, waiting pods given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.declared import SPEC, TWO_TARGETS
from lifecycle.world import MONTHS, World, digest

from springtide_api.names import FINALIZER
from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.state.observed import ObservedPod
from springtide_operator.lifecycle.state.plan import SetFinalizer, StartJob


def after_promotions(count: int, **history: int) -> World:
    world = World()
    world.edit(history=history)
    world.settle()
    world.months = MONTHS[:2]
    world.turns(8)
    for month in MONTHS[2 : count + 1]:
        world.months = [*world.months, month]
        world.turns(8)
    return world


def test_generations_beyond_the_history_go_with_their_weights_first() -> None:
    world = after_promotions(5, generations=2)
    left = sorted(g.spec.number for g in world.generations.values())

    assert left == [0, 4, 5]
    collected = [s.run.collect.delete for s in world.runs.values() if s.run.stage == "collect"]
    assert len(collected) == 3
    assert all(any("/artifacts/" in path for path in paths) for paths in collected)


def test_reports_go_with_their_generation_those_of_earlier_attempts_included() -> None:
    world = after_promotions(1, generations=2)
    world.months = MONTHS[:3]
    while not any("-g2-evaluate-1" in name for name in world.jobs):
        world.turn()
    world.fail(next(name for name in world.jobs if "-g2-evaluate-1" in name), 137)
    world.turns(8)
    for month in MONTHS[3:6]:
        world.months = [*world.months, month]
        world.turns(8)

    assert "shop-g2" not in world.generations
    (run,) = (s.run for s in world.runs.values() if s.run.collect and s.run.number == 2)
    reports = [path for path in run.collect.delete if "/reports/" in path]
    assert [path.rpartition("-")[2] for path in reports] == ["1", "2"]
    assert all(path.startswith("/models/search/shop/reports/shop-") for path in reports)


def test_a_report_outside_the_updates_folder_is_not_asked_for() -> None:
    world = after_promotions(2, generations=2)
    name = "shop-g1"
    first = world.generations[name]
    elsewhere = {"report": "file:///models/search/another/reports/x"}
    evaluation = first.status.evaluation.model_copy(update=elsewhere)
    status = first.status.model_copy(update={"evaluation": evaluation})
    world.generations[name] = first.model_copy(update={"status": status})
    for month in MONTHS[3:6]:
        world.months = [*world.months, month]
        world.turns(8)

    assert name not in world.generations
    collected = [p for s in world.runs.values() if s.run.collect for p in s.run.collect.delete]
    assert not [path for path in collected if "/another/" in path]


def test_frozen_rows_stay_while_a_descendant_is_judged_on_them() -> None:
    world = after_promotions(4, generations=2)
    named = set(world.generation(4).spec.data.historical)
    deleted = {
        f"file://{path}"
        for start in world.runs.values()
        if start.run.collect
        for path in start.run.collect.delete
    }
    assert named
    assert not named & deleted


@pytest.mark.survives(
    "Deployments",
    "`kubectl rollout undo` may still go back to an old model",
    "its weights are kept as long as a ReplicaSet names them",
)
def test_weights_that_a_replica_set_still_names_are_kept() -> None:
    world = after_promotions(2, generations=1)
    first = world.generation(1).status.artifact.served_digest
    world.target = replace(world.target, named=frozenset({first}))
    for month in MONTHS[3:6]:
        world.months = [*world.months, month]
        world.turns(8)
    assert "shop-g1" in world.generations


@pytest.mark.survives(
    "Deployments",
    "a Deployment is taken out of `rollout.targets`",
    "it keeps what it serves, and the weights of that stay until it is let go",
)
def test_weights_that_a_target_of_before_still_names_are_kept() -> None:
    world = after_promotions(2, generations=1)
    first = world.generation(1).status.artifact.served_digest
    world.digests_elsewhere = frozenset({first})
    for month in MONTHS[3:6]:
        world.months = [*world.months, month]
        world.turns(8)
    assert "shop-g1" in world.generations
    world.digests_elsewhere = frozenset()
    world.turns(2)
    assert "shop-g1" not in world.generations


def test_rejected_generations_are_kept_as_far_as_the_history_says() -> None:
    world = after_promotions(1, rejected=1)
    for month in MONTHS[2:6]:
        world.months = [*world.months, month]
        world.aucs[month] = (0.55, 0.66)
        world.turns(6)
        world.ask(f"quarantine@{month}")
        world.turns(6)

    def rejected() -> int:
        return sum(g.status.verdict == "Rejected" for g in world.generations.values())

    assert rejected() >= 4, "what was tried on rows after the cursor counts for the next run"
    world.ask("reject@hold")
    world.months = [*world.months, MONTHS[6], MONTHS[7]]
    world.turns(8)
    assert world.update.status.live.number > 1
    assert rejected() <= 1


@pytest.mark.parametrize("kept", [0, 5])
def test_rejections_count_however_few_are_kept(kept: int) -> None:
    world = after_promotions(1, rejected=kept)
    world.error = 0.001
    for month in MONTHS[2:10]:
        world.months = [*world.months, month]
        world.aucs[month] = (0.55, 0.66)
        world.turns(5)
    assert max(g.spec.number for g in world.generations.values()) == 3
    assert world.update.status.cursor.proposed_for_quarantine == ["2025-02"]


@pytest.mark.parametrize("kept", [0, 5])
def test_interim_analyses_count_however_few_generations_are_kept(kept: int) -> None:
    world = after_promotions(1, rejected=kept)
    world.error = 0.02
    world.months = [*world.months, "2025-03"]
    world.aucs["2025-03"] = (0.61, 0.60)
    world.turns(6)
    for token in range(6):
        world.ask(f"reject@{token}")
        world.turns(2)
        world.ask(f"retry@{token}")
        world.turns(5)
    judged = [run for run in world.runs.values() if run.run.evaluate and run.run.number > 1]
    assert len(judged) == 3


@pytest.mark.parametrize("kept", [0, 5])
def test_the_runs_of_a_day_count_however_few_generations_are_kept(kept: int) -> None:
    world = World()
    world.edit(
        history={"rejected": kept},
        trigger={"onData": {"pollInterval": "1m"}, "maxRunsPerDay": 3},
    )
    world.settle()
    world.error = 0.001
    world.months = MONTHS[:2]
    world.turns(8)
    for month in MONTHS[2:13]:
        world.months = [*world.months, month]
        world.aucs[month] = (0.55, 0.66)
        world.ask(f"quarantine@{month}")
        world.turns(5)
    assert sum("-train-" in name for name in world.job_names_ever) == 3


def test_the_finalizer_is_held_only_during_a_roll() -> None:
    world = World()
    world.pods_ready = False
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(6)
    assert world.update.status.phase == "RollingOut"
    assert world.update.metadata.finalizers == (FINALIZER,)
    world.pods_ready = True
    world.turns(2)
    assert world.update.metadata.finalizers == ()


def test_an_update_deleted_during_a_roll_goes_back_first_and_then_goes() -> None:
    world = after_promotions(1)
    live = world.served[-1]
    world.pods_ready = False
    world.months = [*world.months, "2025-03"]
    world.turns(5)
    assert world.served[-1] != live
    world._meta(deletion_timestamp=world.now)
    world.pods_ready = True
    world.turns(2)
    assert world.served[-1] == live
    assert world.update.metadata.finalizers == ()


def test_in_a_terminating_namespace_the_finalizer_is_dropped_at_once() -> None:
    world = World()
    world.pods_ready = False
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(6)
    world._meta(deletion_timestamp=world.now)
    plan = decide(replace(world.seen(), namespace_terminating=True), world.now)
    assert plan.actions == (SetFinalizer(present=False),)


def test_generations_belong_to_their_update_only_under_delete() -> None:
    for policy, owned in (("Orphan", False), ("Delete", True)):
        world = World()
        world.edit(deletionPolicy=policy)
        made = []
        for _ in range(4):
            made += [a for a in world.step().actions if hasattr(a, "owned")]
        assert [action.owned for action in made] == [owned]


@pytest.mark.survives(
    "Jobs and pods",
    "no node has room for a pod",
    "the scheduler's words in status; it goes on by itself when there is room",
)
def test_a_pod_that_finds_no_place_says_why_and_goes_on_when_it_does() -> None:
    world = World()
    world.settle()
    name = next(iter(world.jobs))
    said = "no node has a free nvidia.com/gpu: 0/1 nodes are available"
    pod = ObservedPod("pod", "uid", world.now, waiting=said)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    plan = world.settle()

    assert plan.status.phase == "Queued"
    assert plan.status.progress.summary == "no node has a free nvidia.com/gpu"
    assert plan.status.progress.waiting_for == said
    assert plan.wake_after == timedelta(seconds=30)


@pytest.mark.survives(
    "Jobs and pods",
    "no node has room for longer than `pendingTimeout`",
    "given up with the reason and the limit",
)
def test_a_pod_that_waits_longer_than_its_pending_timeout_is_given_up() -> None:
    world = World()
    world.edit(training={"compute": {"pendingTimeout": "10m"}})
    world.settle()
    name = next(iter(world.jobs))
    pod = ObservedPod("pod", "uid", world.now, waiting="no node fits: too small")
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    world.settle()
    world.now += timedelta(minutes=11)
    world.settle()
    assert world.generation(0).status.reason == "PendingTimeout"
    assert "training.compute.pendingTimeout" in world.generation(0).status.message


@pytest.mark.survives(
    "Model",
    "the import of the initial model fails",
    "`ImportFailed` says why; `retry` imports again",
)
def test_a_failed_import_waits_for_a_person_and_retry_imports_anew() -> None:
    world = World()
    world.settle()
    world.fail(next(iter(world.jobs)), 3, reason="UnsafeArtifact")
    world.settle()
    stalled = next(c for c in world.update.status.conditions if c.type == "Stalled")
    assert stalled.reason == "ImportFailed"
    assert "UnsafeArtifact" in stalled.message
    world.ask("retry@1")
    world.turns(3)
    assert world.generation(1).spec.origin == "Imported"
    assert world.generation(1).status.artifact is not None


def test_gpus_are_asked_for_training_and_evaluation_alone() -> None:
    world = World()
    world.edit(training={"compute": {"gpusPerNode": 4}})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(8)
    gpus = {start.run.stage: start.gpus for start in world.runs.values()}
    assert gpus == {"import": 0, "probe": 0, "train": 4, "evaluate": 1}
    assert all(isinstance(start, StartJob) for start in world.runs.values())


@pytest.mark.survives(
    "Jobs and pods",
    "old weights cannot be deleted",
    "tried again every 10 minutes, each failure an Event; nothing else waits for it",
)
def test_weights_that_cannot_be_deleted_are_asked_for_only_now_and_then() -> None:
    world = after_promotions(2, generations=1)
    refused: list[str] = []
    for month in MONTHS[3:6]:
        world.months = [*world.months, month]
        for _ in range(8):
            world.settle()
            for name, job in list(world.jobs.items()):
                if job.stage == "collect" and not job.failed:
                    refused.append(name)
                    world.fail(name, 1, reason="StorageFailed")
            world.turn()
    began = len(MONTHS[3:6]) * 8 * 2
    assert 2 <= len(refused) <= began // 10 + 1
    assert world.events.count("CollectFailed") in {len(refused), len(refused) - 1}
    assert world.update.status.live.number == 5


def deleted_in_a_roll() -> World:
    world = after_promotions(1)
    world.months = [*world.months, "2025-03"]
    world.pods_ready = False
    while world.target.number != 2:
        world.turn()
    world._meta(deletion_timestamp=world.now)
    return world


@pytest.mark.survives(
    "People",
    "the update is deleted in the middle of a roll, and the pods of live do not all get ready"
    " again",
    "gone once no target asks for the pods of the roll; the rest is the Deployment's",
)
def test_an_update_deleted_in_a_roll_does_not_wait_for_the_pods_of_live() -> None:
    world = deleted_in_a_roll()
    world.settle()
    assert world.target.number == 1
    assert world.target.available == 0
    assert world.update.metadata.finalizers == ()
    assert world.generation(2).status.rollout.rolled_back_at


@pytest.mark.survives(
    "People",
    "the update is deleted during a rollout, and another client set our variables",
    "gone; the other value stays, and `RollbackIncomplete` names it and its field manager if known",
)
@pytest.mark.parametrize(
    "change", [{"foreign_manager": "helm"}, {"digest": digest("theirs")}], ids=["taken", "set"]
)
def test_an_update_deleted_in_a_roll_leaves_what_somebody_else_set(change: dict) -> None:
    world = deleted_in_a_roll()
    world.target = replace(world.target, **change)
    carried = world.target.digest
    said = []
    for _ in range(4):
        said += [event for event in world.step().events if event.reason == "RollbackIncomplete"]
    assert world.target.digest == carried
    assert world.update.metadata.finalizers == ()
    (event,) = said
    assert f"Deployment ranker (MODEL_DIGEST={carried}" in event.message
    assert change.get("foreign_manager", "") in event.message


def test_an_update_deleted_in_a_roll_takes_back_what_it_can() -> None:
    world = World(spec={**SPEC, **TWO_TARGETS})
    world.settle()
    world.months = MONTHS[:2]
    world.turns(8)
    world.months = MONTHS[:3]
    world.pods_ready = False
    while world.target.number != 2:
        world.turn()
    world.target = replace(world.target, foreign_manager="helm")
    world._meta(deletion_timestamp=world.now)
    world.settle()
    assert [t.number for t in world.targets.values()] == [2, 1]
    assert world.update.metadata.finalizers == ()


def test_an_update_deleted_after_its_roll_was_wiped_too_often_is_gone() -> None:
    world = deleted_in_a_roll()
    reapplied = [world.now] * 3
    targets = [
        t.model_copy(update={"reapplied_at": reapplied}) for t in world.update.status.targets
    ]
    status = world.update.status.model_copy(update={"targets": targets})
    world.update = world.update.model_copy(update={"status": status})
    world.target = replace(world.target, digest=None, number=None)
    world.settle()
    assert world.update.metadata.finalizers == ()
