"""A label is appended to the manifest between two local runs, for rows that have it since."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import yaml
from trainer.local.small_encoder import TOYS

from springtide_api.contract import ExitCode
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from trainer.local.conftest import Laptop


def edit(laptop: Laptop, labels: list[str]) -> None:
    """Change the labels of the manifest, with replay and a rule of the new metric."""
    manifest = yaml.safe_load(laptop.manifest.read_text())
    spec: dict[str, Any] = manifest["spec"]
    spec["model"]["labels"] = labels
    spec["training"]["retention"] = {"replay": {"rowsPerClass": 20}}
    laptop.manifest.write_text(json.dumps(manifest))


def with_toys(laptop: Laptop, month: int) -> None:
    """Let every third row of a month be a toy, with a label of its own."""
    path = laptop.data / f"2026-{month:02}.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):
        if number % 3 == 0:
            row |= {"item": TOYS[number % 5], "label": "toy"}
    with path.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def test_an_unknown_label_is_refused_and_learnt_once_it_is_appended(laptop, capsys):
    laptop.write(epochs=3)
    for month in (2, 3, 4):
        with_toys(laptop, month)
    edit(laptop, ["0", "1"])
    assert laptop.run("--through", "2026-03-01") == ExitCode.INVALID_INPUT
    assert "'toy' (40); fix them or append the label to model.labels" in capsys.readouterr().err

    edit(laptop, ["0", "1", "toy"])
    assert laptop.run("--through", "2026-05-01") == 0


def test_the_live_model_is_compared_over_its_labels_and_the_new_one_is_reported(laptop):
    laptop.write(epochs=3)
    edit(laptop, ["0", "1"])
    assert laptop.run("--through", "2026-03-01") == 0
    for month in (3, 4):
        with_toys(laptop, month)
    edit(laptop, ["0", "1", "toy"])
    assert laptop.run("--through", "2026-05-01") == 0

    _, one, two = laptop.generations()
    assert (two.parent, two.baseline) == (one.number, one.number)
    results = json.loads((local_path(two.report) / "metrics.json").read_text())
    assert results["labels"] == [["0", "1", "toy"], ["0", "1"]]
    (holdout,) = results["datasets"]
    by_label = {each["label"]: each for each in holdout["by_label"]}
    assert by_label["toy"]["rows"] == 40
    assert by_label["toy"]["recall"] > 0.8
    assert abs(results["datasets"][0]["metrics"]["auc"]["delta"]["value"]) < 0.2
    page = (local_path(two.report) / "report.html").read_text()
    assert "toy" in page
