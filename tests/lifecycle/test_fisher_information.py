"""Fisher information follows the lineage as the replay buffer does, and is kept as long as it."""

from __future__ import annotations

from lifecycle.declared import SPEC
from lifecycle.lineage_scenes import (
    a_month_comes,
    deleted_generations,
    deleted_paths,
    leave_the_same_twice,
    promote,
    reject_generation_two,
    roll_back_generation_three,
)
from lifecycle.world import World

HELD = {
    **SPEC,
    "training": {"retention": {"ewc": {"strength": "100"}}},
    "history": {"generations": 2},
}


def held(promotions: int) -> World:
    return promote(World(spec=HELD), promotions)


def left_by(world: World, number: int) -> str | None:
    return world.generation(number).status.artifact.fisher


def taken_by(world: World, number: int) -> str | None:
    return world.generation(number).spec.data.fisher


def folder(of: str | None) -> str:
    assert of
    return f"/models/search/shop/artifacts/{of.replace(':', '-')}"


def test_a_promoted_generation_hands_its_fisher_information_to_the_next_run():
    world = held(2)

    assert taken_by(world, 1) is None  # the initial model left none
    assert left_by(world, 0) is None
    assert taken_by(world, 2) == left_by(world, 1) is not None
    (run,) = (s.run for s in world.runs.values() if s.run.stage == "train" and s.run.number == 2)
    assert run.train.fisher.digest == left_by(world, 1)
    assert run.train.fisher.uri == f"file://{folder(left_by(world, 1))}"


def test_that_of_a_rejected_generation_is_not_used():
    world = held(1)
    reject_generation_two(world)

    assert left_by(world, 2) not in (None, left_by(world, 1))
    assert taken_by(world, 3) == left_by(world, 1)


def test_a_rollback_restores_that_of_the_generation_that_is_live_again():
    world = held(2)
    roll_back_generation_three(world)

    assert taken_by(world, 4) == left_by(world, 2) == taken_by(world, 3)


def test_it_is_deleted_with_the_last_generation_that_left_it():
    world = held(2)
    first = left_by(world, 1)
    for count in (4, 5, 6):
        a_month_comes(world, count)
    deleted = deleted_paths(world)

    assert deleted.count(folder(first)) == 1
    assert not {folder(left_by(world, number)) for number in (4, 5)} & {*deleted}


def test_one_that_two_generations_left_is_kept_until_both_are_deleted():
    world = held(2)
    shared = left_by(world, 1)
    leave_the_same_twice(world, "fisher")

    assert deleted_generations(world) == {1, 2}
    assert deleted_paths(world).count(folder(shared)) == 1


def test_what_a_generation_names_is_kept_when_nothing_else_is():
    world = held(5)
    kept = [s.run.collect.unreferenced for s in world.runs.values() if s.run.collect]
    assert {left_by(world, number) for number in (4, 5)} <= {*kept[-1].kept}


def test_without_ewc_nothing_about_it_is_in_spec_and_run_file():
    world = World()
    a_month_comes(world, 2)
    (run,) = (s.run for s in world.runs.values() if s.run.stage == "train")

    assert "fisher" not in world.generation(1).spec.data.plain()
    assert run.train.fisher is None
