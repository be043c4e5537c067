"""Reading the user's file of a Guardrail dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from springtide_trainer.data.snapshots.frozen_rows import inputs
from springtide_trainer.data.snapshots.guardrail import read_guardrail
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Clicks = Callable[..., list[dict[str, Any]]]
    Write = Callable[..., Path]


def test_a_guardrail_is_read_like_the_source_with_all_its_rows(
    run_of: Callable[..., Any], clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "must-hold.csv", clicks(1, 2))
    only = {"filter": {"column": "random", "equals": "1"}}
    stream = run_of(tmp_path / "tree", partition={"path": "%Y-%m"}, holdout=only)
    table = read_guardrail(stream.recipe, path.as_uri(), "must-hold")
    assert len(table) == 20
    assert inputs(table)["text"][0] == "red shoe 0"
    assert table["entity"].to_pylist()[:2] == ["must-hold-0", "must-hold-1"]


def test_a_guardrail_without_rows_or_with_an_unknown_label_is_refused(
    run_of: Callable[..., Any], clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    recipe = run_of(tmp_path / "a.csv").recipe
    empty = tmp_path / "empty.csv"
    empty.write_text("at,query,item,clicked\n", encoding="utf-8")
    with pytest.raises(Refused, match="dataset 'must-hold' has 0 rows"):
        read_guardrail(recipe, empty.as_uri(), "must-hold")
    strange = write_csv(tmp_path / "a.csv", [{**row, "clicked": "yes"} for row in clicks(1)])
    with pytest.raises(Refused, match="10 of 10 rows of dataset 'must-hold'"):
        read_guardrail(recipe, strange.as_uri(), "must-hold")
