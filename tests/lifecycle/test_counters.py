"""Counters: sums over the life of an update, whatever was deleted since."""

from __future__ import annotations

from lifecycle.world import MONTHS, World, after_promotions


def test_promotions_are_counted_beyond_the_history() -> None:
    world = after_promotions(5, generations=2)
    assert len(world.generations) == 3
    assert world.update.status.counters.promoted == 5


def test_rollbacks_and_rejections_are_counted_beyond_the_history() -> None:
    world = after_promotions(1, generations=2, rejected=0)
    for month in range(2, 11):
        world.months = MONTHS[: month + 1]
        world.aucs[MONTHS[month]] = (0.55, 0.66) if month % 3 == 0 else (0.70, 0.60)
        world.pods_ready = month % 3 != 1
        world.rounds(8)
        world.pods_ready = True
        world.rounds(3)
    counters = world.update.status.counters
    assert counters.rolled_back == world.events.count("RollbackCompleted") > 1
    assert counters.rejected == world.events.count("Rejected") > 1
    assert counters.promoted == world.events.count("Promoted") > 2
    assert len(world.generations) < counters.rolled_back + counters.rejected + counters.promoted


def test_what_is_live_is_in_the_history_however_many_were_trained_since() -> None:
    """Its rollback is counted and announced; a generation that is listed again is no news."""
    world = after_promotions(2, rejected=40)
    world.edit(trigger={})
    world.months.append("2025-04")
    for number in range(3, 25):
        world.ask(f"retry@{number}")
        world.settle()
        (probe,) = (name for name, job in world.jobs.items() if job.stage == "probe")
        world.succeed(probe, world._result(world.runs[probe]))
        world.settle()
        world.ask(f"reject@{number}")
        world.settle()
    history = world.update.status.history
    assert [each.number for each in history] == [*range(24, 6, -1), 2, 1]
    before, announced = world.update.status.counters, len(world.announced)
    world.ask("rollback.g2@1")
    world.rounds(2)
    status = world.update.status
    assert status.counters == before.model_copy(update={"rolled_back": 1})
    assert [each.outcome for each in status.history[-2:]] == ["RolledBack", "Live"]
    assert {*world.announced[announced:]} & {"Accepted", "Rejected"} == set()
    assert "RollbackCompleted" in world.announced[announced:]


def used_gpus(world: World, number: int, seconds: int) -> None:
    generation = world.generation(number)
    training = generation.status.training.model_copy(update={"gpu_seconds": seconds})
    status = generation.status.model_copy(update={"training": training})
    world.generations[f"shop-g{number}"] = generation.model_copy(update={"status": status})
    world.settle()


def test_gpu_seconds_are_counted_beyond_the_history() -> None:
    world = after_promotions(1, generations=2)
    for number in range(2, 6):
        used_gpus(world, number - 1, 100)
        world.months = MONTHS[: number + 1]
        world.rounds(8)
    assert "shop-g1" not in world.generations
    assert world.update.status.counters.gpu_seconds == 400


def test_gpu_seconds_that_an_earlier_version_counted_are_not_counted_again() -> None:
    world = after_promotions(1, generations=2)
    used_gpus(world, 1, 100)
    earlier = world.update.status
    history = [entry.model_copy(update={"gpu_seconds": None}) for entry in earlier.history]
    counters = earlier.counters.model_copy(update={"gpu_seconds": 5000})
    status = earlier.model_copy(update={"history": history, "counters": counters})
    world.update = world.update.model_copy(update={"status": status})
    world.settle()
    assert world.update.status.counters.gpu_seconds == 5000
    used_gpus(world, 1, 130)
    assert world.update.status.counters.gpu_seconds == 5030


def test_what_an_earlier_version_counted_is_not_counted_again() -> None:
    world = after_promotions(3)
    earlier = world.update.status
    history = [entry.model_copy(update={"outcome": ""}) for entry in earlier.history]
    status = earlier.model_copy(update={"history": history})
    world.update = world.update.model_copy(update={"status": status})
    world.settle()
    assert world.update.status.counters == earlier.counters
    world.months = MONTHS[: len(world.months) + 1]
    world.rounds(8)
    assert world.update.status.counters.promoted == earlier.counters.promoted + 1
