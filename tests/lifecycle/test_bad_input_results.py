"""Whatever an image returns: the operator continues, and writes only valid statuses."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifecycle.world import World, with_generation_one

from springtide_api.generation.status import GenerationStatus
from springtide_api.update.status import UpdateStatus
from springtide_operator.cluster.reading.observed_jobs import read_result
from springtide_operator.lifecycle.state.observed import ObservedPod

NASTY = st.sampled_from(
    [
        None,
        "",
        "\x1b[2J\n{}%s",
        "x" * 1500,
        "../../etc",
        "file:///a/../b",
        "https://elsewhere/x",
        "sha256:" + "0" * 63,
        -1,
        10**30,
        float("nan"),
        float("inf"),
        -float("inf"),
        True,
        [],
        {},
        [[]],
        ["x"] * 300,
        "9999-12-31T23:59:59Z",
        "2026-01-01",
    ]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List where something may be put instead."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, part in inner:
        found.append((*path, key))
        if isinstance(part, dict | list):
            found += places(part, (*path, key))
    return found


def spoiled(message: dict[str, Any], changes: list[tuple[int, Any]]) -> str:
    made = copy.deepcopy(message)
    for number, nasty in changes:
        known = places(made)
        *way, last = known[number % len(known)]
        block = made
        for key in way:
            block = block[key]
        block[last] = copy.deepcopy(nasty)
    return json.dumps(made)


def at(stage: str) -> tuple[World, str]:
    """A world in which a Job of this stage is under way, with generation 1 live."""
    world = World() if stage == "import" else with_generation_one()
    world.settle()
    world.months.append("2025-03")
    for _ in range(12):
        world.settle()
        if found := [name for name, job in world.jobs.items() if job.stage == stage]:
            return world, found[0]
        world.round()
    raise AssertionError(f"no {stage} Job came")


def hand_back(world: World, name: str, message: str, code: int) -> None:
    """Let a Job's pod end with this message, as it would be read from the API server."""
    ended = {"terminated": {"exitCode": code, "message": message}}
    raw = {"status": {"containerStatuses": [{"name": "trainer", "state": ended}]}}
    result = read_result(name, [raw])
    pod = ObservedPod(f"{name}-x", world._uid(), world.now, exit_code=code)
    world.jobs[name] = replace(
        world.jobs[name],
        succeeded=code == 0,
        failed=code != 0,
        finished=world.now,
        result=result,
        pods=(pod,),
    )


def writes_what_a_status_takes(world: World) -> None:
    UpdateStatus.model_validate(world.update.status.plain())
    for generation in world.generations.values():
        GenerationStatus.model_validate(generation.status.plain())


@pytest.mark.survives(
    "Results",
    "any field of a result is of another type, endless, negative, not finite, a path out of the "
    "storage or a terminal code",
    "the attempt counts as failed or the numbers as missing; the operator continues and the live "
    "generation stays",
)
@pytest.mark.parametrize("stage", ["import", "probe", "train", "evaluate"])
def test_no_result_of_any_image_stops_an_update(stage: str) -> None:
    changes = st.lists(st.tuples(st.integers(0, 200), NASTY), min_size=1, max_size=3)

    @settings(max_examples=40, deadline=None)
    @given(changes=changes, code=st.sampled_from([0, 1, 3, 4, 5, 42, 75]))
    def holds(changes: list[tuple[int, Any]], code: int) -> None:
        world, name = at(stage)
        served = list(world.served)
        result = world._result(world.runs[name]).plain()
        failure = {"reason": "MissingColumn", "message": "no column", "field": "data.source"}
        said = result | ({} if code == 0 else {"ok": False, "failure": failure})
        hand_back(world, name, spoiled(said, changes), code)
        world.settle()
        writes_what_a_status_takes(world)
        world.rounds(3)
        writes_what_a_status_takes(world)
        assert world.served[: len(served)] == served
        promoted = world.update.status.live
        assert stage == "import" or promoted.number >= 1

    holds()
