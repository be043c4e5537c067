"""Unreferenced frozen rows are removed after a week; referenced and recent ones are kept."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from springtide_api.contract import EvaluateInput
from springtide_api.update.gate import Dataset
from springtide_trainer.data.snapshots import store
from springtide_trainer.data.snapshots.frozen_rows import verify
from springtide_trainer.evaluation.datasets import read_dataset
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from springtide_api.contract import RunFile
    from springtide_trainer.storage import Home

    Look = Callable[..., Any]

DAY = 86_400


@pytest.fixture
def source(write_csv: Callable[..., Path], clicks: Callable[..., Any], tmp_path: Path) -> Path:
    return write_csv(tmp_path / "clicks.csv", clicks(1, 2))


def stored(home: Home) -> list[str]:
    return sorted(path.name for path in (home.path / "data").iterdir())


def frozen(run_probe: Look, source: Path, *named: str) -> Path:
    """Probe while generations refer to these rows, and return the folder of the window's rows."""
    found = run_probe(source, probe={"referenced": list(named)}).window
    verify(local_path(found.manifest), found.digest)
    return local_path(found.manifest)


def age(folder: Path, days: float) -> None:
    before = time.time() - days * DAY
    os.utime(folder, (before, before))


@pytest.mark.survives(
    "Data",
    "probes that start no run, week after week",
    "frozen rows that no generation names are removed after 7 days, others never",
)
def test_old_rows_that_no_generation_refers_to_are_removed(
    run_probe: Look, home: Home, source: Path, write_csv: Callable[..., Path], clicks: Any
) -> None:
    first = frozen(run_probe, source)
    write_csv(source, clicks(1, 2, 3))
    second = frozen(run_probe, source)
    write_csv(source, clicks(1, 2, 3, 4))
    for folder in (first, second):
        age(folder, days=7.1)
    third = frozen(run_probe, source, second.name)
    assert stored(home) == sorted([second.name, third.name])


def test_unreferenced_rows_younger_than_a_week_are_kept(
    run_probe: Look, home: Home, source: Path, write_csv: Callable[..., Path], clicks: Any
) -> None:
    first = frozen(run_probe, source)
    age(first, days=6.9)
    write_csv(source, clicks(1, 2, 3))
    second = frozen(run_probe, source)
    assert stored(home) == sorted([first.name, second.name])


def test_a_probe_without_new_data_also_removes_old_rows(
    run_probe: Look, home: Home, source: Path
) -> None:
    age(frozen(run_probe, source), days=8)
    found = run_probe(source, probe={"referenced": [], "cursor": "2026-05-01T00:00:00Z"})
    assert found.reason == "NoNewData"
    assert stored(home) == []


def test_a_probe_without_a_list_of_references_removes_nothing(
    run_probe: Look, home: Home, source: Path
) -> None:
    first = frozen(run_probe, source)
    age(first, days=99)
    run_probe(source)
    assert first.name in stored(home)


def test_equal_rows_are_reused_within_3_days(run_probe: Look, home: Home, source: Path) -> None:
    first = frozen(run_probe, source)
    age(first, days=2.9)
    assert frozen(run_probe, source) == first
    assert stored(home) == [first.name]


def test_older_rows_are_not_reused_but_stored_as_another_copy(
    run_probe: Look, home: Home, source: Path
) -> None:
    """Otherwise another probe might remove them before a generation refers to them."""
    first = frozen(run_probe, source)
    age(first, days=3.1)
    second = frozen(run_probe, source)
    assert second.name == f"{first.name}.2"
    assert stored(home) == [first.name, second.name]
    age(first, days=7.1)
    assert frozen(run_probe, source) == second
    assert stored(home) == [second.name]


def test_reserved_rows_of_another_copy_are_historical_rows_with_the_same_digest(
    run_probe: Look, run_of: Callable[..., RunFile], source: Path
) -> None:
    asked = {"reserve": "0.3", "columns": {"entity": "shopper"}}
    first = run_probe(source, **asked).window
    age(local_path(first.manifest), days=3.1)
    second = run_probe(source, **asked).window
    assert second.manifest == f"{first.manifest}.2"
    recipe, history = run_of(source, **asked).recipe, Dataset(name="past", role="Historical")
    datasets = []
    for window in (first, second):
        of = {"uri": window.manifest, "digest": window.digest}
        asked_of = {"candidate": of, "holdout": of, "historical": [window.manifest]}
        given = EvaluateInput.model_validate(asked_of)
        datasets.append(read_dataset(history, given, recipe))
    assert len(datasets[1].table) == first.reserved_rows > 0
    assert datasets[1].digest == datasets[0].digest


@pytest.mark.survives(
    "Data",
    "frozen rows that are damaged on the disk",
    "not used: the next probe freezes the rows again",
)
@pytest.mark.parametrize("name", ["train.parquet", "holdout.parquet", "manifest.json"])
def test_damaged_rows_are_not_reused(run_probe: Look, home: Home, source: Path, name: str) -> None:
    first = frozen(run_probe, source)
    content = bytearray((first / name).read_bytes())
    content[len(content) // 2] ^= 1
    (first / name).write_bytes(content)
    assert frozen(run_probe, source).name == f"{first.name}.2"
    (first / name).unlink()
    assert frozen(run_probe, source).name == f"{first.name}.2"


def test_links_and_other_folders_are_not_removed(
    run_probe: Look, home: Home, source: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (home.path / "data").mkdir()
    (home.path / "data/sha256-aa").symlink_to(precious)
    (home.path / "data/notes").mkdir()
    age(precious, days=30)
    age(home.path / "data/notes", days=30)
    frozen(run_probe, source)
    assert {"notes", "sha256-aa"} <= set(stored(home))
    assert precious.exists()


@pytest.mark.parametrize("number", range(1, 12))
def test_a_crash_at_any_call_leaves_rows_complete_or_removed(
    run_probe: Look, home: Home, source: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    old, kept = frozen(run_probe, source), home.path / "tmp" / "kept"
    whole = {path.name for path in old.iterdir()}
    age(old, days=8)
    kept.mkdir()
    calls = 0

    def dying(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                raise SystemExit
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        for name in ("rename", "rmdir", "unlink", "fsync", "open"):
            patched.setattr(os, name, dying(getattr(os, name)))
        try:
            store.sweep(home, [], kept)
        except SystemExit:
            assert not old.exists() or {path.name for path in old.iterdir()} == whole
        else:
            assert not old.exists()
            assert calls < number
