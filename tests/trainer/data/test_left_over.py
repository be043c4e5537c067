"""A probe deletes what generations that are gone and killed pods left, once it is a week old."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from springtide_trainer.storage import LOCAL_RUNS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from springtide_trainer.storage import Home

DAY = 86_400

OF_G3 = [
    "checkpoints/g3",
    "reports/ranker-1a2b3-g3-evaluate-1",
    "results/g3-11111111-train.json",
    "results/ranker-1a2b3-g3-collect-1.json",
    "tmp/ranker-1a2b3-g3-train-1-6d9f6a10",
    "tmp/t0123456789-1a2b3-g3-train-1-6d9f6a10",
    "tmp/ranker-1a2b3-g3-collect-1-collected",
]
OF_PROBES = [
    "results/ranker-1a2b3-probe-1760000000.json",
    "tmp/ranker-1a2b3-probe-1760000000-6d9f6a10",
]


@pytest.fixture
def probed(
    run_probe: Callable[..., Any], write_csv: Callable[..., Path], clicks: Any, tmp_path: Path
) -> Callable[..., None]:
    """Probe while these generations exist: `probed(["g1-11111111"], unfinished=[])`."""
    source = write_csv(tmp_path / "clicks.csv", clicks(1, 2))

    def probed(
        generations: list[str] | None, unfinished: list[str] | None = None, ago: float = 0.0
    ) -> None:
        """Probe with a run file that was written some days ago."""
        given = {"generations": generations, "unfinished": unfinished or []}
        now = datetime.now(UTC) - timedelta(days=ago)
        assert run_probe(source, now=now.isoformat(), probe=given).reason == "WindowReady"

    return probed


def write(home: Home, names: list[str], days: float) -> list[Path]:
    """Write files, and folders with a file in a folder, that are some days old."""
    made = []
    for name in names:
        path = home.path / name
        if path.suffix == ".json":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
            every = [path]
        else:
            (path / "step-000000010").mkdir(parents=True)
            (path / "step-000000010" / "state.json").write_text("{}")
            every = [path / "step-000000010" / "state.json", path / "step-000000010", path]
        for each in every:
            age(each, days)
        made.append(path)
    return made


def age(path: Path, days: float) -> None:
    before = time.time() - days * DAY
    os.utime(path, (before, before))


def left(home: Home, names: list[str]) -> list[str]:
    return [name for name in names if (home.path / name).exists()]


@pytest.mark.survives(
    "People",
    "a generation is deleted by hand in any phase, and pods are killed before they can clean up",
    "its checkpoints, reports, results and scratch folders are deleted by the probes a week later",
)
def test_what_a_generation_that_is_gone_and_killed_pods_left_is_deleted(
    home: Home, probed: Callable[..., None]
) -> None:
    write(home, OF_G3 + OF_PROBES, days=7.1)
    probed(["g1-11111111", "g33-33333333"], unfinished=["g33-33333333"])
    assert left(home, OF_G3 + OF_PROBES) == []
    assert {path.name for path in (home.path / "tmp").iterdir()} == {"0"}
    assert list((home.path / "tmp" / "0").glob("*-*")) == []


def test_what_is_younger_than_a_week_stays_as_its_generation_may_not_be_known_yet(
    home: Home, probed: Callable[..., None]
) -> None:
    write(home, OF_G3 + OF_PROBES, days=6.9)
    probed([])
    assert left(home, OF_G3 + OF_PROBES) == OF_G3 + OF_PROBES


def test_a_folder_stays_while_anything_in_it_is_young(
    home: Home, probed: Callable[..., None]
) -> None:
    names = ["checkpoints/g3", "tmp/ranker-1a2b3-g3-train-1-6d9f6a10"]
    for path in write(home, names, days=30):
        age(path / "step-000000010" / "state.json", days=1)
    probed([])
    assert left(home, names) == names


def test_what_was_young_when_the_run_file_was_written_stays_however_long_its_pod_waited(
    home: Home, probed: Callable[..., None]
) -> None:
    write(home, OF_G3, days=7.5)
    probed([], ago=1)
    assert left(home, OF_G3) == OF_G3


def test_an_attempt_that_may_run_keeps_all_that_it_has(
    home: Home, probed: Callable[..., None]
) -> None:
    names = [name for name in OF_G3 if not name.endswith("-collect-1.json")]
    write(home, names, days=60)
    probed(["g3-11111111"], unfinished=["g3-11111111"])
    assert left(home, names) == names


def test_reports_and_results_of_a_finished_generation_stay_and_its_checkpoints_go(
    home: Home, probed: Callable[..., None]
) -> None:
    write(home, OF_G3, days=60)
    probed(["g3-11111111", "g4-44444444"], unfinished=["g4-44444444"])
    assert left(home, OF_G3) == [
        "reports/ranker-1a2b3-g3-evaluate-1",
        "results/g3-11111111-train.json",
        "results/ranker-1a2b3-g3-collect-1.json",
    ]


def test_the_result_of_an_earlier_generation_of_the_same_number_is_deleted(
    home: Home, probed: Callable[..., None]
) -> None:
    names = ["results/g3-00000000-train.json", "results/g3-11111111-train.json"]
    write(home, names, days=8)
    probed(["g3-11111111"])
    assert left(home, names) == names[1:]


def test_names_that_no_pod_of_the_update_gives_and_links_stay(
    home: Home, probed: Callable[..., None], tmp_path: Path
) -> None:
    names = [
        "checkpoints/by-hand",
        "reports/g3",
        "reports/other-1a2b3-g3-evaluate-1",
        "results/notes.json",
        "tmp/notes",
        "tracking/g3",
    ]
    write(home, names, days=60)
    (precious,) = write(home, ["precious"], days=60)
    link = home.path / "checkpoints" / "g3"
    link.symlink_to(precious)
    probed([])
    assert left(home, names) == names
    assert link.is_symlink()
    assert (precious / "step-000000010" / "state.json").exists()


def test_a_folder_that_is_a_link_is_not_searched(
    home: Home, probed: Callable[..., None], tmp_path: Path
) -> None:
    (precious,) = write(home, ["elsewhere/g3"], days=60)
    (home.path / "checkpoints").symlink_to(precious.parent)
    probed([])
    assert precious.exists()


def test_an_operator_that_names_no_generations_deletes_nothing(
    home: Home, probed: Callable[..., None]
) -> None:
    write(home, OF_G3, days=60)
    probed(None)
    assert left(home, OF_G3) == OF_G3


def test_nothing_is_deleted_where_runs_without_a_cluster_have_generations(
    home: Home, probed: Callable[..., None]
) -> None:
    write(home, OF_G3, days=60)
    (home.path / LOCAL_RUNS).write_text("{}")
    probed([])
    assert left(home, OF_G3) == OF_G3
