"""Requests of users: a token that was used before is another request."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.invariants import Invariants
from lifecycle.world import World, with_generation_one


def probes_so_far(world: World) -> int:
    """How many probes were started so far."""
    return len([name for name in world.job_names_ever if "-probe-" in name])


def by_request_only() -> World:
    world = with_generation_one()
    world.edit(trigger={})
    world.rounds(2)
    return world


@pytest.mark.survives(
    "People",
    "a request is made with a token that another request had in between: run@1, reject@1, run@1",
    "it is handled again: a probe starts",
)
def test_a_request_that_is_repeated_later_is_run_again() -> None:
    world = by_request_only()
    before = probes_so_far(world)
    world.ask("run@1")
    world.rounds(3)
    world.ask("reject@1")
    world.rounds(1)
    world.months.append("2025-03")
    world.ask("run@1")
    world.rounds(8)
    assert probes_so_far(world) == before + 2
    assert world.update.status.live.number == 2


def test_a_repeated_request_runs_also_while_the_job_of_the_first_still_exists() -> None:
    world = by_request_only()
    before = probes_so_far(world)
    world.ask("run@1")
    world.settle()
    world.complete_jobs()
    while not world.step().facts:  # what was found is taken, its Job is not deleted yet
        pass
    assert any(job.stage == "probe" for job in world.jobs.values())
    world.ask("reject@1")
    world.step()
    world.ask("run@1")
    world.months.append("2025-03")
    world.rounds(8)
    assert probes_so_far(world) == before + 2
    assert world.update.status.live.number == 2


def test_a_request_repeated_during_its_probe_shares_that_probe() -> None:
    world = by_request_only()
    before = probes_so_far(world)
    world.ask("run@1")
    world.settle()
    world.ask("reject@1")
    world.settle()
    world.months.append("2025-03")
    world.ask("run@1")
    world.rounds(8)
    assert probes_so_far(world) == before + 1
    assert world.update.status.live.number == 2


def test_the_same_request_is_not_run_twice() -> None:
    world = by_request_only()
    world.ask("run@1")
    world.rounds(3)
    before = probes_so_far(world)
    world.ask("run@1")
    world.rounds(3)
    assert probes_so_far(world) == before


def test_an_accepted_generation_that_is_rejected_by_request_keeps_its_verdict() -> None:
    world = with_generation_one()
    Invariants(world)
    world.months.append("2025-03")
    world.target = replace(world.target, complete=False, stalled="the owner's change is stuck")
    world.pods_ready = False
    world.rounds(6)
    assert world.generation(2).status.phase == "Accepted"
    world.ask("reject@1")
    world.rounds(2)
    status = world.generation(2).status
    assert (status.verdict, status.retired_reason, status.outcome) == (
        "Accepted",
        "RejectedByRequest",
        "Retired",
    )
    world.pods_ready = True
    world.months.append("2025-04")
    world.rounds(8)
    assert world.update.status.live.number == 3
