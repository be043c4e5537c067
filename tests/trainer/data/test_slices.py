"""The column of slices: frozen as text, covered by the digest, and not needed by guardrails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from springtide_trainer.data.snapshots.frozen_rows import inputs, read_rows
from springtide_trainer.data.snapshots.guardrail import read_guardrail
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Look = Callable[..., Any]
    Clicks = Callable[..., list[dict[str, Any]]]
    Write = Callable[..., Path]

SLICED = {"slice": "season"}


def in_seasons(rows: list[dict[str, Any]], *seasons: Any) -> list[dict[str, Any]]:
    return [{**row, "season": seasons[n % len(seasons)]} for n, row in enumerate(rows)]


@pytest.mark.parametrize("values", [("winter", "", "summer"), (7, None, 8)])
def test_slices_are_frozen_as_text_and_a_missing_one_is_empty_in_each_format(
    run_probe: Look, clicks: Clicks, write_csv: Write, write_jsonl: Write, tmp_path: Path, values
) -> None:
    rows = in_seasons(clicks(1, 2), *values)
    columns = {"columns": SLICED}
    found = run_probe(write_csv(tmp_path / "a.csv", rows), **columns)
    train = read_rows(local_path(found.window.manifest), "train")
    expected = ["" if one is None else str(one) for one in values]
    assert train["slice"].to_pylist() == [expected[n % 3] for n in range(10)]
    again = run_probe(write_jsonl(tmp_path / "a.jsonl", rows), format="JSONL", **columns)
    assert again.window.digest == found.window.digest


def test_another_slice_of_a_row_or_no_column_gives_another_digest(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    rows = in_seasons(clicks(1, 2), "winter")
    path = write_csv(tmp_path / "a.csv", rows)
    other = write_csv(tmp_path / "b.csv", [{**rows[0], "season": "summer"}, *rows[1:]])
    digests = {
        run_probe(path, columns=SLICED).window.digest,
        run_probe(other, columns=SLICED).window.digest,
        run_probe(path).window.digest,
    }
    assert len(digests) == 3


def test_a_column_of_slices_may_also_be_a_text_of_the_model(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", clicks(1, 2))
    found = run_probe(path, columns={"slice": "item"})
    train = read_rows(local_path(found.window.manifest), "train")
    assert train["slice"].to_pylist() == inputs(train)["text_pair"]
    assert set(inputs(train)) == {"text", "text_pair"}


@pytest.mark.survives(
    "Data",
    "a column of slices that is missing, or has lists",
    "refused with the name of the column, before a GPU is asked for",
)
@pytest.mark.parametrize(
    ("seasons", "refusal"),
    [
        ((), ("MissingColumn", "data.source.columns.slice")),
        ((["winter", "red"],), ("UnsupportedType", "data.source")),
    ],
)
def test_slices_that_cannot_be_read_are_refused_by_name(
    refuse: Look, clicks: Clicks, write_jsonl: Write, tmp_path: Path, seasons, refusal
) -> None:
    rows = in_seasons(clicks(1, 2), *seasons) if seasons else clicks(1, 2)
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    *found, message = refuse(path, format="JSONL", columns=SLICED)
    assert tuple(found) == refusal
    assert "'season'" in message


def test_a_guardrail_needs_no_slices(
    run_of: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "must-hold.csv", clicks(1))
    recipe = run_of(tmp_path / "a.csv", columns=SLICED).recipe
    table = read_guardrail(recipe, path.as_uri(), "must-hold")
    assert len(table) == 10
    assert "slice" not in table.column_names
