"""When ReplicaSets are read: in a rollout, and before weights are deleted. When Services are."""

from lifecycle.canary_scenes import later
from lifecycle.warm_scenes import ask_for_a_rollback, warm
from lifecycle.world import World, with_generation_one

from springtide_operator.lifecycle.state.needed_reads import (
    keeps_previous,
    needs_replica_sets,
    needs_services,
)


def counts(world: World) -> bool:
    return needs_replica_sets(world.update, list(world.generations.values()))


def test_replica_sets_are_read_during_a_rollout_and_not_before_or_after() -> None:
    world = World(seeded=False)
    world.settle()
    assert not counts(world)
    world.complete_jobs()
    world.settle()
    assert counts(world)
    world.finish_rollouts()
    world.settle()
    assert world.generation(0).status.rollout.promoted_at
    assert not counts(world)


def test_replica_sets_are_read_before_the_weights_of_an_old_generation_are_deleted() -> None:
    world = with_generation_one()
    world.edit(history={"generations": 2, "rejected": 0})
    assert not counts(world)
    deciding = []

    def on_action(seen, action):
        if type(action).__name__ == "DeleteGeneration":
            deciding.append(needs_replica_sets(seen.update, seen.generations))

    world.on_action = on_action
    for month in ("2025-03", "2025-04", "2025-05"):
        world.months.append(month)
        world.rounds(10)
    assert deciding
    assert all(deciding)


def test_services_are_not_read_any_more_once_a_bake_with_warm_pods_was_rolled_back() -> None:
    world = warm()
    assert keeps_previous(world.update, list(world.generations.values()))
    ask_for_a_rollback(world, ready=True)
    later(world, 3)
    assert world.generation(2).status.outcome == "RolledBack"
    assert not keeps_previous(world.update, list(world.generations.values()))
    assert not needs_services(world.update, list(world.generations.values()))
