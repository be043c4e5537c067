"""Which generations, weights and reports are kept, and which are deleted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.world import MONTHS, World, after_promotions


def test_generations_beyond_the_history_are_deleted_with_their_weights_first() -> None:
    world = after_promotions(5, generations=2)
    left = sorted(g.spec.number for g in world.generations.values())

    assert left == [0, 4, 5]
    collected = [s.run.collect.delete for s in world.runs.values() if s.run.stage == "collect"]
    assert len(collected) == 3
    assert all(any("/artifacts/" in path for path in paths) for paths in collected)


def test_reports_are_deleted_with_their_generation_including_earlier_attempts() -> None:
    world = after_promotions(1, generations=2)
    world.months = MONTHS[:3]
    while not any("-g2-evaluate-1" in name for name in world.jobs):
        world.round()
    world.fail(next(name for name in world.jobs if "-g2-evaluate-1" in name), 137)
    world.rounds(8)
    for month in MONTHS[3:6]:
        world.months = [*world.months, month]
        world.rounds(8)

    assert "shop-g2" not in world.generations
    (run,) = (s.run for s in world.runs.values() if s.run.collect and s.run.number == 2)
    reports = [path for path in run.collect.delete if "/reports/" in path]
    assert [path.rpartition("-")[2] for path in reports] == ["1", "2"]
    assert all(path.startswith("/models/search/shop/reports/shop-") for path in reports)


def test_what_pods_left_with_the_checkpoints_of_a_promoted_generation_is_deleted_with_it() -> None:
    world = after_promotions(5, generations=2)

    deleted = {s.run.number: s.run.collect.delete for s in world.runs.values() if s.run.collect}
    assert deleted.keys() == {1, 2, 3}
    for number, paths in deleted.items():
        assert f"/models/search/shop/checkpoints/g{number}" in paths


def test_a_report_outside_the_updates_folder_is_not_deleted() -> None:
    world = after_promotions(2, generations=2)
    name = "shop-g1"
    first = world.generations[name]
    elsewhere = {"report": "file:///models/search/another/reports/x"}
    evaluation = first.status.evaluation.model_copy(update=elsewhere)
    status = first.status.model_copy(update={"evaluation": evaluation})
    world.generations[name] = first.model_copy(update={"status": status})
    for month in MONTHS[3:6]:
        world.months = [*world.months, month]
        world.rounds(8)

    assert name not in world.generations
    collected = [p for s in world.runs.values() if s.run.collect for p in s.run.collect.delete]
    assert not [path for path in collected if "/another/" in path]


def test_frozen_rows_stay_while_a_descendant_is_evaluated_on_them() -> None:
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
def test_weights_that_a_replica_set_still_refers_to_are_kept() -> None:
    world = after_promotions(2, generations=1)
    first = world.generation(1).status.artifact.served_digest
    world.target = replace(world.target, named=frozenset({first}))
    for month in MONTHS[3:6]:
        world.months = [*world.months, month]
        world.rounds(8)
    assert "shop-g1" in world.generations


@pytest.mark.survives(
    "Deployments",
    "a Deployment is taken out of `rollout.targets`",
    "it keeps what it serves, and the weights of that stay until it is let go",
)
def test_weights_that_a_removed_target_still_refers_to_are_kept() -> None:
    world = after_promotions(2, generations=1)
    first = world.generation(1).status.artifact.served_digest
    world.digests_elsewhere = frozenset({first})
    for month in MONTHS[3:6]:
        world.months = [*world.months, month]
        world.rounds(8)
    assert "shop-g1" in world.generations
    world.digests_elsewhere = frozenset()
    world.rounds(2)
    assert "shop-g1" not in world.generations


def test_rejected_generations_are_kept_up_to_the_history_limit() -> None:
    world = after_promotions(1, rejected=1)
    for month in MONTHS[2:6]:
        world.months = [*world.months, month]
        world.aucs[month] = (0.55, 0.66)
        world.rounds(6)
        world.ask(f"quarantine@{month}")
        world.rounds(6)

    def rejected() -> int:
        return sum(g.status.verdict == "Rejected" for g in world.generations.values())

    assert rejected() >= 4, "what was tried on rows after the cursor counts for the next run"
    world.ask("reject@hold")
    world.months = [*world.months, MONTHS[6], MONTHS[7]]
    world.rounds(8)
    assert world.update.status.live.number > 1
    assert rejected() <= 1


@pytest.mark.parametrize("kept", [0, 5])
def test_rejections_count_however_few_are_kept(kept: int) -> None:
    world = after_promotions(1, rejected=kept)
    world.error = 0.001
    for month in MONTHS[2:10]:
        world.months = [*world.months, month]
        world.aucs[month] = (0.55, 0.66)
        world.rounds(5)
    assert max(g.spec.number for g in world.generations.values()) == 3
    assert world.update.status.cursor.proposed_for_quarantine == ["2025-02"]


@pytest.mark.parametrize("kept", [0, 5])
def test_interim_analyses_count_however_few_generations_are_kept(kept: int) -> None:
    world = after_promotions(1, rejected=kept)
    world.error = 0.02
    world.months = [*world.months, "2025-03"]
    world.aucs["2025-03"] = (0.61, 0.60)
    world.rounds(6)
    for token in range(6):
        world.ask(f"reject@{token}")
        world.rounds(2)
        world.ask(f"retry@{token}")
        world.rounds(5)
    evaluated = [run for run in world.runs.values() if run.run.evaluate and run.run.number > 1]
    assert len(evaluated) == 3


@pytest.mark.parametrize("kept", [0, 5])
def test_runs_per_day_count_however_few_generations_are_kept(kept: int) -> None:
    world = World()
    world.edit(
        history={"rejected": kept},
        trigger={"onData": {"pollInterval": "1m"}, "maxRunsPerDay": 3},
    )
    world.settle()
    world.error = 0.001
    world.months = MONTHS[:2]
    world.rounds(8)
    for month in MONTHS[2:13]:
        world.months = [*world.months, month]
        world.aucs[month] = (0.55, 0.66)
        world.ask(f"quarantine@{month}")
        world.rounds(5)
    assert sum("-train-" in name for name in world.job_names_ever) == 3


@pytest.mark.survives(
    "Update",
    "`maxRunsPerDay` allows more runs than `spec.history` keeps generations",
    "those of a day are kept until they no longer count, and no further run starts",
)
@pytest.mark.parametrize(("promoted", "most"), [(True, 4), (False, 13)])
def test_as_many_runs_count_as_a_day_may_have(promoted: bool, most: int) -> None:
    world = World()
    trigger = {"onData": {"pollInterval": "1m"}, "maxRunsPerDay": most}
    world.edit(history={"generations": 1, "rejected": 0}, trigger=trigger)
    world.settle()
    world.months = MONTHS[:1]
    for month in MONTHS[1 : most + 3]:
        world.months = [*world.months, month]
        for _ in range(7):
            for name, job in list(world.jobs.items()):
                if job.stage == "train" and not promoted and not job.failed:
                    world.fail(name, 3, reason="InvalidInput")
            world.round()
    assert world.update.status.progress.summary == "MaxRunsPerDayReached"
    assert sum("-train-" in name for name in world.job_names_ever) == most
    world.now += timedelta(days=1)
    world.rounds(6)
    assert world.update.status.progress.summary != "MaxRunsPerDayReached"
    assert "shop-g1" not in world.generations, "it counts no longer"


@pytest.mark.survives(
    "Jobs and pods",
    "old weights cannot be deleted",
    "tried again every 10 minutes, each failure an Event; nothing else waits for it",
)
def test_weights_that_cannot_be_deleted_are_retried_every_ten_minutes() -> None:
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
            world.round()
    began = len(MONTHS[3:6]) * 8 * 2
    assert 2 <= len(refused) <= began // 10 + 1
    assert world.events.count("CollectFailed") in {len(refused), len(refused) - 1}
    assert world.update.status.live.number == 5
