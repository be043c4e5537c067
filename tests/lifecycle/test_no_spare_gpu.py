"""A Deployment with `maxSurge: 0, maxUnavailable: 1`: a pod ends before its successor starts.

Its pods are counted as they are replaced, one by one: a rollout, a rollback and a pin end once all
of them are available, and old pods are never taken for new ones.
"""

from __future__ import annotations

from dataclasses import replace

from lifecycle.world import MONTHS, World, after_promotions

STEPS = [(2, 0), (1, 0), (1, 1), (0, 1), (0, 2)]
"""Old pods, and ready pods of the newest template, while two pods are replaced."""


def pods(world: World, old: int, ready: int, name: str = "ranker") -> None:
    """What the Deployment shows with so many old pods and ready new ones, then decide."""
    target = world.targets[name]
    counts = {"updated": target.desired - old, "old": old, "ready": ready, "available": old + ready}
    world.targets[name] = replace(target, **counts, complete=ready == target.desired)
    world.settle()


def shown(world: World) -> int:
    """Available pods of the newest template, as the status has them."""
    return world.update.status.targets[0].available


def rolling_out(month: int = 2) -> World:
    """A world whose next generation was just applied to two pods of live."""
    world = after_promotions(month - 1)
    world.pods_ready = False
    world.months = MONTHS[: month + 1]
    while world.target.number != month:
        world.round()
    pods(world, 2, 0)
    return world


def test_a_rollout_counts_the_pods_as_they_are_replaced_and_ends_with_the_last() -> None:
    world, counted = rolling_out(), []
    for old, ready in STEPS:
        pods(world, old, ready)
        counted.append(shown(world))
        assert world.condition("Serving").status == "True"
        done = world.generation(2).status.rollout.promoted_at is not None
        assert done == (ready == 2), (old, ready)
        if not done:
            waiting = world.update.status.progress.waiting_for
            assert f"{ready} of 2 new pods available" in waiting
    assert counted == [0, 0, 1, 1, 2]


def test_with_one_pod_nothing_serves_while_it_is_replaced_and_serving_says_so() -> None:
    world = rolling_out()
    world.target = replace(world.target, desired=1)
    pods(world, 1, 0)
    assert world.condition("Serving").status == "True"
    pods(world, 0, 0)
    assert world.condition("Serving").reason == "NotAvailable"
    assert world.generation(2).status.rollout.promoted_at is None
    pods(world, 0, 1)
    assert world.generation(2).status.outcome == "Live"
    assert world.condition("Serving").reason == "Available"


def test_a_new_pod_that_gets_no_gpu_rolls_back_and_the_old_pod_serves_all_the_time() -> None:
    world = rolling_out()
    pods(world, 1, 0)
    world.target = replace(world.target, trouble="0/1 nodes: 1 Insufficient nvidia.com/gpu")
    world.rounds(8)
    back = world.generation(2).status.rollout
    assert "0 of 2 new pods available" in back.rollback_reason
    assert "Insufficient nvidia.com/gpu" in back.rollback_reason
    assert world.target.number == 1

    for old, ready in [(1, 1), (0, 1), (0, 2)]:  # the pod that was not replaced counts again
        pods(world, old, ready)
        assert shown(world) == ready
        assert world.condition("Serving").status == "True"
        done = world.generation(2).status.rollout.rolled_back_at is not None
        assert done == (ready == 2), (old, ready)


def test_a_pin_in_the_middle_of_a_rollout_replaces_pod_after_pod_and_so_does_its_end() -> None:
    world = rolling_out(3)
    pods(world, 1, 0)
    world.pin(1)
    world.settle()
    assert world.target.number == 1
    assert world.generation(3).status.rollout.step_started_at is None
    for old, ready in STEPS:
        pods(world, old, ready)
        assert (shown(world), world.update.status.phase) == (ready, "Pinned")
        assert world.condition("Serving").status == "True"
    assert world.condition("Serving").reason == "Pinned"

    world.pin(None)
    world.settle()
    for old, ready in STEPS:
        assert world.target.number == 2, "no rollout starts before all pods are of live again"
        pods(world, old, ready)
    assert world.target.number == 3
    for old, ready in STEPS:
        pods(world, old, ready)
    assert world.update.status.live.number == 3


def test_a_rollback_after_the_promotion_ends_with_the_last_pod() -> None:
    world = after_promotions(2)
    world.pods_ready = False
    world.ask("rollback.g2@1")
    world.settle()
    assert world.target.number == 1
    for old, ready in STEPS:
        pods(world, old, ready)
        assert (world.generation(2).status.outcome == "RolledBack") == (ready == 2)
        assert world.condition("Serving").status == "True"
