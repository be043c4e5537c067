"""Probes name the generations that exist, so that what others left in the storage is deleted.

The names are those of the operator's Jobs, and what deletes them is the stage of the trainer image.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from lifecycle.world import MONTHS, World, after_promotions

from springtide_operator.lifecycle.probing.probe_job import start_probe
from springtide_trainer.stages import left_over
from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from springtide_api.contract import RunFile

DAY = 86_400


def two() -> World:
    """Generation 1 is live, and the rows of generation 2 are there."""
    world = after_promotions(1)
    world.months = MONTHS[:3]
    return world


def until(world: World, there: Callable[[], Any]) -> World:
    for _ in range(40):
        if there():
            return world
        world.round()
    raise AssertionError("it does not come to that phase")


def job(world: World, stage: str) -> str:
    return next((name for name in world.jobs if f"-g2-{stage}-" in name), "")


def training() -> World:
    world = two()
    return until(world, lambda: job(world, "train"))


def evaluated() -> World:
    world = two()
    return until(world, lambda: job(world, "evaluate"))


def failed() -> World:
    world = two()
    world.edit(training={"limits": {"maxAttempts": 1}})
    until(world, lambda: job(world, "train"))
    world.fail(job(world, "train"), 1)
    world.rounds(4)
    assert world.generation(2).status.verdict == "Failed"
    return world


def rejected() -> World:
    world = two()
    world.aucs["2025-03"] = (0.55, 0.66)
    world.rounds(8)
    assert world.generation(2).status.verdict == "Rejected"
    return world


def rolling() -> World:
    world = two()
    world.pods_ready = False
    return until(world, lambda: world.target.number == 2)


def live() -> World:
    return after_promotions(2)


PHASES = [training, evaluated, failed, rejected, rolling, live]


def left_by(run: RunFile) -> set[str]:
    """What the pod of a run file may leave in the folder of the update."""
    left = {f"results/{run.result or run.job}.json", f"tmp/{run.job}-8f14e45f"}
    if run.train:
        left.add(run.train.checkpoints.partition("/search/shop/")[2])
    if run.evaluate:
        left.add(f"reports/{run.job}")
    return left


def asked(world: World) -> RunFile:
    """The run file of a probe that is created now."""
    return start_probe(world.seen(), 1, "Poll", "", world.now).run


def kept(run: RunFile, names: set[str], root: Path, days: float = 8) -> set[str]:
    """Write all names some days before the run file; let its pod delete what it may."""
    for name in names:
        path = root / name
        path.mkdir(parents=True)
        os.utime(path, (run.probe.now.timestamp() - days * DAY,) * 2)
    (root / "probe").mkdir()
    left_over.delete(run, Home(root), root / "probe")
    return {name for name in names if (root / name).exists()}


@pytest.mark.parametrize("phase", PHASES)
def test_what_a_generation_left_is_deleted_if_a_user_deleted_it_in_any_phase(
    phase: Callable[[], World], tmp_path: Path
) -> None:
    world = phase()
    runs = [start.run for start in world.runs.values() if start.run.number == 2]
    names = {name for run in runs for name in left_by(run)}
    assert {"checkpoints/g2"} < names
    del world.generations["shop-g2"]
    assert kept(asked(world), names, tmp_path) == set()


def test_what_a_running_attempt_and_reports_and_results_of_others_have_stays(
    tmp_path: Path,
) -> None:
    world = two()
    before = {name: start.run for name, start in world.runs.items() if start.run.number == 1}
    until(world, lambda: job(world, "train"))
    run, old = asked(world), set().union(*map(left_by, before.values()))
    mine = left_by(world.runs[job(world, "train")].run)
    stay = {name for name in old if name.startswith(("reports/", "results/"))}
    assert len(mine) == 3
    assert len(stay) == 3
    assert kept(run, mine | old, tmp_path) == mine | stay


@pytest.mark.survives(
    "Operator",
    "a probe whose operator does not know the newest generation yet, or whose pod waits",
    "it deletes nothing of that generation",
)
def test_a_probe_that_does_not_name_a_generation_deletes_nothing_of_its_last_week(
    tmp_path: Path,
) -> None:
    world = two()
    run = asked(world)
    until(world, lambda: job(world, "evaluate"))
    runs = [start.run for start in world.runs.values() if start.run.number == 2]
    names = {name for each in runs for name in left_by(each)}
    assert not [name for name in run.probe.generations if name.startswith("g2-")]
    assert kept(run, names, tmp_path, days=6.9) == names


def test_a_generation_whose_words_are_of_a_newer_version_may_have_running_pods() -> None:
    world = live()
    second = world.generation(2)
    status: Any = second.status.model_copy(update={"outcome": "Promoted"})
    world.generations["shop-g2"] = second.model_copy(update={"status": status})
    given = asked(world).probe
    uid = second.metadata.uid[:8]
    assert f"g2-{uid}" in given.generations
    assert given.unfinished == [f"g2-{uid}"]


def test_a_generation_of_a_number_that_another_had_is_deleted_with_its_own_files() -> None:
    """A result of the earlier one would let the pod end before it deleted anything."""
    world = after_promotions(4, generations=2)
    results = {s.run.number: s.run.result for s in world.runs.values() if s.run.collect}
    known = {start.run.number: start.run.result for start in world.runs.values() if start.run.train}
    assert results.keys() == {1, 2}
    for number, result in results.items():
        assert result == known[number].replace("-train", "-collect")
