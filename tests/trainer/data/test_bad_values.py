"""Invalid values are refused with count, field and what to do, before a GPU is requested."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from springtide_trainer.storage import Home

    Look = Callable[..., Any]
    Refuse = Callable[..., tuple[str, str, str]]

HEADER = "at,query,item,clicked\n"
GOOD = "2026-01-01 12:00:00,shoe,sneaker,1\n"


def two_months(labels: list[object]) -> pa.Table:
    start = datetime(2026, 1, 31 - len(labels) // 2)  # noqa: DTZ001 - Parquet without a zone
    return pa.table(
        {
            "at": [start + timedelta(days=at) for at in range(len(labels))],
            "query": ["private words"] * len(labels),
            "item": ["x"] * len(labels),
            "clicked": labels,
        }
    )


@pytest.mark.parametrize(
    ("text", "shape"),
    [("13/01/2026", "99/99/9999"), ("secret", "xxxxxx"), ("1767225600", "9999999999"), ("", "")],
)
def test_an_unreadable_timestamp_is_refused_with_line_and_format_but_not_its_text(
    refuse: Refuse, tmp_path: Path, text: str, shape: str
) -> None:
    (tmp_path / "a.csv").write_text(HEADER + GOOD + f"{text},a,b,1\n")
    assert refuse(tmp_path / "a.csv") == (
        "UnreadableTimestamp",
        "data.source.columns.timestamp",
        f"'a.csv' line 3: a timestamp like {shape!r} is neither RFC 3339 nor "
        '"YYYY-MM-DD HH:MM:SS"; fix it or select another column',
    )


@pytest.mark.survives(
    "Data",
    "timestamps in the future",
    "refused with line, count and the latest moment allowed: a day ahead of the API server's clock",
)
def test_a_timestamp_more_than_a_day_in_the_future_is_refused(
    run_probe: Look, refuse: Refuse, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(HEADER + GOOD)
    assert run_probe(tmp_path / "a.csv", now="2025-12-31T12:00:00Z").reason == "NotComplete"
    assert refuse(tmp_path / "a.csv", now="2025-12-31T11:59:59Z") == (
        "FutureTimestamp",
        "data.source.columns.timestamp",
        "'a.csv' line 2: the timestamp is later than 2026-01-01T11:59:59+00:00; check its time "
        "zone and unit (at least 1 such rows)",
    )


@pytest.mark.survives(
    "Data",
    "timestamps that no calendar has, such as nanoseconds read as microseconds",
    "refused with row, count and the years allowed",
)
@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_a_timestamp_before_the_year_1_is_refused(
    refuse: Refuse, tmp_path: Path, unit: str
) -> None:
    before = -{"s": 1, "ms": 10**3, "us": 10**6}[unit] * 10**11
    table = two_months([0, 1, 0, 1])
    stamps = pa.array([1767225600, 1767225600, before, 1769904000], pa.timestamp(unit))
    pq.write_table(table.set_column(0, "at", stamps), tmp_path / "a.parquet")
    assert refuse(tmp_path / "a.parquet", format="Parquet") == (
        "UnreadableTimestamp",
        "data.source.columns.timestamp",
        "'a.parquet' row 3: the timestamp is not in the years 1 to 9998; check its unit (at least "
        "1 such rows)",
    )


def test_a_zone_that_moves_a_timestamp_out_of_the_year_1_is_refused(
    refuse: Refuse, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(HEADER + GOOD + "0001-01-01T00:00:00+05:00,a,b,1\n")
    reason, _, message = refuse(tmp_path / "a.csv")
    assert reason == "UnreadableTimestamp"
    assert message.startswith("'a.csv' line 3: the timestamp is not in the years 1 to 9998")


@pytest.mark.survives("Data", "timestamps in mixed zones", "compared in UTC")
def test_timestamps_in_mixed_zones_are_compared_in_utc(run_probe: Look, tmp_path: Path) -> None:
    rows = [
        "2026-01-31T23:30:00-05:00,a,b,1",  # February in UTC
        "2026-01-31T23:30:00Z,a,b,1",
        "2026-02-01T01:30:00+02:00,a,b,0",  # January in UTC
        "2026-02-01 00:00:00,a,b,0",  # without a zone it is UTC
    ]
    (tmp_path / "a.csv").write_text(HEADER + "\n".join(rows) + "\n")
    found = run_probe(tmp_path / "a.csv").window
    assert (found.partitions, found.rows) == (["2026-01"], 2)
    assert (found.holdout_partitions, found.holdout_rows) == (["2026-02"], 2)


def test_a_missing_timestamp_is_refused_with_its_row(refuse: Refuse, tmp_path: Path) -> None:
    stamps = [datetime(2026, 1, 1), None]  # noqa: DTZ001 - Parquet without a zone
    table = pa.table({"at": stamps, "query": ["a", "b"], "item": ["", ""], "clicked": [0, 1]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert refuse(tmp_path / "a.parquet", format="Parquet") == (
        "MissingTimestamp",
        "data.source.columns.timestamp",
        "'a.parquet' row 2 has no timestamp in 'at' (at least 1 such rows); fix or remove "
        "these rows",
    )


def test_a_parquet_timestamp_that_is_not_utf8_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    table = two_months([0, 1, 0, 1])
    stamps = pa.array([b"2026-01-01", b"2026-01-02", b"\xff", b"2026-02-02"]).view(pa.string())
    pq.write_table(table.set_column(0, "at", stamps), tmp_path / "a.parquet")
    assert refuse(tmp_path / "a.parquet", format="Parquet") == (
        "NotUtf8",
        "data.source.columns.timestamp",
        "'a.parquet' rows 1 to 4: column 'at' is not valid UTF-8; write it in UTF-8",
    )


@pytest.mark.survives(
    "Data", "labels that model.labels does not name", "refused with the labels and their counts"
)
def test_a_label_that_the_model_does_not_have_is_refused_with_its_count(
    refuse: Refuse, tmp_path: Path
) -> None:
    pq.write_table(two_months([0, 1, 2, 2, 0, 1]), tmp_path / "a.parquet")
    assert refuse(tmp_path / "a.parquet", format="Parquet") == (
        "UnknownLabel",
        "data.source.columns.label",
        "2 of 4 train rows have a label that is not one of the 2 model.labels ('0', '1'): '2' (2); "
        "fix them or append the label to model.labels",
    )


@pytest.mark.survives("Data", "labels that are NaN or missing", "refused with their count")
@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_or_nan_label_is_refused(refuse: Refuse, tmp_path: Path, missing: object) -> None:
    labels = pa.array([0.0, 1.0, missing, 0.0, 1.0, 1.0], pa.float64())
    pq.write_table(two_months([0] * 6).set_column(3, "clicked", labels), tmp_path / "a.parquet")
    assert refuse(tmp_path / "a.parquet", format="Parquet") == (
        "MissingLabel",
        "data.source.columns.label",
        "1 of 4 train rows have no label (null, NaN or empty); fix or remove them",
    )


@pytest.mark.survives(
    "Data",
    "training rows of one class only",
    "no run starts; the message has the label and both counts",
)
def test_training_rows_of_one_class_start_no_run(
    run_probe: Look, home: Home, tmp_path: Path
) -> None:
    pq.write_table(two_months([1] * 4 + [0, 1]), tmp_path / "a.parquet")
    found = run_probe(tmp_path / "a.parquet", format="Parquet")
    assert found.reason == "NotEnoughData"
    assert found.message == (
        "all 4 training rows have label '1', at least 2 labels are needed "
        "(data.source.columns.label); the next probe adds newer rows, or fix the column"
    )
    assert found.window is None
    assert not (home.path / "data").exists()


def test_a_missing_entity_and_an_invalid_weight_are_refused(refuse: Refuse, tmp_path: Path) -> None:
    table = two_months([0, 1, 0, 1]).append_column("who", pa.array(["a", None, "c", "d"]))
    table = table.append_column("weight", pa.array([1.0, 2.0, 3.0, 4.0]))
    pq.write_table(table, tmp_path / "a.parquet")
    assert refuse(tmp_path / "a.parquet", format="Parquet", columns={"entity": "who"}) == (
        "MissingEntity",
        "data.source.columns.entity",
        "1 of 3 train rows have no entity; add it, such as a session id, or remove "
        "data.source.columns.entity",
    )
    for weight in (-1.0, float("inf"), None):
        weights = pa.array([weight, 1.0, 1.0, 1.0], pa.float64())
        pq.write_table(table.set_column(5, "weight", weights), tmp_path / "b.parquet")
        assert refuse(tmp_path / "b.parquet", format="Parquet", columns={"weight": "weight"}) == (
            "InvalidWeight",
            "data.source.columns.weight",
            "1 of 3 train rows have no finite weight >= 0; fix them or remove "
            "data.source.columns.weight",
        )


def test_labels_of_a_quarantined_month_are_not_checked(
    run_probe: Look,
    refuse: Refuse,
    clicks: Callable[..., Any],
    write_csv: Callable[..., Path],
    tmp_path: Path,
) -> None:
    bad = [{**row, "clicked": "oops"} for row in clicks(2)]
    path = write_csv(tmp_path / "a.csv", [*clicks(1), *bad, *clicks(3)])
    assert refuse(path)[0] == "UnknownLabel"
    found = run_probe(path, probe={"quarantined": ["2026-02"]})
    assert (found.reason, found.window.partitions) == ("WindowReady", ["2026-01"])


@pytest.mark.survives("Data", "a file with a header and no rows", "no new data, and no failure")
def test_empty_data_is_no_new_data(run_probe: Look, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER)
    found = run_probe(tmp_path / "a.csv")
    assert (found.reason, found.message) == ("NoNewData", "no new rows")


@pytest.mark.survives(
    "Data", "labels with line breaks and terminal codes", "escaped in every message and log line"
)
def test_messages_escape_line_breaks_and_control_characters(refuse: Refuse, tmp_path: Path) -> None:
    labels = ["0", "1", "\x1b[2J\nforged", "0", "1", "0"]
    pq.write_table(two_months(labels), tmp_path / "a.parquet")
    message = refuse(tmp_path / "a.parquet", format="Parquet")[2]
    assert message.isprintable()
    assert "\\x1b[2J\\nforged" in message


def test_corrected_data_is_used_by_the_next_probe(
    run_probe: Look, refuse: Refuse, tmp_path: Path
) -> None:
    pq.write_table(two_months([0, 1, 2, 1, 0, 1]), tmp_path / "a.parquet")
    assert refuse(tmp_path / "a.parquet", format="Parquet")[0] == "UnknownLabel"
    pq.write_table(two_months([0, 1, 0, 1, 0, 1]), tmp_path / "a.parquet")
    assert run_probe(tmp_path / "a.parquet", format="Parquet").window.rows == 4
