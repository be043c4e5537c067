"""Some of the frozen rows are read without those before and after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.data.snapshots.frozen_rows import count_rows, read_chunks
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

ROWS, GROUP = 50, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("rows")
    table = pa.table({"text": [f"row {number}" for number in range(ROWS)], "label": [1] * ROWS})
    pq.write_table(table, made / "train.parquet", row_group_size=GROUP)
    return made


def texts(folder: Path, rows: range | None, size: int = 5) -> list[str]:
    chunks = [*read_chunks(folder, "train", ["text"], size, rows=rows)]
    assert all(0 < len(chunk) <= size and chunk.schema.names == ["text"] for chunk in chunks)
    return [text for chunk in chunks for text in chunk["text"].to_pylist()]


@given(st.integers(0, ROWS), st.integers(0, ROWS), st.integers(1, 2 * GROUP))
def test_a_range_of_rows_is_read_in_chunks(folder, start, stop, size):
    rows = range(start, max(start, stop))
    assert texts(folder, rows, size) == [f"row {number}" for number in rows]


def test_without_a_range_all_rows_are_read(folder):
    assert texts(folder, None) == [f"row {number}" for number in range(ROWS)]
    assert count_rows(folder, "train") == ROWS


def test_row_groups_without_any_of_the_rows_are_not_read(folder, tmp_path):
    content = bytearray((folder / "train.parquet").read_bytes())
    first = pq.read_metadata(folder / "train.parquet").row_group(0).column(0)
    begin = first.dictionary_page_offset
    content[begin : begin + first.total_compressed_size] = bytes(first.total_compressed_size)
    (tmp_path / "train.parquet").write_bytes(content)
    assert texts(tmp_path, range(GROUP, ROWS)) == [f"row {n}" for n in range(GROUP, ROWS)]
    with pytest.raises(Refused, match="damaged"):
        texts(tmp_path, range(GROUP - 1, ROWS))


def test_missing_rows_are_refused(tmp_path):
    with pytest.raises(Refused, match="missing or damaged"):
        count_rows(tmp_path, "train")
