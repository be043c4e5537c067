"""Probes of real data: a year of purchases of a shop, one partition per month."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from springtide_trainer.data.snapshots.frozen_rows import verify
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable

PURCHASES = {
    "text": "query",
    "textPair": "item",
    "label": "label",
    "timestamp": "ts",
    "entity": "customer",
}


@pytest.fixture
def purchases() -> Path:
    folder = os.environ.get("SPRINGTIDE_ONLINE_RETAIL")
    if not folder:
        pytest.skip("SPRINGTIDE_ONLINE_RETAIL names no folder with next_purchase_pairs.csv.gz")
    path = Path(folder)
    return path if path.is_file() else path / "next_purchase_pairs.csv.gz"


def test_every_month_is_a_holdout_first_and_then_trained_on_once(
    run_probe: Callable[..., Any], purchases: Path
) -> None:
    asked = {
        "columns": PURCHASES,
        "reserve": "0.05",
        "window": {"maxRows": 1},
        "now": "2011-12-01T00:00:00Z",
    }
    trained, judged, rows = [], [], 0
    found = run_probe(purchases, **asked)
    while found.reason == "WindowReady":
        verify(local_path(found.window.manifest), found.window.digest)
        trained += found.window.partitions
        judged += found.window.holdout_partitions
        rows += found.window.rows + found.window.reserved_rows
        cursor = found.window.to.isoformat()
        found = run_probe(purchases, **asked, probe={"cursor": cursor})
    months = ["2010-12"] + [f"2011-{month:02}" for month in range(1, 10)]
    assert (trained, judged) == (months[:-1], months[1:])
    assert rows + found.pending_rows == 34_280
    assert found.message == "1 of 2 complete partitions"
