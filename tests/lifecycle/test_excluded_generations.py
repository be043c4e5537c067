"""Rows that a rolled-back generation served are left out of every later run."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from lifecycle.declared import SPEC, with_columns
from lifecycle.invariants import Invariants
from lifecycle.world import MONTHS, World

from springtide_operator.lifecycle.training.outdated_generation import outdated_reason


def on_generation_two(**columns: str) -> World:
    """Generation 2 is live since 2025-03; the rows of 2025-04 are those that it served."""
    world = World(spec=with_columns(SPEC, **columns))
    Invariants(world)
    world.settle()
    for months in (2, 3):
        world.months = MONTHS[:months]
        world.rounds(8)
    assert world.target.number == 2
    world.months.append("2025-04")
    assert world.served_in("2025-04") == {2}
    return world


def rolled_back(**columns: str) -> World:
    world = on_generation_two(**columns)
    world.ask("rollback.g2@1")
    world.rounds(4)
    assert world.generation(2).status.outcome == "RolledBack"
    return world


@pytest.mark.survives(
    "Data",
    "a bad generation served for days and was rolled back; its rows were logged with its number",
    "they are in no training rows and no holdout of a later run, and counted in its "
    "`spec.data.excludedRows`",
)
def test_the_next_run_leaves_out_what_a_rolled_back_generation_served() -> None:
    world = rolled_back(servedGeneration="served_by")
    world.ask("retry@2")
    world.rounds(8)
    data = world.generation(3).spec.data
    assert (data.excluded_generations, data.excluded_rows) == ([2], 100)
    assert data.partitions == ["2025-02", "2025-03"]
    (started,) = (m for m in world.event_messages if m.startswith("shop-g3 trains"))
    assert started.endswith("; left out: 100 rows served before a rollback")
    world.months.append("2025-05")
    world.rounds(8)
    assert world.generation(4).spec.data.excluded_generations == [2]
    assert world.served_in("2025-05") == {3}, "what the next one serves is trained on"


def test_without_a_column_of_generations_nothing_is_left_out() -> None:
    world = rolled_back()
    world.ask("retry@2")
    world.rounds(8)
    data = world.generation(3).spec.data
    assert (data.excluded_generations, data.excluded_rows) == ([], 0)


@pytest.mark.survives(
    "People",
    "a generation is rolled back while a probe runs",
    "its result is discarded, and a new probe leaves out the rows that the generation served",
)
def test_a_window_frozen_before_a_rollback_is_not_trained_on() -> None:
    world = rolled_back(servedGeneration="served_by")
    world.ask("retry@2")
    world.settle()
    (probe,) = (job for job in world.jobs.values() if job.request == "retry@2")
    assert probe.excluded == frozenset({2})
    world.jobs[probe.name] = replace(probe, excluded=frozenset())  # begun before, with this cursor
    world.complete_jobs()
    world.settle()
    assert probe.name not in world.jobs
    assert "shop-g3" not in world.generations
    assert world.events[-1] == "ExcludedGenerationsChanged"
    world.ask("retry@3")
    world.rounds(8)
    assert world.generation(3).spec.data.excluded_generations == [2]


def test_a_run_that_has_not_started_fails_if_a_generation_that_served_its_rows_was_rolled_back():
    world = rolled_back(servedGeneration="served_by")
    world.ask("retry@2")
    while "shop-g3" not in world.generations:
        world.now += timedelta(minutes=2)
        world.complete_jobs()
        world.step()
    made, seen = world.generation(3), world.seen()
    before = made.spec.data.model_copy(update={"excluded_generations": []})
    older = made.model_copy(update={"spec": made.spec.model_copy(update={"data": before})})
    assert outdated_reason(seen, made, world.now) == ""
    assert outdated_reason(seen, older, world.now) == (
        "rows that g2 served before the rollback may be among its rows"
    )


def test_rows_of_a_generation_that_is_deleted_since_are_left_out() -> None:
    world = rolled_back(servedGeneration="served_by")
    world.ask("retry@2")
    world.rounds(8)
    del world.generations["shop-g2"]
    world.months.append("2025-05")
    world.rounds(8)
    assert world.generation(4).spec.data.excluded_generations == [2]


@pytest.mark.survives(
    "Operator",
    "a trainer image of an older version that does not know `columns.servedGeneration`",
    "no run starts on rows that a rolled-back generation served; the probe's message names the "
    "image",
)
def test_no_run_starts_if_the_trainer_image_cannot_leave_rows_out() -> None:
    world = rolled_back(servedGeneration="served_by")
    world.image_knows_served_generation = False
    world.ask("retry@2")
    world.rounds(4)
    last = world.update.status.last_probe
    assert last.reason == "RowsNotExcluded"
    assert "image trainer:1 does not know" in last.message
    assert "shop-g3" not in world.generations


def test_what_was_rolled_back_in_a_long_life_is_left_out_to_its_end() -> None:
    """Also once the history has deleted the generation; the invariants check each run."""
    rng, left_out = random.Random(1), 0
    spec = with_columns(SPEC, servedGeneration="served_by")
    spec["history"] = {"generations": 2, "rejected": 0}
    world = World(spec=spec, now=datetime(2027, 1, 1, 12, tzinfo=UTC))
    checks = Invariants(world)
    world.settle()
    for month in MONTHS[:9]:
        world.months.append(month)
        served = world.served_in(month)
        if world.update.status.previous and rng.random() < 0.6:
            (bad,) = served
            world.ask(f"rollback.g{bad}@{month}")
            world.rounds(3)
            world.ask(f"retry@{month}")
        world.rounds(5)
        checks.check_at_rest()
        left_out += any(g.spec.data and g.spec.data.excluded_rows for g in world.seen().generations)
    gone = {n for n in checks.excluded if f"shop-g{n}" not in world.generations}
    assert len(gone) > 1
    assert left_out
