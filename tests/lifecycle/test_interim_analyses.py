"""Holds, interim analyses and longer holdouts: what follows an inconclusive verdict."""

from __future__ import annotations

import pytest
from lifecycle.world import World, with_generation_one


@pytest.mark.survives(
    "Data",
    "shuffled labels in the holdout",
    "on hold as suspect, no interim analysis used; evaluated on the next clean partition "
    "without training again",
)
def test_a_suspect_holdout_holds_the_candidate_until_the_next_clean_month() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.50, 0.50)
    world.rounds(6)
    second = world.generation(2)

    assert (second.status.verdict, second.status.reason) == ("Inconclusive", "HoldoutSuspect")
    assert second.status.evaluation.interim_analyses == 0
    assert world.update.status.phase == "OnHold"
    assert world.update.status.cursor.proposed_for_quarantine == ["2025-03"]
    assert world.update.status.live.name == "shop-g1"

    world.months.append("2025-04")
    world.rounds(4)
    assert world.generation(2).status.verdict == "Inconclusive", "a hold ends only by a user"

    world.ask("quarantine@1")
    world.rounds(6)
    trainings = [name for name in world.job_names_ever if "-g2-train-" in name]
    assert len(trainings) == 1
    assert world.generation(2).status.verdict == "Accepted"
    assert world.generation(2).status.evaluation.holdouts[-1].partitions == ["2025-04"]
    assert world.update.status.live.name == "shop-g2"
    assert world.update.status.cursor.quarantined == ["2025-03"]


@pytest.mark.survives(
    "People",
    "a partition is quarantined that the candidate was trained on",
    "the candidate is retired, never served",
)
def test_quarantining_a_training_partition_retires_the_candidate() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.round()
    world.round()
    status = world.update.status
    quarantined = status.cursor.model_copy(update={"quarantined": ["2025-02"]})
    world.update = world.update.model_copy(
        update={"status": status.model_copy(update={"cursor": quarantined})}
    )
    world.settle()

    assert world.generation(2).status.retired_reason == "PartitionQuarantined"
    assert world.update.status.candidate is None
    assert not any("-g2-" in name for name in world.jobs)


def test_an_inconclusive_candidate_waits_for_a_longer_holdout_and_no_other_run_starts() -> None:
    world = with_generation_one()
    world.error = 0.02
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.61, 0.60)
    world.rounds(6)
    second = world.generation(2)
    assert (second.status.verdict, second.status.reason) == ("Inconclusive", "ExtendHoldout")
    assert second.status.evaluation.interim_analyses == 1
    assert "shop-g3" not in world.generations

    world.error = 0.002
    world.months.append("2025-04")
    world.aucs["2025-04"] = (0.62, 0.60)
    world.rounds(6)
    assert world.generation(2).status.evaluation.interim_analyses == 2
    assert world.generation(2).status.evaluation.holdouts[-1].partitions == ["2025-03", "2025-04"]
    assert world.generation(2).status.rollout.promoted_at is not None


def test_no_probe_starts_while_a_longer_holdout_is_evaluated() -> None:
    world = with_generation_one()
    world.error = 0.02
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.61, 0.60)
    world.rounds(6)
    world.months.append("2025-04")
    while not any("-g2-evaluate-2" in name for name in world.jobs):
        world.round()
    world.ask("run@now")
    world.settle()
    assert world.update.status.last_request.result == "Refused"
    assert not any(job.stage == "probe" for job in world.jobs.values())


def test_at_most_three_interim_analyses() -> None:
    world = with_generation_one()
    world.error = 0.02
    for month in ("2025-03", "2025-04", "2025-05", "2025-06"):
        world.months.append(month)
        world.aucs[month] = (0.61, 0.60)
        world.rounds(5)
    second = world.generation(2)
    assert second.status.evaluation.interim_analyses == 3
    assert second.status.reason == "InterimAnalysesUsedUp"
    assert world.condition("ActionRequired").message.startswith(
        "shop-g2 is on hold: annotate springtide.dev/request=reject@<token>; "
    )
    world.ask("retry@1")
    world.rounds(3)
    assert world.update.status.last_request.result == "Refused"
    world.ask("reject@2")
    world.settle()
    assert world.generation(2).status.verdict == "Rejected"


def test_counts_that_cannot_decide_use_no_interim_analysis() -> None:
    world = World()
    rules = [{"name": "floor", "metric": "auc", "min": "0.52", "minEntities": 300}]
    world.edit(gate={"rules": rules})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(6)
    first = world.generation(1)

    assert (first.status.verdict, first.status.reason) == ("Inconclusive", "TooFewEntities")
    assert first.status.evaluation.interim_analyses == 0
    assert not any("evaluate" in name for name in world.job_names_ever)

    world.months.append("2025-03")
    world.rounds(6)
    assert world.generation(1).status.verdict == "Accepted"


@pytest.mark.survives(
    "People",
    "a candidate is rejected and its run repeated, until one would pass by chance",
    "interim analyses are counted for each holdout over all candidates: the fourth run on it "
    "does not start and `InterimAnalysesUsedUp` says why; it starts with the next partition",
)
def test_interim_analyses_of_a_holdout_are_counted_over_all_its_candidates() -> None:
    world = with_generation_one()
    world.error = 0.02
    world.edit(trigger={})
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.61, 0.60)
    world.ask("run@1")
    world.rounds(5)
    for token in range(4):
        world.ask(f"reject@{token}")
        world.settle()
        world.ask(f"retry@{token}")
        world.rounds(6)
    holdouts_by_run = [
        g.status.evaluation.holdouts for g in world.generations.values() if g.spec.number > 1
    ]
    assert [sum(each.interim_analyses for each in holdouts) for holdouts in holdouts_by_run] == [
        1,
        1,
        1,
    ]
    assert len({holdouts[0].digest for holdouts in holdouts_by_run}) == 1
    last_probe = world.update.status.last_probe
    assert last_probe.reason == "InterimAnalysesUsedUp"
    assert last_probe.message.startswith("3 interim analyses of the holdout 2025-03 were used")
    assert world.events.count("InterimAnalysesUsedUp") == 2

    world.months.append("2025-04")
    world.ask("run@2")
    world.rounds(6)
    assert world.generation(5).status.evaluation.holdouts[-1].partitions == ["2025-04"]


@pytest.mark.survives(
    "Data",
    "rows of a holdout come late, or `data.holdout` is edited, and its run is repeated",
    "the interim analyses of its partitions count, whatever rows of them were read",
)
def test_interim_analyses_count_for_partitions_whose_rows_have_changed() -> None:
    world = with_generation_one()
    world.error = 0.02
    world.edit(trigger={})
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.61, 0.60)
    world.ask("run@1")
    world.rounds(5)
    for token in range(4):
        world.late_rows += 1
        world.ask(f"reject@{token}")
        world.settle()
        world.ask(f"retry@{token}")
        world.rounds(6)
    assert sorted(world.generations) == [f"shop-g{number}" for number in range(5)]
    assert len({g.spec.data.digest for g in world.generations.values() if g.spec.number > 1}) == 3
    assert world.update.status.last_probe.reason == "InterimAnalysesUsedUp"


def test_interim_analyses_of_earlier_candidates_leave_fewer_for_the_next() -> None:
    world = with_generation_one()
    world.error = 0.02
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.61, 0.60)
    world.rounds(5)
    assert "2 interim analyses left" in world.generation(2).status.message
    world.ask("reject@1")
    world.settle()
    world.ask("retry@1")
    world.rounds(6)
    assert "1 interim analyses left" in world.generation(3).status.message


def test_a_candidate_waits_for_as_many_partitions_as_its_holdout_needs() -> None:
    world = World()
    world.edit(
        gate={"rules": [{"name": "floor", "metric": "auc", "min": "0.52", "minEntities": 2000}]}
    )
    world.settle()
    world.months = ["2025-01"]
    for month in range(2, 13):
        world.months.append(f"2025-{month:02}")
        world.rounds(4)
        assert len(world.generation(1).status.evaluation.holdouts) <= 8
    first = world.generation(1)
    assert first.status.verdict == "Accepted"
    assert first.status.evaluation.interim_analyses == 1
    assert len(first.status.evaluation.holdouts[-1].partitions) == 10


def test_a_hold_for_a_suspect_holdout_stays_however_many_holdouts_came_before() -> None:
    world = with_generation_one()
    rules = [{**world.spec["gate"]["rules"][0], "minEntities": 1500}]
    world.edit(gate={**world.spec["gate"], "rules": rules})
    world.error = 0.001
    for month in range(3, 14):
        if month == 12:
            assert world.update.status.phase == "OnHold"
            world.ask("retry@1")
        name = f"2025-{month:02}" if month < 13 else "2026-01"
        world.months.append(name)
        world.aucs[name] = (0.50, 0.50)
        world.rounds(4)
    second = world.generation(2)
    assert second.status.reason == "HoldoutSuspect"
    assert len(second.status.evaluation.holdouts) == 8
    assert world.update.status.phase == "OnHold"
    world.months.append("2026-02")
    world.rounds(4)
    assert world.generation(2).status.verdict == "Inconclusive"


@pytest.mark.survives(
    "People",
    "the update is restored from Git after a quarantine was accepted, before anything went live",
    "the quarantine is known from the generation that it was accepted for: the partition is "
    "not used",
)
def test_a_quarantine_is_kept_after_its_update_is_deleted() -> None:
    world = with_generation_one()
    world.error = 0.001
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.50, 0.50)
    world.rounds(6)
    world.ask("quarantine@1")
    world.settle()
    world.recreate()
    world.error = 0.02
    world.aucs["2025-04"] = (0.61, 0.60)
    world.months.append("2025-04")
    world.rounds(6)
    assert world.update.status.cursor.quarantined == ["2025-03"]
    holdouts_by_run = world.generation(2).status.evaluation.holdouts
    assert [each.partitions for each in holdouts_by_run] == [["2025-03"], ["2025-04"]]
