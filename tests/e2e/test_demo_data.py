"""The demo's data: generated from a seed, with shuffled labels, or a user's own."""

import csv
import gzip
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
import shop
from demo import monthly, own_data
from demo.kubectl import DemoError

MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_month_is_the_same_every_time_it_is_made():
    assert shop.as_csv(shop.month_rows(MARCH)) == shop.as_csv(shop.month_rows(MARCH))


def test_a_month_has_its_rows_in_order_and_within_itself():
    rows = shop.month_rows(MARCH)
    moments = [row[0] for row in rows]
    assert len(rows) == shop.ROWS
    assert moments == sorted(moments)
    assert moments[0] >= "2026-03-01"
    assert moments[-1] < "2026-04-01"
    assert 0.4 < sum(row[4] for row in rows) / len(rows) < 0.6


def test_shuffled_labels_change_nothing_else():
    clean, shuffled = shop.month_rows(MARCH), shop.month_rows(MARCH, shuffled=True)
    assert [row[:4] for row in clean] == [row[:4] for row in shuffled]
    labels, shuffled = [row[4] for row in clean], [row[4] for row in shuffled]
    assert Counter(labels) == Counter(shuffled)
    agreeing = sum(one == other for one, other in zip(labels, shuffled, strict=True))
    assert agreeing / len(labels) < 0.6


def write(file: Path, rows: list[tuple]) -> Path:
    with gzip.open(file, "wt", newline="") as text:
        csv.writer(text).writerows([shop.COLUMNS, *rows])
    return file


def generation(*holdouts_given: tuple[list[str], str]) -> dict:
    holdouts = [{"partitions": months, "outcome": outcome} for months, outcome in holdouts_given]
    return {"spec": {}, "status": {"verdict": "Inconclusive", "evaluation": {"holdouts": holdouts}}}


def test_a_month_counts_only_once_the_holdout_that_it_extends_is_decided():
    under_way = generation((["2026-01"], "Inconclusive"), (["2026-01", "2026-02"], ""))
    decided = generation((["2026-01"], "Inconclusive"), (["2026-01", "2026-02"], "Inconclusive"))
    assert monthly.evaluated_on({1: under_way}, "2026-02") == {}
    assert monthly.evaluated_on({1: decided}, "2026-01") == {}
    assert monthly.evaluated_on({1: decided}, "2026-02") == decided


def test_own_data_is_cut_into_months_of_whole_customers(tmp_path):
    rows = [
        (f"2026-{month:02}-05 10:00:00", f"c{number % 50}", "query", "item", str(number % 2))
        for month in (1, 2)
        for number in range(500)
    ]
    found = own_data.months(write(tmp_path / "own.csv.gz", rows), rows=105)
    assert list(found) == ["2026-01", "2026-02"]
    for taken in found.values():
        assert set(Counter(row[1] for row in taken).values()) == {10}
        assert len(taken) == 100
    customers = [{row[1] for row in taken} for taken in found.values()]
    assert customers[0] == customers[1]


def test_own_data_without_a_column_is_refused_by_its_name(tmp_path):
    file = tmp_path / "own.csv"
    file.write_text("ts,customer,query,label\n2026-01-01,c,q,1\n")
    with pytest.raises(DemoError, match=r"own\.csv lacks \['item'\]"):
        own_data.months(file)


def test_one_month_is_not_enough(tmp_path):
    rows = [("2026-01-05 10:00:00", "c", "q", "i", label) for label in "01"]
    with pytest.raises(DemoError, match="has 1 months"):
        own_data.months(write(tmp_path / "own.csv.gz", rows))


def test_purchases_of_a_real_shop_are_brought_to_size():
    place = os.environ.get("SPRINGTIDE_ONLINE_RETAIL")
    if not place:
        pytest.skip("SPRINGTIDE_ONLINE_RETAIL names no folder with next_purchase_pairs.csv.gz")
    path = Path(place)
    found = own_data.months(path if path.is_file() else path / "next_purchase_pairs.csv.gz")
    assert list(found) == [f"2010-{12}", *(f"2011-{month:02}" for month in range(1, 10))]
    assert all(1500 < len(rows) <= 3000 for rows in found.values())
