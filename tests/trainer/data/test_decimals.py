"""Numbers with a fixed scale, as databases write them to Parquet."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from springtide_trainer.data.source.readers.rows import RowBatch
from springtide_trainer.data.source.values import texts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Look = Callable[..., Any]
    Clicks = Callable[..., list[dict[str, Any]]]
    Write = Callable[..., Path]


@pytest.mark.parametrize("scale", [0, 2, 9, 18])
def test_whole_decimals_are_read_like_whole_numbers(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path, scale: int
) -> None:
    """As databases export NUMERIC: 1 as 1.000000000, and 0 as 0E-9."""
    rows = [{**row, "shopper": row["shopper"][1:]} for row in clicks(1, 2)]
    table = pa.Table.from_pylist(rows)
    for name in ("shopper", "clicked"):
        column = pa.array([Decimal(row[name]) for row in rows], pa.decimal128(38, scale))
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, tmp_path / "a.parquet")
    found = [
        run_probe(tmp_path / "a.parquet", format="Parquet", columns={"entity": "shopper"}),
        run_probe(write_csv(tmp_path / "a.csv", rows), columns={"entity": "shopper"}),
    ]
    assert len({each.window.digest for each in found}) == 1


def test_decimals_that_are_not_whole_keep_their_digits() -> None:
    numbers = ["-1.50", "0.0000005", "10.0", "-7.0", None]
    column = pa.array([number and Decimal(number) for number in numbers], pa.decimal128(38, 7))
    batch = RowBatch({"price": column}, "a.parquet", "row", np.arange(1, 6))
    found = texts(batch, "price", "data.source.columns.features[0]").to_pylist()
    assert found == ["-1.5000000", "5E-7", "10", "-7", None]
