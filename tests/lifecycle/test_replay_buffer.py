"""The replay buffer follows the lineage: taken over at promotion, restored by a rollback."""

from __future__ import annotations

from datetime import UTC, datetime

from lifecycle.declared import SPEC
from lifecycle.world import MONTHS, World

from springtide_api.retained import Replayed
from springtide_operator.lifecycle.jobs.training_facts import (
    replay_message,
    replay_status,
    retained,
)

REPLAYING = {**SPEC, "training": {"retention": {"replay": {}}}, "history": {"generations": 2}}


def replaying(promotions: int) -> World:
    world = World(spec=REPLAYING)
    for number in range(promotions):
        world.months = MONTHS[: number + 2]
        world.rounds(10)
    return world


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
    world.aucs[MONTHS[2]] = (0.57, 0.60)
    world.months = MONTHS[:3]
    world.rounds(10)
    assert world.generation(2).status.verdict == "Rejected"
    world.months = MONTHS[:4]
    world.rounds(10)

    assert left_by(world, 2) not in (None, left_by(world, 1))
    assert taken_by(world, 3) == left_by(world, 1)


def test_a_rollback_restores_the_buffer_of_the_generation_that_is_live_again() -> None:
    world = replaying(2)
    world.pods_ready = False
    world.months = MONTHS[:4]
    world.rounds(10)
    world.pods_ready = True
    world.rounds(3)
    assert world.generation(3).status.rollout.rolled_back_at
    world.months = MONTHS[:5]
    world.ask("retry@again")
    world.rounds(10)

    assert taken_by(world, 4) == left_by(world, 2) == taken_by(world, 3)


def test_a_buffer_is_deleted_with_the_last_generation_that_left_it() -> None:
    world = replaying(5)
    deleted = [
        path
        for start in world.runs.values()
        if start.run.collect
        for path in start.run.collect.delete
        if "/buffers/" in path
    ]
    kept = [left_by(world, number).uri for number in (4, 5)]

    assert len(deleted) == len(set(deleted)) == 3
    assert not {f"file://{path}" for path in deleted} & {*kept}


def test_a_buffer_that_two_generations_left_is_kept_until_both_are_deleted() -> None:
    world = replaying(2)
    shared = left_by(world, 1)
    second = world.generation(2)
    artifact = second.status.artifact.model_copy(update={"buffer": shared})
    status = second.status.model_copy(update={"artifact": artifact})
    world.generations["shop-g2"] = second.model_copy(update={"status": status})
    for count in (4, 5):
        world.months = MONTHS[:count]
        world.rounds(10)
    gone = {s.run.number for s in world.runs.values() if s.run.collect}
    deleted = [path for s in world.runs.values() if s.run.collect for path in s.run.collect.delete]

    assert gone == {1, 2}
    assert deleted.count(shared.uri.removeprefix("file://")) == 1


def test_without_replay_nothing_about_it_is_in_spec_run_file_or_recipe_hash() -> None:
    plain, replayed = World(), World(spec=REPLAYING)
    for world in (plain, replayed):
        world.months = MONTHS[:2]
        world.rounds(10)
    (run,) = (s.run for s in plain.runs.values() if s.run.stage == "train")

    assert "buffer" not in plain.generation(1).spec.data.plain()
    assert run.train.buffer is None
    assert plain.generation(1).spec.recipe_hash != replayed.generation(1).spec.recipe_hash


def test_a_half_life_is_in_the_recipe_and_its_hash_and_none_leaves_both_as_they_were() -> None:
    decaying = {**SPEC, "training": {"retention": {"replay": {"halfLife": "720h"}}}}
    worlds = [World(spec=REPLAYING), World(spec=decaying)]
    for world in worlds:
        world.months = MONTHS[:2]
        world.rounds(10)
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
        world.months = MONTHS[:2]
        world.rounds(10)
        found.append(world.generation(1).spec)
    default, ten, eleven = found

    assert default.recipe.training.retention.replay.rows_per_slice == 10
    assert default.recipe.data.source.columns.slice == "country"
    assert default.recipe_hash == ten.recipe_hash != eleven.recipe_hash
