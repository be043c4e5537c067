"""The replay buffer follows the lineage: taken over at promotion, restored by a rollback."""

from __future__ import annotations

from datetime import UTC, datetime

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

from springtide_api.retained import Replayed
from springtide_operator.lifecycle.jobs.training_facts import (
    replay_message,
    replay_status,
    retained,
)

REPLAYING = {**SPEC, "training": {"retention": {"replay": {}}}, "history": {"generations": 2}}


def replaying(promotions: int) -> World:
    return promote(World(spec=REPLAYING), promotions)


def left_by(world: World, number: int):
    return world.generation(number).status.artifact.buffer


def taken_by(world: World, number: int):
    return world.generation(number).spec.data.buffer


def test_a_promoted_generation_hands_its_buffer_to_the_next_run() -> None:
    world = replaying(2)

    assert taken_by(world, 1) is None  # the initial model has no rows to replay
    assert left_by(world, 1) is not None
    assert taken_by(world, 2) == left_by(world, 1)
    (run,) = (s.run for s in world.runs.values() if s.run.stage == "train" and s.run.number == 2)
    assert run.train.buffer == left_by(world, 1)


def test_what_was_replayed_is_in_the_status_the_event_and_the_input_of_the_report() -> None:
    world = replaying(2)
    status = world.generation(2).status.training.replay
    (run,) = (s.run for s in world.runs.values() if s.run.stage == "evaluate" and s.run.number == 2)

    assert (status.rows, status.by_class) == (20, ["0=8", "1=12"])
    assert run.evaluate.retained.replay.classes == {"0": 8, "1": 12}
    assert "median" not in world.generation(2).status.training.replay.plain()
    median = datetime(2026, 2, 1, tzinfo=UTC)
    replayed = replay_status(Replayed(rows=9, median=median, slices={"de": 3, "fr": 6}))
    assert replayed.by_slice == ["de=3", "fr=6"]
    decayed = world.generation(2).status.training.model_copy(update={"replay": replayed})
    assert retained(decayed).replay.slices == {"de": 3, "fr": 6}
    assert retained(decayed).replay.median == median
    assert replay_message(None) == ""
    assert replay_message(Replayed(rows=1200)) == "; 1,200 rows of earlier windows replayed"
    short = Replayed(message="the parent left no buffer")
    assert replay_message(short).endswith("; 0 rows of earlier windows replayed: " + short.message)


def test_the_buffer_of_a_rejected_generation_is_not_used() -> None:
    world = replaying(1)
    reject_generation_two(world)

    assert left_by(world, 2) not in (None, left_by(world, 1))
    assert taken_by(world, 3) == left_by(world, 1)


def test_a_rollback_restores_the_buffer_of_the_generation_that_is_live_again() -> None:
    world = replaying(2)
    roll_back_generation_three(world)

    assert taken_by(world, 4) == left_by(world, 2) == taken_by(world, 3)


def test_a_buffer_is_deleted_with_the_last_generation_that_left_it() -> None:
    world = replaying(5)
    deleted = [path for path in deleted_paths(world) if "/buffers/" in path]
    kept = [left_by(world, number).uri for number in (4, 5)]

    assert len(deleted) == len(set(deleted)) == 3
    assert not {f"file://{path}" for path in deleted} & {*kept}


def test_a_buffer_that_two_generations_left_is_kept_until_both_are_deleted() -> None:
    world = replaying(2)
    shared = left_by(world, 1)
    leave_the_same_twice(world, "buffer")

    assert deleted_generations(world) == {1, 2}
    assert deleted_paths(world).count(shared.uri.removeprefix("file://")) == 1


def test_without_replay_nothing_about_it_is_in_spec_run_file_or_recipe_hash() -> None:
    plain, replayed = World(), World(spec=REPLAYING)
    for world in (plain, replayed):
        a_month_comes(world, 2)
    (run,) = (s.run for s in plain.runs.values() if s.run.stage == "train")

    assert "buffer" not in plain.generation(1).spec.data.plain()
    assert run.train.buffer is None
    assert plain.generation(1).spec.recipe_hash != replayed.generation(1).spec.recipe_hash


def test_a_half_life_is_in_the_recipe_and_its_hash_and_none_leaves_both_as_they_were() -> None:
    decaying = {**SPEC, "training": {"retention": {"replay": {"halfLife": "720h"}}}}
    worlds = [World(spec=REPLAYING), World(spec=decaying)]
    for world in worlds:
        a_month_comes(world, 2)
    plain, decayed = (world.generation(1).spec for world in worlds)

    assert plain.recipe.training.retention.replay.plain() == {
        "ratio": "0.2",
        "rowsPerClass": 10,
        "bufferRows": 20_000,
    }
    assert decayed.recipe.training.retention.replay.half_life == "720h"
    assert plain.recipe_hash != decayed.recipe_hash


def test_rows_of_slices_are_replayed_ten_of_each_and_another_number_is_another_recipe() -> None:
    columns = SPEC["data"]["source"]["columns"] | {"slice": "country"}
    data = {**SPEC["data"], "source": SPEC["data"]["source"] | {"columns": columns}}
    replays = ({}, {"rowsPerSlice": 10}, {"rowsPerSlice": 11})
    found = []
    for replay in replays:
        spec = {**SPEC, "data": data, "training": {"retention": {"replay": replay}}}
        world = World(spec=spec)
        a_month_comes(world, 2)
        found.append(world.generation(1).spec)
    default, ten, eleven = found

    assert default.recipe.training.retention.replay.rows_per_slice == 10
    assert default.recipe.data.source.columns.slice == "country"
    assert default.recipe_hash == ten.recipe_hash != eleven.recipe_hash
