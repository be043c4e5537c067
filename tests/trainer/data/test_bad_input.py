"""Data that nobody can read: refused with file, line, field and what to do, and no text of it."""

from __future__ import annotations

import gzip
import os
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from springtide_trainer.errors import Refused
from springtide_trainer.probe import probe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from springtide_api.contract import RunFile
    from springtide_trainer.storage import Home

    Look = Callable[..., Any]

HEADER = "at,query,item,clicked\n"
GOOD = "2026-01-01 12:00:00,shoe,sneaker,1\n"


def refused(look: Look, path: Path, **asked: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        look(path, **asked)
    return caught.value


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_ragged_row_is_named_by_its_line(look: Look, tmp_path: Path) -> None:
    bad = "2026-01-02 12:00:00,secret words,with, a comma,1\n"
    wrong = refused(look, written(tmp_path / "a.csv", HEADER + GOOD + bad))
    assert wrong.failure.reason == "RaggedRow"
    assert wrong.failure.field == "data.source"
    assert wrong.failure.message == (
        "'a.csv' line 3: 5 fields, the header has 4; quote commas in texts"
    )


def test_bytes_that_are_no_utf8_are_named_by_their_line(look: Look, tmp_path: Path) -> None:
    bad = "2026-01-02 12:00:00,caf\xe9,cup,1\n".encode("latin-1")
    wrong = refused(look, written(tmp_path / "a.csv", (HEADER + GOOD).encode() + bad))
    assert wrong.failure.reason == "NotUtf8"
    assert "line 3" in wrong.failure.message
    assert "caf" not in wrong.failure.message


def test_a_truncated_gzip_is_refused(look: Look, tmp_path: Path) -> None:
    whole = gzip.compress((HEADER + GOOD * 1000).encode())
    wrong = refused(look, written(tmp_path / "a.csv.gz", whole[:-20]))
    assert wrong.failure.reason == "TruncatedFile"
    assert "deliver the whole file" in wrong.failure.message


def test_what_is_no_gzip_is_refused(look: Look, tmp_path: Path) -> None:
    wrong = refused(look, written(tmp_path / "a.csv.gz", HEADER + GOOD))
    assert wrong.failure.reason == "CorruptFile"


@pytest.mark.parametrize("form", ["CSV", "Parquet"])
def test_a_file_of_0_bytes_is_refused(look: Look, tmp_path: Path, form: str) -> None:
    wrong = refused(look, written(tmp_path / "empty", b""), format=form)
    assert wrong.failure.reason == "EmptyFile"
    assert "'empty'" in wrong.failure.message


def test_a_truncated_parquet_file_is_refused(look: Look, tmp_path: Path) -> None:
    pq.write_table(pa.table({"at": ["2026-01-01"]}), tmp_path / "whole.parquet")
    half = (tmp_path / "whole.parquet").read_bytes()[:-9]
    wrong = refused(look, written(tmp_path / "half.parquet", half), format="Parquet")
    assert wrong.failure.reason == "CorruptFile"


@pytest.mark.parametrize("form", ["CSV", "JSONL", "Parquet"])
def test_a_missing_column_is_named_with_its_field_and_those_found(
    look: Look, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "a"
    match form:
        case "CSV":
            written(path, "at,query,item,label\n")
        case "JSONL":
            written(path, '{"at": "2026-01-01", "query": "a", "item": "b", "label": 1}\n')
        case "Parquet":
            pq.write_table(pa.table({name: ["x"] for name in ("at", "query", "label")}), path)
            path = path.rename(tmp_path / "b")
    columns = {"textPair": "query"} if form == "Parquet" else {}
    wrong = refused(look, path, format=form, columns=columns)
    assert wrong.failure.reason == "MissingColumn"
    assert wrong.failure.field == "data.source.columns.label"
    assert "'clicked'" in wrong.failure.message
    assert "'label'" in wrong.failure.message


def test_a_missing_feature_and_filter_column_have_their_field_too(
    look: Look, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.csv", HEADER + GOOD)
    columns = {"text": None, "textPair": None, "features": ["query", "price"]}
    assert refused(look, path, columns=columns).failure.field == "data.source.columns.features[1]"
    judged = {"filter": {"column": "random", "equals": "1"}}
    assert refused(look, path, holdout=judged).failure.field == "data.holdout.filter.column"


@pytest.mark.parametrize(
    ("text", "shape"),
    [("13/01/2026", "99/99/9999"), ("secret", "xxxxxx"), ("1767225600", "9999999999"), ("", "")],
)
def test_an_unreadable_timestamp_is_named_by_line_and_shape_but_not_by_its_text(
    look: Look, tmp_path: Path, text: str, shape: str
) -> None:
    wrong = refused(look, written(tmp_path / "a.csv", HEADER + GOOD + f"{text},a,b,1\n"))
    assert wrong.failure.reason == "UnreadableTimestamp"
    assert wrong.failure.field == "data.source.columns.timestamp"
    assert f"'a.csv' line 3: a timestamp like {shape!r} is neither" in wrong.failure.message


def test_a_timestamp_in_the_future_is_refused_beyond_a_day_of_skew(
    look: Look, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.csv", HEADER + GOOD)
    assert look(path, now="2025-12-31T12:00:00Z").reason == "NotComplete"
    wrong = refused(look, path, now="2025-12-31T11:59:59Z")
    assert wrong.failure.reason == "FutureTimestamp"
    assert "'a.csv' line 2" in wrong.failure.message


def test_a_missing_timestamp_is_named_by_its_row(look: Look, tmp_path: Path) -> None:
    stamps = [datetime(2026, 1, 1), None]  # noqa: DTZ001 - Parquet without a zone
    table = pa.table({"at": stamps, "query": ["a", "b"], "item": ["", ""], "clicked": [0, 1]})
    pq.write_table(table, tmp_path / "a.parquet")
    wrong = refused(look, tmp_path / "a.parquet", format="Parquet")
    assert wrong.failure.reason == "MissingTimestamp"
    assert "row 2" in wrong.failure.message


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


def test_a_label_outside_the_models_is_named_with_its_count_and_the_bound(
    look: Look, tmp_path: Path
) -> None:
    pq.write_table(two_months([0, 1, 2, 2, 0, 1]), tmp_path / "a.parquet")
    wrong = refused(look, tmp_path / "a.parquet", format="Parquet")
    assert wrong.failure.reason == "UnknownLabel"
    assert wrong.failure.field == "data.source.columns.label"
    assert "2 of 4 train rows" in wrong.failure.message
    assert "none of the 2 model.labels ('0', '1'): '2' (2)" in wrong.failure.message


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_or_nan_label_is_refused(look: Look, tmp_path: Path, missing: object) -> None:
    labels = pa.array([0.0, 1.0, missing, 0.0, 1.0, 1.0], pa.float64())
    table = two_months([0] * 6)
    pq.write_table(table.set_column(3, "clicked", labels), tmp_path / "a.parquet")
    wrong = refused(look, tmp_path / "a.parquet", format="Parquet")
    assert wrong.failure.reason == "MissingLabel"
    assert "1 of 4 train rows" in wrong.failure.message


def test_one_class_only_is_not_enough_to_train_on(look: Look, tmp_path: Path) -> None:
    pq.write_table(two_months([1] * 4 + [0, 1]), tmp_path / "a.parquet")
    found = look(tmp_path / "a.parquet", format="Parquet")
    assert found.reason == "NotEnoughData"
    assert found.message.startswith("all 4 training rows have the label '1': 1 of at least 2")
    assert found.window is None


def test_a_missing_entity_and_a_bad_weight_are_refused(look: Look, tmp_path: Path) -> None:
    table = two_months([0, 1, 0, 1]).append_column("who", pa.array(["a", None, "c", "d"]))
    table = table.append_column("weight", pa.array([1.0, 2.0, 3.0, 4.0]))
    pq.write_table(table, tmp_path / "a.parquet")
    wrong = refused(look, tmp_path / "a.parquet", format="Parquet", columns={"entity": "who"})
    assert wrong.failure.reason == "MissingEntity"
    assert wrong.failure.field == "data.source.columns.entity"
    for weight in (-1.0, float("inf"), None):
        weights = pa.array([weight, 1.0, 1.0, 1.0], pa.float64())
        pq.write_table(table.set_column(5, "weight", weights), tmp_path / "b.parquet")
        wrong = refused(
            look, tmp_path / "b.parquet", format="Parquet", columns={"weight": "weight"}
        )
        assert wrong.failure.reason == "InvalidWeight"


def test_labels_of_a_quarantined_month_are_not_looked_at(
    look: Look, clicks: Callable[..., Any], write_csv: Callable[..., Path], tmp_path: Path
) -> None:
    bad = [{**row, "clicked": "oops"} for row in clicks(2)]
    path = write_csv(tmp_path / "a.csv", [*clicks(1), *bad, *clicks(3)])
    assert refused(look, path).failure.reason == "UnknownLabel"
    found = look(path, probe={"holes": ["2026-02"]})
    assert (found.reason, found.window.partitions) == ("WindowReady", ["2026-01"])


def test_empty_data_is_no_new_data(look: Look, tmp_path: Path) -> None:
    found = look(written(tmp_path / "a.csv", HEADER))
    assert (found.reason, found.message) == ("NothingNew", "no rows")


def test_data_that_our_pods_may_not_read_is_named(
    run_of: Callable[..., RunFile], home: Home, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    run = run_of(written(private / "a.csv", HEADER + GOOD))
    private.chmod(0)
    was = os.geteuid()
    os.seteuid(65534 if was == 0 else was)
    try:
        with pytest.raises(Refused, match="DataNotReadable"):
            probe(run, home, tmp_path)
    finally:
        os.seteuid(was)
        private.chmod(0o700)


def test_data_that_is_not_there_is_named(look: Look, tmp_path: Path) -> None:
    wrong = refused(look, tmp_path / "none.csv")
    assert (wrong.failure.reason, wrong.failure.field) == ("DataNotFound", "data.source.uri")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"at": ', "MalformedJson"),
        ("[1]", "MalformedJson"),
        ("[" * 20_000, "MalformedJson"),
        ('{"at": "2026-01-01", "query": ["a"], "item": "b", "clicked": 1}', "UnsupportedType"),
        ('{"at": "2026-01-01", "query": "\\ud800", "item": "b", "clicked": 1}', "NotUtf8"),
        ("x" * (2**20 + 1), "LineTooLong"),
    ],
)
def test_a_bad_json_line_is_refused(look: Look, tmp_path: Path, line: str, reason: str) -> None:
    wrong = refused(look, written(tmp_path / "a.jsonl", line + "\n"), format="JSONL")
    assert wrong.failure.reason == reason
    assert "1" in wrong.failure.message


def test_an_unclosed_quote_and_a_huge_field_are_refused(look: Look, tmp_path: Path) -> None:
    for cell in ('"open', "x" * 200_000):
        wrong = refused(look, written(tmp_path / "a.csv", HEADER + f"2026-01-01,{cell},b,1\n"))
        assert wrong.failure.reason == "MalformedCsv"


def test_a_message_escapes_what_could_forge_a_line_of_the_log(look: Look, tmp_path: Path) -> None:
    labels = ["0", "1", "\x1b[2J\nforged", "0", "1", "0"]
    pq.write_table(two_months(labels), tmp_path / "a.parquet")
    message = refused(look, tmp_path / "a.parquet", format="Parquet").failure.message
    assert message.isprintable()
