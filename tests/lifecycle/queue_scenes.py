"""A world whose second generation has a Job in a queue of Kueue."""

from __future__ import annotations

from datetime import timedelta

from lifecycle.invariants import Invariants
from lifecycle.world import World, with_generation_one

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def queued(stage: str = "train", full: bool = True, limits: dict | None = None, **compute: object):
    """A world whose second generation has a Job of a stage in a queue, and the Job's name."""
    world = with_generation_one()
    Invariants(world)
    compute = {"queueName": "gpus", "gpusPerNode": 1, **compute}
    world.edit(training={"compute": compute, "limits": limits or {"activeDeadline": "2h"}})
    world.months.append("2025-03")
    if stage == "train":
        world.queue_admits = 0 if full else 9
    while not (found := [name for name in world.jobs if f"-g2-{stage}-" in name]):
        world.round()
    world.queue_admits = 0 if full else 9
    world.run_kueue()
    world.settle()
    return world, found[0]


def passes(world: World, time: timedelta) -> None:
    world.now += time
    world.run_kueue()
    world.settle()


def progress(world: World) -> tuple[str, str, str]:
    status = world.update.status
    return status.phase, status.progress.summary, status.progress.waiting_for


def admit(world: World) -> None:
    world.queue_admits = 9
    world.run_kueue()
    world.settle()


def runs(world: World, name: str, time: timedelta) -> None:
    world.begin(name)
    world.settle()
    passes(world, time)


def preempted(world: World, name: str) -> None:
    world.queue_admits = 0
    world.preempt(name)
    world.settle()


def hold(world: World, what: str, on: bool) -> None:
    if what == "spec.suspend":
        world.edit(suspend=on)
    else:
        world.pin(1 if on else None)
    world.settle()
