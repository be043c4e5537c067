"""Local runs replay rows of the generation that they continue from, as runs of a cluster do."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING, Any

import yaml
from trainer.local.small_encoder import GIFTS

from springtide_trainer.data.snapshots import next_buffer
from springtide_trainer.local.lineage import Generations
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from trainer.local.conftest import Laptop

REPLAYING = {"retention": {"replay": {}}, "checkpoint": {"everySteps": 5}}
WARM = {"wool coat", "winter boots", "thermal socks"}
FLOORS = {"ratio": "0.1", "rowsPerClass": 12, "rowsPerSlice": 15}


def with_several_labels(laptop: Laptop, month: int, *, gifts: bool) -> None:
    """Give the rows of a month several labels or none, and a season; every fourth may be a gift."""
    path = laptop.data / f"2026-{month:02}.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):
        row["season"] = ""
        if gifts and number % 4 == 0:
            row |= {"item": GIFTS[number % 5], "label": "gift", "season": "holidays"}
        elif row["label"] == "1":
            row["label"] = "clothes|winter" if row["item"] in WARM else "clothes"
        else:
            row["label"] = "garden" if number % 9 else ""
    with path.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def declare_several_labels(laptop: Laptop) -> None:
    """Write the manifest of such rows, with a floor for each label and season."""
    laptop.write({"retention": {"replay": FLOORS}}, epochs=4)
    manifest = yaml.safe_load(laptop.manifest.read_text())
    spec: dict[str, Any] = manifest["spec"]
    spec["model"]["classification"] = {"multiLabel": True}
    spec["model"]["labels"] = ["clothes", "winter", "garden", "gift"]
    spec["data"]["source"]["columns"]["slice"] = "season"
    laptop.manifest.write_text(json.dumps(manifest))


def test_a_label_and_a_season_that_no_longer_arrive_are_replayed_also_from_a_moved_storage(
    laptop, capsys
):
    for month in (1, 2, 3):
        with_several_labels(laptop, month, gifts=month != 2)
    declare_several_labels(laptop)
    assert laptop.run("--through", "2026-03-01") == 0
    assert ", 0 rows replayed" in capsys.readouterr().out
    first = laptop.generations()[1]
    assert local_path(first.buffer.uri).exists()
    moved = laptop.folder / "elsewhere"
    shutil.move(laptop.folder / "springtide", moved)

    assert laptop.run("--storage", str(moved)) == 0
    out = capsys.readouterr().out
    assert not (laptop.folder / "springtide").exists()
    second = Generations.read(moved / "shop" / "recommender").generations[2]
    report = local_path(second.report)
    results = json.loads((report / "metrics.json").read_text())
    replayed = results["retained"]["replay"]
    assert replayed["slices"] == {"holidays": 15}
    assert replayed["classes"]["gift"] >= 15
    assert min(replayed["classes"].values()) >= 12
    assert replayed["message"] == ""
    assert f"{120 + replayed['rows']} rows, {replayed['rows']} rows replayed" in out
    assert "<th>Slice, the fewest rows first</th>" in (report / "report.html").read_text()

    by_label = {each["label"]: each for each in results["datasets"][0]["by_label"]}
    assert by_label["gift"]["rows"] == 30  # asked for again, after a month without
    assert by_label["gift"]["recall"] > 0.8


def test_a_run_that_continues_keeps_the_quarantine_of_its_first_start(laptop, monkeypatch):
    laptop.write(REPLAYING)

    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(next_buffer, "build", fail)
        assert laptop.run("--through", "2026-03-01", "--quarantine", "2026-04") != 0
    assert [*(laptop.home / "checkpoints" / "g1").iterdir()]
    (laptop.home / "run.log").write_text("")

    assert laptop.run("--through", "2026-03-01") == 0
    assert '"message": "resumed"' in (laptop.home / "run.log").read_text()
    assert laptop.generations()[1].quarantined == ["2026-04"]
