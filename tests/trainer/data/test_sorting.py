"""Rows are sorted in runs and merged: the same order and the same digest as sorted at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springtide_trainer.data.snapshots import freeze, sorting
from springtide_trainer.data.source.readers import parquet_rows
from springtide_trainer.data.source.readers.rows import batched
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Clicks = Callable[..., list[dict[str, Any]]]
    Write = Callable[..., Path]


def table(rows: list[tuple[int, str]]) -> pa.Table:
    times = pa.array([time for time, _ in rows], pa.int64())
    return pa.table({"text": pa.array([text for _, text in rows]), "timestamp": times})


ROWS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["a", "b", "c"])), min_size=1)


@settings(max_examples=60, deadline=None)
@given(runs=st.lists(ROWS, min_size=1, max_size=5), step=st.integers(1, 5))
def test_merged_runs_have_the_order_of_all_rows_sorted_at_once(runs, step):
    whole = sorting.sort(table([row for run in runs for row in run]))
    merged = list(sorting.merge([sorting.sort(table(run)) for run in runs], step))
    assert pa.concat_tables([part.table for part in merged]).equals(whole.table)
    assert np.array_equal(np.concatenate([part.hashes for part in merged]), whole.hashes)
    keys = [part.key(row) for part in merged for row in range(len(part))]
    assert keys == sorted(keys)


def test_a_run_on_disk_has_the_rows_that_were_written(tmp_path: Path) -> None:
    rows = sorting.sort(table([(time % 7, f"text {time}") for time in range(100)]))
    mapped = sorting.write_run(rows, tmp_path / "run.arrow")
    assert mapped.table.equals(rows.table)
    assert [mapped.key(row) for row in range(100)] == [rows.key(row) for row in range(100)]


@pytest.mark.parametrize("entity", [None, "shopper"])
def test_a_partition_of_many_runs_gives_the_rows_and_the_digest_of_one(
    run_probe: Callable[..., Any],
    clicks: Clicks,
    write_csv: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    entity: str | None,
) -> None:
    rows = clicks(1, 2, 3, a_month=28)
    path = write_csv(tmp_path / "a.csv", [*rows, *rows[:5]][::-1])
    asked = {"columns": {"entity": entity} if entity else {}}
    once = run_probe(path, **asked).window
    first = local_path(once.manifest)
    monkeypatch.setattr(freeze, "RUN", 9)
    monkeypatch.setattr(freeze, "ROW_GROUP", 8)
    monkeypatch.setattr(batched, "__defaults__", (5,))
    monkeypatch.setattr(sorting.merge, "__defaults__", (3,))
    again = run_probe(path, **asked).window
    second = local_path(again.manifest)
    assert again.digest == once.digest
    assert second != first
    for part in ("train", "holdout", "reserved"):
        mine, other = (pq.read_table(each / f"{part}.parquet") for each in (first, second))
        assert mine.equals(other)
    groups = pq.ParquetFile(second / "train.parquet").metadata
    assert [groups.row_group(index).num_rows for index in range(3)] == [8, 8, 8]


@pytest.mark.survives(
    "Data",
    "a partition with more bytes of texts than memory",
    "sorted in runs and written in row groups of a number of bytes",
)
def test_rows_of_long_texts_are_sorted_and_written_some_bytes_at_a_time(
    run_probe: Callable[..., Any],
    clicks: Clicks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [{**row, "query": "x" * 1_000} for row in clicks(1, 2, 3, a_month=28)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows[::-1]), path, use_dictionary=False)
    once = run_probe(path, format="Parquet").window
    sizes, ordered, most = [], sorting._ordered, 10_000

    def recorded(table: pa.Table, *keys: Any) -> Any:
        sizes.append(table.nbytes)
        return ordered(table, *keys)

    monkeypatch.setattr(sorting, "_ordered", recorded)
    monkeypatch.setattr(freeze, "RUN_BYTES", most)
    monkeypatch.setattr(freeze, "GROUP_BYTES", most)
    monkeypatch.setattr(sorting, "CHUNK_BYTES", most)
    monkeypatch.setattr(parquet_rows, "BATCH_BYTES", most)
    again = run_probe(path, format="Parquet").window
    assert again.digest == once.digest
    assert max(sizes) < 2.5 * most
    first, second = (local_path(each.manifest) for each in (once, again))
    for part in ("train", "holdout"):
        mine, other = (pq.read_table(each / f"{part}.parquet") for each in (first, second))
        assert mine.equals(other)
    groups = pq.ParquetFile(second / "train.parquet").metadata
    counts = [groups.row_group(index).num_rows for index in range(groups.num_row_groups)]
    assert counts == [10, 10, 10, 10, 10, 6]


def test_a_bad_row_in_a_later_run_is_refused_with_the_rows_before_it(
    run_probe: Callable[..., Any],
    clicks: Clicks,
    write_csv: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = clicks(1, 2)
    rows[8]["clicked"] = "maybe"
    monkeypatch.setattr(freeze, "RUN", 5)
    monkeypatch.setattr(batched, "__defaults__", (5,))
    with pytest.raises(Refused, match=r"1 of 5 train rows, those after the first 5, have a label"):
        run_probe(write_csv(tmp_path / "a.csv", rows))
