"""Statuses, Jobs and probes that an earlier version of the operator left: nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.world import World, with_generation_one


def a_probe_of_an_earlier_version() -> tuple[World, str]:
    """A probe by request; which part of the spec it depends on was not recorded."""
    world = with_generation_one()
    world.rounds(2)
    world.months.append("2025-03")
    world.ask("run@1")
    world.step()
    (name,) = (name for name, job in world.jobs.items() if job.request)
    world.jobs = {name: replace(world.jobs[name], probed="")}
    return world, name


@pytest.mark.survives(
    "Operator",
    "it is upgraded while a requested probe runs",
    "the result of the probe is used: no request is lost",
)
def test_a_probe_of_an_earlier_version_is_consumed() -> None:
    world, name = a_probe_of_an_earlier_version()
    world.settle()
    assert name in world.jobs
    world.now += timedelta(minutes=1)
    world.complete_jobs()
    world.settle()
    assert world.update.status.last_probe.job == name
    assert world.generation(2).spec.trigger == "Request"


def test_a_probe_of_an_earlier_version_is_discarded_after_an_edit() -> None:
    world, name = a_probe_of_an_earlier_version()
    world.edit(suspend=False)
    world.settle()
    assert name not in world.jobs


def test_a_probe_that_an_earlier_version_consumed_is_not_consumed_again() -> None:
    world = with_generation_one()
    world.rounds(2)
    world.months.append("2025-03")
    while world.update.status.last_probe.reason != "WindowReady" or not world.jobs:
        world.now += timedelta(minutes=1)
        world.complete_jobs()
        world.step()
    last = world.update.status.last_probe
    assert last.job in world.jobs
    earlier = world.update.status.model_copy(
        update={"last_probe": last.model_copy(update={"job_uid": ""})}
    )
    world.update = world.update.model_copy(update={"status": earlier})
    runs = earlier.counters.runs
    world.settle()
    assert last.job not in world.jobs
    assert world.update.status.counters.runs == runs
