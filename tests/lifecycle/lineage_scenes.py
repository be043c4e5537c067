"""A world whose generations leave something to the next ones, and what becomes of it."""

from __future__ import annotations

from lifecycle.world import MONTHS, World


def a_month_comes(world: World, count: int) -> None:
    """Deliver the first so many months, and let the run that follows end."""
    world.months = MONTHS[:count]
    world.rounds(10)


def promote(world: World, generations: int) -> World:
    """Train and promote generations up to this number, one for each month."""
    for number in range(generations):
        a_month_comes(world, number + 2)
    return world


def reject_generation_two(world: World) -> None:
    """Generation 2 is worse than live; generation 3 follows it."""
    world.aucs[MONTHS[2]] = (0.57, 0.60)
    a_month_comes(world, 3)
    assert world.generation(2).status.verdict == "Rejected"
    a_month_comes(world, 4)


def roll_back_generation_three(world: World) -> None:
    """No pod of generation 3 gets ready; generation 4 is trained from generation 2."""
    world.pods_ready = False
    a_month_comes(world, 4)
    world.pods_ready = True
    world.rounds(3)
    assert world.generation(3).status.rollout.rolled_back_at
    world.months = MONTHS[:5]
    world.ask("retry@again")
    world.rounds(10)


def leave_the_same_twice(world: World, what: str) -> None:
    """Generation 2 left what generation 1 did; two more months come after them."""
    second = world.generation(2)
    shared = getattr(world.generation(1).status.artifact, what)
    artifact = second.status.artifact.model_copy(update={what: shared})
    status = second.status.model_copy(update={"artifact": artifact})
    world.generations["shop-g2"] = second.model_copy(update={"status": status})
    for count in (4, 5):
        a_month_comes(world, count)


def deleted_generations(world: World) -> set[int]:
    """Numbers of the generations whose files were deleted."""
    return {s.run.number for s in world.runs.values() if s.run.collect}


def deleted_paths(world: World) -> list[str]:
    """What Jobs were asked to delete."""
    return [path for s in world.runs.values() if s.run.collect for path in s.run.collect.delete]
