"""Time that passes in the test world, with and without a pod that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from lifecycle.world import World


def passes(world: World, time: timedelta) -> None:
    """Let time pass, then the operator decide."""
    world.now += time
    world.settle()


def runs(world: World, name: str, time: timedelta) -> None:
    """Let the pods of a Job begin, and run for some time."""
    world.begin(name)
    world.settle()
    passes(world, time)
