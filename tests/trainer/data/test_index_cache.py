"""A probe reads only files that have changed since the last one."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from springtide_trainer.data.snapshots.frozen_rows import read_rows
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from collections.abc import Callable

    Look = Callable[..., Any]
    Clicks = Callable[..., list[dict[str, Any]]]
    Write = Callable[..., Path]

TREE = {"path": "%Y-%m"}
LATER = "2100-01-01T00:00:00Z"
"""A clock by which no file has just changed."""
WAITING: dict[str, Any] = {
    "partition": TREE,
    "columns": {"entity": "shopper", "group": "list"},
    "holdout": {"minRows": 100_000},
    "now": LATER,
}
"""A probe that finds too few rows, so that it freezes none."""


@pytest.fixture
def tree(tmp_path: Path, clicks: Clicks, write_csv: Write) -> Path:
    """Three months in folders, each of about 100 kB."""
    for month in (1, 2, 3):
        deliver(tmp_path / "tree", month, clicks, write_csv)
    return tmp_path / "tree"


def deliver(tree: Path, month: int, clicks: Clicks, write_csv: Write) -> Path:
    rows = [{**row, "query": "red shoe " * 20} for row in clicks(month, a_month=28)] * 20
    return write_csv(tree / f"2026-{month:02}" / "a.csv", rows)


def bytes_read(act: Callable[[], Any]) -> tuple[int, Any]:
    """Return the bytes that this process reads meanwhile, and the result."""
    before = _bytes_read()
    result = act()
    return _bytes_read() - before, result


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def entries(home: Home) -> list[Path]:
    return sorted((home.path / "index").iterdir())


@pytest.mark.survives(
    "Data", "probes of files that have not changed", "read the kept index, not the files"
)
def test_a_second_probe_reads_the_index_and_not_the_files(
    run_probe: Look, tree: Path, home: Home
) -> None:
    first, found = bytes_read(lambda: run_probe(tree, **WAITING))
    assert first > size(tree)
    again, found_again = bytes_read(lambda: run_probe(tree, **WAITING))
    assert found_again == found
    assert found.pending_rows == 3 * 28 * 20
    assert again < size(home.path / "index") + 10_000 < size(tree) / 4


def test_a_new_file_is_read_alone(
    run_probe: Look, tree: Path, home: Home, clicks: Clicks, write_csv: Write
) -> None:
    run_probe(tree, **WAITING)
    new = deliver(tree, 4, clicks, write_csv)
    read, found = bytes_read(lambda: run_probe(tree, **WAITING))
    assert found.pending_rows == 4 * 28 * 20
    assert new.stat().st_size < read < new.stat().st_size + size(home.path / "index") + 20_000
    assert len(entries(home)) == 4


def test_a_window_is_the_same_with_and_without_the_kept_index(
    run_probe: Look, tree: Path, home: Home
) -> None:
    asked = {**WAITING, "holdout": {}, "reserve": "0.3"}
    first = run_probe(tree, **asked)
    assert len(entries(home)) == 3
    again = run_probe(tree, **asked)
    shutil.rmtree(home.path / "index")
    assert first == again == run_probe(tree, **asked)


@pytest.mark.survives(
    "Data", "a file that changed but kept its size and its time of change", "read again"
)
def test_a_file_that_changed_but_kept_its_size_and_time_is_read_again(
    run_probe: Look, tree: Path
) -> None:
    asked = {**WAITING, "holdout": {}}
    first = run_probe(tree, **asked)
    file = tree / "2026-01" / "a.csv"
    before = file.stat()
    file.write_bytes(file.read_bytes().replace(b"s3", b"s4"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    again = run_probe(tree, **asked)
    assert again.window.digest != first.window.digest
    rows = read_rows(local_path(again.window.manifest), "train").to_pylist()
    assert "s3" not in {row["entity"] for row in rows if row["partition"] == "2026-01"}


def test_an_index_of_other_rows_is_found_out_before_they_are_frozen(
    run_probe: Look, tree: Path, home: Home
) -> None:
    """As if a file had changed within the resolution of the clock."""
    asked = {**WAITING, "holdout": {}, "reserve": "0.3"}
    run_probe(tree, **asked)
    before = {path: path.read_bytes() for path in entries(home)}
    file = tree / "2026-01" / "a.csv"
    file.write_bytes(file.read_bytes().replace(b"s3", b"s9"))
    expected = run_probe(tree, **asked)
    (old,) = before.keys() - set(entries(home))
    (new,) = set(entries(home)) - before.keys()
    new.unlink()
    stale = new.with_name(".".join([new.name.split(".")[0], *old.name.split(".")[1:]]))
    stale.write_bytes(before[old])
    assert run_probe(tree, **asked) == expected
    assert entries(home) == []


def test_a_damaged_index_is_read_again(run_probe: Look, tree: Path, home: Home) -> None:
    found = run_probe(tree, **WAITING)
    before = entries(home)
    content = before[0].read_bytes()
    for damage in (b"", content[:-1], b"\0" + content[1:]):
        before[0].write_bytes(damage)
        assert run_probe(tree, **WAITING) == found
        assert entries(home) == before
        assert before[0].read_bytes() == content


def test_the_index_of_a_file_that_has_just_changed_is_not_kept(
    run_probe: Look, tree: Path, home: Home
) -> None:
    just = datetime.fromisoformat(LATER).timestamp() - 30
    os.utime(tree / "2026-02" / "a.csv", (just, just))
    run_probe(tree, **WAITING)
    assert len(entries(home)) == 2


def test_the_index_of_other_columns_is_another_and_the_unused_one_is_removed(
    run_probe: Look, tree: Path, home: Home
) -> None:
    run_probe(tree, **WAITING)
    before = entries(home)
    found = run_probe(tree, **{**WAITING, "columns": {"entity": "item"}})
    assert found.pending_rows == 3 * 28 * 20
    assert set(entries(home)).isdisjoint(before)
    assert len(entries(home)) == 3


def test_a_probe_goes_on_where_no_index_can_be_kept(
    run_probe: Look, tree: Path, home: Home
) -> None:
    (home.path / "index").touch()
    assert run_probe(tree, **WAITING).pending_rows == 3 * 28 * 20
    assert (home.path / "index").read_bytes() == b""
