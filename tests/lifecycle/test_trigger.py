"""When a run may start: schedule and its time zone, interval, cooldown, runs of a day, requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from lifecycle.world import World, with_generation_one

from springtide_operator.lifecycle.state.recipe import recipe, recipe_hash


def waiting_world(**trigger: object) -> World:
    world = World()
    world.edit(trigger=trigger)
    world.settle()
    world.complete_jobs()
    world.settle()
    return world


@pytest.mark.survives(
    "Update",
    "a schedule in a time zone that changes to summer time",
    "runs at the local hour before and after",
)
def test_a_schedule_follows_its_time_zone_through_summer_time() -> None:
    world = waiting_world(schedule="0 3 * * *", timeZone="Europe/Berlin")
    world.now = datetime(2026, 3, 28, 12, tzinfo=UTC)
    world.complete_jobs()
    world.settle()
    world.complete_jobs()
    world.settle()

    # The night of 29 March has summer time: 03:00 in Berlin is 01:00 UTC, not 02:00.
    assert "2026-03-29 01:00:00 UTC" in world.update.status.progress.waiting_for


@pytest.mark.survives(
    "Operator",
    "down during several slots of a schedule",
    "one run afterwards, not one for each slot",
)
def test_missed_slots_are_made_up_for_once() -> None:
    world = waiting_world(schedule="0 3 * * *")
    world.now += timedelta(days=5)
    world.settle()
    assert [job.stage for job in world.jobs.values()] == ["probe"]
    world.complete_jobs()
    plan = world.settle()
    assert plan.wake_after is not None
    assert plan.wake_after > timedelta(hours=1)


@pytest.mark.survives(
    "Operator",
    "down at the time of a schedule, after a probe by request began",
    "the probe of the schedule comes once the operator is back, not a day later",
)
def test_a_probe_that_ended_before_the_time_of_a_schedule_does_not_stand_for_its_probe() -> None:
    world = waiting_world(schedule="0 3 * * *")
    world.now = datetime(2026, 3, 28, 2, 50, tzinfo=UTC)
    world.settle()
    world.complete_jobs()
    world.settle()
    world.ask("run@early")
    world.step()
    (early,) = (job for job in world.jobs.values() if job.request == "run@early")
    world.complete_jobs()
    world.now += timedelta(minutes=20)
    world.settle()
    assert world.update.status.last_probe.job == early.name
    assert [job.trigger for job in world.jobs.values()] == ["Schedule"]


def test_a_schedule_is_followed_once_where_the_clock_of_jobs_is_behind() -> None:
    world = waiting_world(schedule="0 3 * * *")
    world.now = datetime(2026, 3, 28, 2, 50, tzinfo=UTC)
    world.settle()
    world.complete_jobs()
    world.settle()
    world.now = datetime(2026, 3, 28, 3, 0, 10, tzinfo=UTC)
    world.settle()
    (probe,) = world.jobs.values()
    world.complete_jobs()
    done = world.jobs[probe.name]
    world.jobs[probe.name] = replace(done, finished=done.finished - timedelta(minutes=1))
    world.settle()
    assert not world.jobs
    assert "2026-03-29 03:00:00 UTC" in world.update.status.progress.waiting_for


@pytest.mark.survives(
    "Data",
    "probes fail repeatedly",
    "the interval grows; it is as before after a success",
)
def test_an_interval_grows_while_probes_fail_and_recovers() -> None:
    world = waiting_world(onData={"pollInterval": "1m"})
    pauses = []
    for _ in range(4):
        world.settle()
        world.fail(next(iter(world.jobs)), 1, reason="Error")
        pauses.append(world.settle().wake_after)
        world.now += timedelta(hours=7)
    assert pauses == sorted(pauses)
    assert pauses[-1] > timedelta(minutes=8)
    assert world.update.status.last_probe.failures == 4

    world.settle()
    world.complete_jobs()
    world.settle()
    assert world.update.status.last_probe.failures == 0


@pytest.mark.survives(
    "API server",
    "the API server's clock is set back by a day during a cooldown, or after the last run of a day",
    "times that are ahead of the clock delay neither a probe nor a run",
)
@pytest.mark.parametrize("limit", [{"cooldown": "6h"}, {"maxRunsPerDay": 1}], ids=str)
def test_a_clock_that_is_set_back_prolongs_no_pause(limit: dict) -> None:
    world = with_generation_one()
    world.edit(trigger={"onData": {"pollInterval": "1m"}, **limit})
    world.settle()
    world.complete_jobs()
    world.settle()
    assert world.update.status.progress.summary in {"Cooldown", "MaxRunsPerDayReached"}
    world.now -= timedelta(hours=25)
    world.months.append("2025-03")
    world.rounds(8)
    assert world.generation(2).status.outcome == "Live"


def test_a_cooldown_waits_after_the_end_of_a_run_and_is_reported() -> None:
    world = World()
    world.edit(trigger={"onData": {"pollInterval": "1m"}, "cooldown": "6h"})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    world.months.append("2025-03")
    plan = world.rounds(2)

    assert plan.status.progress.summary == "Cooldown"
    assert "cooldown of 6h" in plan.status.progress.waiting_for
    assert not world.jobs
    world.now += timedelta(hours=6)
    world.rounds(2)
    assert "shop-g2" in world.generations


def test_no_more_runs_start_within_a_day_than_allowed() -> None:
    world = World()
    world.edit(trigger={"onData": {"pollInterval": "1m"}, "maxRunsPerDay": 1})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    world.months.append("2025-03")
    plan = world.rounds(3)

    first = world.generations["shop-g1"].metadata.creation_timestamp
    again = f"another may start at {first + timedelta(days=1):%Y-%m-%d %H:%M:%S} UTC"
    assert f"at most 1 (trigger.maxRunsPerDay); {again}" in plan.status.progress.waiting_for
    assert "shop-g2" not in world.generations
    world.now += timedelta(days=1)
    world.rounds(2)
    assert "shop-g2" in world.generations


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ("@hourly", "2026-03-01 13:00:00"),
        ("@daily", "2026-03-02 00:00:00"),
        ("@midnight", "2026-03-02 00:00:00"),
        ("@weekly", "2026-03-08 00:00:00"),
        ("@monthly", "2026-04-01 00:00:00"),
        ("@yearly", "2027-01-01 00:00:00"),
        ("@annually", "2027-01-01 00:00:00"),
    ],
)
def test_a_schedule_may_be_any_of_the_names_that_a_cron_job_knows(schedule: str, due: str) -> None:
    world = waiting_world(schedule=schedule)
    assert f"next probe at {due} UTC" in world.update.status.progress.waiting_for


def test_a_schedule_that_is_no_cron_expression_is_refused_with_its_path() -> None:
    world = World()
    world.edit(trigger={"schedule": "61 3 * * *"})
    world.settle()
    stalled = next(c for c in world.update.status.conditions if c.type == "Stalled")
    assert stalled.message.startswith("spec.trigger.schedule")
    assert world.update.status.phase == "Invalid"


@pytest.mark.survives(
    "Update",
    "a time zone that does not exist",
    "`Stalled` with the field's path",
)
@pytest.mark.parametrize("zone", ["Europe/Atlantis", "US", "America", "Etc"])
def test_a_time_zone_that_does_not_exist_is_refused_with_its_path(zone: str) -> None:
    """The last ones are folders of the list, which Python tries to read as a file."""
    world = World()
    world.edit(trigger={"schedule": "@daily", "timeZone": zone})
    world.settle()
    stalled = next(c for c in world.update.status.conditions if c.type == "Stalled")
    assert stalled.message.startswith("spec.trigger.timeZone")


@pytest.mark.survives(
    "People",
    "the spec is edited while a probe runs",
    "its result is discarded, and a new probe starts",
)
def test_a_spec_that_changed_during_a_probe_causes_another_probe() -> None:
    world = waiting_world(onData={"pollInterval": "1m"})
    world.months = ["2025-01", "2025-02"]
    world.now += timedelta(minutes=5)
    world.settle()
    world.complete_jobs()
    world.edit(model={**world.spec["model"], "maxLength": 64})
    world.step()
    assert "shop-g1" not in world.generations
    world.rounds(2)
    assert world.generation(1).spec.recipe.model.max_length == 64


@pytest.mark.survives(
    "People",
    "a partition is quarantined while a probe runs",
    "its result is discarded, and a new probe starts without that partition",
)
def test_a_month_that_is_quarantined_during_a_probe_is_not_trained_on() -> None:
    world = World()
    for month in ("2025-01", "2025-02", "2025-03"):
        world.months.append(month)
        world.aucs[month] = (0.5, 0.5)
        world.rounds(5)
    assert world.update.status.cursor.proposed_for_quarantine == ["2025-01"]
    world.months.append("2025-04")
    world.now += timedelta(minutes=30)
    world.settle()
    world.complete_jobs()
    world.ask("quarantine@1")
    world.rounds(8)
    newest = world.generation(3).spec.data
    assert newest is not None
    assert newest.quarantined == ["2025-01"]
    assert newest.partitions == ["2025-02", "2025-03"]


def test_a_spec_that_changes_during_a_run_counts_for_the_next_one() -> None:
    world = World()
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(2)
    world.edit(model={**world.spec["model"], "maxLength": 64})
    world.rounds(6)
    assert world.generation(1).spec.recipe.model.max_length == 128
    assert world.generation(1).status.verdict == "Accepted"
    world.months.append("2025-03")
    world.rounds(6)
    assert world.generation(2).spec.recipe.model.max_length == 64


def test_an_edit_that_does_not_affect_a_running_probe_keeps_it() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.ask("run@1")
    world.step()
    (probe,) = (job for job in world.jobs.values() if job.request == "run@1")
    world.edit(training={"hyperparameters": {"learningRate": "3e-5"}}, trigger={"onData": {}})
    world.settle()
    assert world.jobs[probe.name].uid == probe.uid
    world.rounds(1)
    assert world.generation(2).spec.recipe.training.hyperparameters.learning_rate == "3e-5"


def test_an_edit_of_what_a_probe_reads_starts_it_again() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.ask("run@1")
    world.step()
    (probe,) = (job for job in world.jobs.values() if job.request == "run@1")
    world.edit(data={**world.spec["data"], "window": {"minRows": 7}})
    world.settle()
    assert probe.name not in world.jobs or world.jobs[probe.name].uid != probe.uid
    assert "SpecChanged" in world.events


@pytest.mark.parametrize(
    ("training", "rate"),
    [
        ({}, "2e-5"),
        ({"hyperparameters": {"epochs": 2}}, "2e-5"),
        ({"method": {"type": "LoRA", "lora": {}}}, "5e-4"),
        ({"method": {"type": "AdaLoRA", "adaLora": {}}}, "1e-3"),
        ({"method": {"type": "Adapter", "adapter": {}}}, "5e-4"),
        ({"method": {"type": "PromptTuning", "promptTuning": {}}}, "2e-2"),
        ({"method": {"type": "PrefixTuning", "prefixTuning": {}}}, "2e-2"),
        ({"method": {"type": "LoRA", "lora": {}}, "hyperparameters": {"epochs": 2}}, "5e-4"),
        (
            {
                "method": {"type": "LoRA", "lora": {}},
                "hyperparameters": {"learningRate": "1e-4"},
            },
            "1e-4",
        ),
    ],
)
def test_a_recipe_records_the_learning_rate_of_its_method(training, rate) -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.edit(training=training)
    world.rounds(6)
    assert world.generation(2).spec.recipe.training.hyperparameters.learning_rate == rate
    assert world.generation(2).status.verdict == "Accepted"


def test_another_method_is_another_recipe_of_the_same_rows() -> None:
    hashes = set()
    lora, small = {"type": "LoRA", "lora": {}}, {"type": "LoRA", "lora": {"rank": 4}}
    ada, less = ({"type": "AdaLoRA", "adaLora": {"rank": rank}} for rank in (8, 4))
    for method in ({"type": "Full"}, lora, small, ada, less):
        world = with_generation_one()
        world.edit(training={"method": method, "hyperparameters": {"learningRate": "1e-4"}})
        hashes.add(recipe_hash(recipe(world.seen())))
    assert len(hashes) == 5
