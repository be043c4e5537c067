"""In an object store a probe deletes the same: what generations that are gone, and pods, left."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from springtide_api.contract import ExitCode, ProbeInput, RunFile
from springtide_trainer.errors import Refused
from springtide_trainer.objects.mirror import Mirror
from springtide_trainer.objects.store import Store
from springtide_trainer.stages import left_over
from springtide_trainer.storage import Home, kept_by

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.object_store

HOME = "storage/shop/ranker"
COMMITTED = [
    "checkpoints/g3/step-000000010/commit.json",
    "checkpoints/g3/step-000000010/ranker-1a2b3-g3-train-1-pod/state.json",
    "reports/ranker-1a2b3-g3-evaluate-1/commit.json",
    "reports/ranker-1a2b3-g3-evaluate-1/ranker-1a2b3-g3-evaluate-1-pod/report.html",
]
PARTS = [
    "checkpoints/g3/step-000000020/ranker-1a2b3-g3-train-1-pod/model.safetensors",
    "reports/ranker-1a2b3-g3-evaluate-2/ranker-1a2b3-g3-evaluate-2-pod/report.html",
]
"""What a pod uploaded that was killed before it committed."""
RESULTS = ["results/g3-11111111-train.json"]
OF_PROBES = ["results/ranker-1a2b3-probe-1760000000.json", "tmp/create-once-6d9f6a10"]
ALL = sorted(COMMITTED + PARTS + RESULTS + OF_PROBES)


@pytest.fixture
def write(bucket) -> Callable[..., None]:
    """Write objects that are some days old."""

    def write(names: list[str], days: float) -> None:
        before = time.time() - days * 86_400
        for name in names:
            bucket.store.put(f"{HOME}/{name}", name.encode())
            os.utime(bucket.folder / HOME / name, (before, before))

    return write


@pytest.fixture
def left(bucket, tmp_path: Path) -> Callable[..., list[str]]:
    """Delete as a probe does, whose run file was written some days ago; return what is left."""

    def left(generations: list[str] | None, *unfinished: str, ago: float = 0.0) -> list[str]:
        now = datetime.now(UTC) - timedelta(days=ago)
        given = ProbeInput(now=now, generations=generations, unfinished=list(unfinished))
        run = RunFile.model_construct(update="ranker", probe=given)
        root = tmp_path / "home"
        mirror = Mirror(tmp_path / "copies", root=root, home=f"{bucket.uri}/{HOME}", writer="pod")
        with kept_by(mirror):
            left_over.delete(run, Home(root), tmp_path)
        return [key.removeprefix(f"{HOME}/") for key in bucket.keys(HOME)]

    return left


def test_what_a_generation_that_is_gone_and_killed_pods_left_is_deleted(write, left) -> None:
    write(ALL, days=7.1)
    assert left(["g1-11111111", "g33-33333333"], "g33-33333333") == []


def test_what_is_younger_than_a_week_stays_also_with_what_is_older_in_its_folder(
    write, left
) -> None:
    write(ALL, days=6.9)
    assert left([]) == ALL
    write(COMMITTED, days=60)
    assert left([]) == sorted({*ALL} - {*COMMITTED[2:]})


def test_what_was_young_when_the_run_file_was_written_stays(write, left) -> None:
    write(ALL, days=7.5)
    assert left([], ago=1) == ALL


def test_what_a_running_attempt_has_stays_with_reports_and_results(write, left) -> None:
    write(ALL, days=60)
    assert left(["g3-11111111"], "g3-11111111") == sorted(COMMITTED + PARTS + RESULTS)


def test_reports_and_results_of_a_finished_generation_stay(write, left) -> None:
    write(ALL, days=60)
    assert left(["g3-11111111"]) == sorted([*COMMITTED[2:], PARTS[1], *RESULTS])


def test_names_that_no_pod_of_the_update_gives_stay(write, left) -> None:
    names = ["checkpoints/by-hand/x", "reports/other-1a2b3-g3-evaluate-1/x", "results/notes.json"]
    names += ["tmp/notes", "tracking/tensorboard/g3/x"]
    write(names, days=60)
    assert left([]) == names


def test_an_operator_that_names_no_generations_deletes_nothing(write, left) -> None:
    write(ALL, days=60)
    assert left(None) == ALL


def test_what_cannot_be_deleted_now_does_not_fail_the_probe(
    write, left, monkeypatch, caplog
) -> None:
    write(ALL, days=8)
    delete = Store.delete

    def denied(self, keys: Any) -> None:
        if any("/checkpoints/" in key for key in keys):
            raise Refused("NoAccess", "access denied", code=ExitCode.ENVIRONMENT)
        delete(self, keys)

    monkeypatch.setattr(Store, "delete", denied)
    assert left([]) == sorted([*COMMITTED[:2], PARTS[0]])
    (record,) = (each for each in caplog.records if each.message == "not deleted")
    assert "access denied" in record.error
