"""Rows that a rolled-back generation served are left out of training rows and holdout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from springtide_trainer.data.snapshots.frozen_rows import read_rows
from springtide_trainer.data.snapshots.guardrail import read_guardrail
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Look = Callable[..., Any]
    Clicks = Callable[..., list[dict[str, Any]]]
    Write = Callable[..., Path]

LOGGED = {"columns": {"servedGeneration": "served"}}
BAD = {**LOGGED, "probe": {"excluded_generations": [6]}}


def served(rows: list[dict[str, Any]], *by: Any) -> list[dict[str, Any]]:
    return [{**row, "served": by[n % len(by)]} for n, row in enumerate(rows)]


def queries(found: Any, part: str) -> list[str]:
    return read_rows(local_path(found.window.manifest), part)["text"].to_pylist()


@pytest.mark.survives(
    "Data",
    "rows of a rolled-back generation, of others, and of none, with the number as text, as a whole "
    "number or as a float, in any format",
    "only its own rows are left out of training and holdout; they are counted in the probe's "
    "message and in the manifest",
)
def test_rows_of_an_excluded_generation_are_neither_trained_on_nor_in_the_holdout(
    run_probe: Look, clicks: Clicks, write_csv: Write, write_jsonl: Write, tmp_path: Path
) -> None:
    rows = served(clicks(1, 2), 6, 16, None, 7, 60)
    found = run_probe(write_csv(tmp_path / "a.csv", rows), **BAD)
    kept = [f"red shoe {n}" for n in (1, 2, 3, 4, 6, 7, 8, 9)]
    assert queries(found, "train") == queries(found, "holdout") == kept
    window = found.window
    assert (window.rows, window.holdout_rows, window.excluded_rows) == (8, 8, 4)
    assert found.message.endswith("; left out, as served before a rollback: 4 of g6")
    manifest = json.loads((local_path(window.manifest) / "manifest.json").read_text())
    assert (manifest["excludedGenerations"], manifest["excludedRows"]) == ([6], 4)

    texts = ["06", " 16", "", "7.0", "60"]
    written = write_jsonl(tmp_path / "a.jsonl", served(rows, *texts))
    assert run_probe(written, format="JSONL", **BAD).window.digest == window.digest
    for name, values in (("whole", (6, 16, None, 7, 60)), ("float", (6.0, 16.0, None, 7.0, 60.0))):
        pq.write_table(pa.Table.from_pylist(served(rows, *values)), tmp_path / name)
        again = run_probe(tmp_path / name, format="Parquet", **BAD)
        assert again.window.digest == window.digest


def test_a_rollback_gives_rows_that_the_generation_did_not_serve_no_other_digest(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    """Otherwise the run that was just rolled back would count as not evaluated yet."""
    path = write_csv(tmp_path / "a.csv", served(clicks(1, 2), 5))
    before, after = run_probe(path, **LOGGED), run_probe(path, **BAD)
    assert after.window == before.window
    assert after.window.excluded_rows == 0
    assert "left out" not in after.message


def test_a_partition_whose_rows_are_all_left_out_is_no_holdout(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    rows = served(clicks(1), 5) + served(clicks(2), 6) + served(clicks(3), 5)
    found = run_probe(write_csv(tmp_path / "a.csv", rows), **BAD)
    assert (found.window.partitions, found.window.holdout_partitions) == (["2026-01"], ["2026-03"])
    assert (found.pending_rows, found.window.excluded_rows) == (20, 10)
    waiting = run_probe(write_csv(tmp_path / "b.csv", rows[:20]), **BAD)
    assert waiting.window is None
    assert waiting.message == (
        "1 of 2 complete partitions; 10 rows that were served before a rollback are left out"
    )


def test_a_longer_holdout_and_released_partitions_leave_the_same_rows_out(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", served(clicks(1, 2, 3), 6, 5, 5))
    excluded = {"excluded_generations": [6]}
    since = {"candidate_trained_through": "2026-02-01T00:00:00Z"}
    longer = run_probe(path, **LOGGED, probe={**excluded, **since})
    assert (longer.window.holdout_rows, longer.window.excluded_rows) == (14, 6)
    released = run_probe(path, **LOGGED, probe={**excluded, "released": ["2026-01"]})
    assert (released.window.rows, released.window.excluded_rows) == (13, 10)


@pytest.mark.survives(
    "Data",
    "a column of serving generations that is missing, or has names, digests or negative numbers",
    "refused with the name of the column and the line, before a GPU is asked for",
)
@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (None, "MissingColumn", "has no column 'served'"),
        ("recommender-g6", "InvalidServedGeneration", "a value like 'xxxxxxxxxxx-x9' in 'served'"),
        ("sha256:0f3a", "InvalidServedGeneration", "is no number of a generation (at least 4 such"),
        ("-1", "InvalidServedGeneration", "a value like '-9'"),
        ("6.5", "InvalidServedGeneration", "a value like '9.9'"),
        ("99999999999", "InvalidServedGeneration", "line 2: a value like"),
    ],
)
def test_a_column_without_numbers_of_generations_is_refused_by_name(
    refuse: Look, clicks: Clicks, write_csv: Write, tmp_path: Path, value, reason, said
) -> None:
    rows = clicks(1, 2) if value is None else served(clicks(1, 2), value, "", "", "5", "6")
    found, field, message = refuse(write_csv(tmp_path / "a.csv", rows), **BAD)
    assert (found, field) == (reason, "data.source.columns.servedGeneration")
    assert said in message


def test_generations_to_exclude_need_the_column(
    refuse: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", clicks(1, 2))
    reason, field, _ = refuse(path, probe={"excluded_generations": [6]})
    assert (reason, field) == ("MissingColumn", "data.source.columns.servedGeneration")


def test_the_kept_index_of_a_file_serves_the_next_rollback(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    """A probe that reads no file again leaves out what a generation served that is bad by now."""
    path = write_csv(tmp_path / "a.csv", served(clicks(1, 2), 6, 7, 7))
    assert run_probe(path, **LOGGED).window.rows == 10
    both = run_probe(path, **LOGGED, probe={"excluded_generations": [6, 8]})
    assert queries(both, "train") == [f"red shoe {n}" for n in (1, 2, 4, 5, 7, 8)]


def test_a_guardrail_needs_no_serving_generations(
    run_of: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "must-hold.csv", clicks(1))
    recipe = run_of(tmp_path / "a.csv", **LOGGED).recipe
    assert len(read_guardrail(recipe, path.as_uri(), "must-hold")) == 10
