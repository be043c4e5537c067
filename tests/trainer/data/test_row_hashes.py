"""The hash of a row is that of its names and values as JSON, for ever."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.data.snapshots.frozen_rows import PartitionDigests, row_hashes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[..., Path]

TEXTS = st.one_of(st.none(), st.text(max_size=8))
ROWS = st.lists(
    st.tuples(TEXTS, st.text(max_size=3), st.floats(), st.integers(-(2**55), 2**55)), max_size=5
)
_TEXTS = "sha256:edb9333d2a882ea1deaa3861a84a22eb0cc23d2d232770e9cdbe872f461f390b"
_TYPED = "sha256:23d31224676a7b93c0e86b629592dbb7fe351615c6a7d020e88e1b8e0da16a64"
DIGEST = {"CSV": _TEXTS, "JSONL": _TEXTS, "Parquet": _TYPED}
"""Parquet writes 1e-05 as 1e-5."""


def written(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


@given(rows=ROWS)
def test_rows_are_hashed_as_json(rows: list[tuple[Any, ...]]) -> None:
    text, label, weight, time = zip(*rows, strict=True) if rows else ((), (), (), ())
    table = pa.table(
        {
            "weight": pa.array(weight, pa.float64()),
            "text": pa.array(text, pa.string()),
            "timestamp": pa.array(time, pa.timestamp("us", "UTC")),
            "label": pa.array(label, pa.string()),
            "entity": pa.array(label, pa.string()),
        }
    )
    names = ["label", "text", "timestamp", "weight"]
    expected = [
        hashlib.sha256((written(names) + written([*row[1::-1], row[3], row[2]])).encode()).digest()
        for row in rows
    ]
    assert [bytes(row) for row in row_hashes(table, own_entity=True)] == expected


@given(names=st.lists(st.sampled_from(["p1", "p2"]), max_size=9), cut=st.integers(0, 9))
def test_the_digest_of_a_partition_is_that_of_the_hashes_of_its_rows(
    names: list[str], cut: int
) -> None:
    hashes = np.arange(32 * len(names), dtype=np.uint8).reshape(-1, 32)
    digests = PartitionDigests()
    for rows in (slice(None, cut), slice(cut, None)):
        digests.add(pa.chunked_array([pa.array(names[rows], pa.string())]), hashes[rows])
    assert digests.plain() == [
        {
            "partition": name,
            "rows": names.count(name),
            "digest": "sha256:"
            + hashlib.sha256(hashes[np.array(names) == name].tobytes()).hexdigest(),
        }
        for name in dict.fromkeys(names)
    ]


TEXT = ["plain", 'a "quoted", comma', "two\nlines", "tab\tand \\", "Größe 42 🙂", "", "007", "NA"]
COLUMNS = {"entity": "shopper", "group": "list", "weight": "worth", "features": ["price"]}


@pytest.mark.parametrize("form", ["CSV", "JSONL", "Parquet"])
def test_the_digest_of_a_window_never_changes(
    run_probe: Callable[..., Any], write_csv: Write, write_jsonl: Write, tmp_path: Path, form: str
) -> None:
    rows = [
        {
            "at": f"2026-0{month}-{day + 1:02}T10:00:00.25Z",
            "query": TEXT[day % len(TEXT)],
            "item": f"item {day}",
            "clicked": day % 2,
            "shopper": f"s{day % 5}",
            "list": f"l{month}-{day}",
            "worth": day / 8,
            "price": [9, 9.5, 0.1, -3, 1e-05, 2**52][day % 6],
        }
        for month in (1, 2, 3)
        for day in range(28)
    ]
    match form:
        case "CSV":
            path = write_csv(tmp_path / "a", rows)
        case "JSONL":
            path = write_jsonl(tmp_path / "a", rows)
        case _:
            path = tmp_path / "a"
            pq.write_table(pa.Table.from_pylist(rows), path)
    found = run_probe(path, format=form, columns=COLUMNS, reserve="0.3").window
    assert found.digest == DIGEST[form]
