"""Local runs with rows without a label: from the files of a source to the report."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from trainer.local.conftest import Laptop


def hide_labels(laptop: Laptop, month: int) -> None:
    """Empty every second label of a month."""
    path = laptop.data / f"2026-{month:02}.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows[1::2]:
        row["label"] = ""
    with path.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def test_a_trained_parent_labels_rows_of_the_next_window_and_the_report_counts_them(laptop, capsys):
    for month in (1, 2, 3):
        hide_labels(laptop, month)
    laptop.write({"unlabelled": {"pseudoLabels": {"threshold": "0.5"}}}, epochs=2)
    assert laptop.run("--through", "2026-03-01") == 0
    first = capsys.readouterr().out
    assert "60 training rows have no label" in first
    assert "0 of 60 rows without a label labelled" in first, "the first parent's head is untrained"

    assert laptop.run() == 0
    assert "60 of 60 rows without a label labelled" in capsys.readouterr().out
    second = laptop.generations()[2]
    assert (second.window.rows, second.window.holdout_rows) == (120, 60)
    report = local_path(second.report)
    found = json.loads((report / "metrics.json").read_text())
    assert found["retained"]["pseudo_labels"]["used"] == 60
    assert found["datasets"][0]["rows"] == 60
    assert "<h2>Rows without a label</h2>" in (report / "report.html").read_text()
