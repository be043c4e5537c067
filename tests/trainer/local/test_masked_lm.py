"""Local runs: an encoder is adapted to texts without labels, then a classifier starts from it."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
import yaml
from trainer.local.conftest import deliver

from springtide_server import model as served
from springtide_server.settings import Settings
from springtide_trainer.artifact.models import load
from springtide_trainer.errors import Refused
from springtide_trainer.local.commands import main
from springtide_trainer.local.lineage import Generations
from springtide_trainer.storage import local_path, warm_up_file

if TYPE_CHECKING:
    from trainer.local.conftest import Laptop

RULES = [
    {"name": "useful", "metric": "perplexity", "max": "5", "minEntities": 10},
    {"name": "right", "metric": "masked_accuracy", "min": "0.5", "minEntities": 10},
]


def adapting(laptop: Laptop, **fields: object) -> None:
    """Make the manifest one of task MaskedLM, with these fields of its spec."""
    laptop.write(epochs=2, freeze={"embeddings": False})
    manifest = yaml.safe_load(laptop.manifest.read_text())
    spec = manifest["spec"]
    del spec["model"]["labels"], spec["data"]["source"]["columns"]["label"], spec["rollout"]
    spec["model"]["task"], spec["gate"]["rules"] = "MaskedLM", RULES
    manifest["metadata"]["name"] = "texts"
    laptop.manifest.write_text(json.dumps(manifest | {"spec": spec | fields}))


def without_labels(laptop: Laptop) -> None:
    """Remove the column of labels from the files."""
    for path in laptop.data.iterdir():
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        with path.open("w", newline="") as stream:
            table = csv.DictWriter(stream, ["ts", "customer", "item"], extrasaction="ignore")
            table.writeheader()
            table.writerows(rows)


def test_an_encoder_that_was_adapted_without_labels_is_the_start_of_a_classifier(laptop, capsys):
    files = {path: path.read_bytes() for path in laptop.data.iterdir()}
    without_labels(laptop)
    adapting(laptop)
    assert laptop.run() == 0
    assert "new head, untrained" in capsys.readouterr().out
    imported, adapted = Generations.read(laptop.home.parent / "texts").generations
    assert (imported.artifact.head, adapted.verdict) == ("Seeded", "Accepted"), adapted.message
    made, digest = local_path(adapted.artifact.uri), adapted.artifact.digest
    assert json.loads((made / "preprocess.json").read_text())["task"] == "MaskedLM"
    report = local_path(adapted.report)
    (found,) = json.loads((report / "metrics.json").read_text())["datasets"]
    assert list(found["metrics"]) == ["perplexity", "masked_accuracy"]
    assert found["labels"] == {"text": found["rows"]}
    page = (report / "report.html").read_text()
    assert "15 % of the tokens" in page
    assert "positives" not in page
    scores = pq.read_table(report / "scores.parquet")["candidate"].to_pylist()
    assert {len(row) for row in scores} == {2}
    assert not warm_up_file(made).exists()

    settings = Settings(model_uri=made.as_uri(), model_digest=digest)
    with pytest.raises(Refused, match="is of task MaskedLM, which answers no requests"):
        served.load(settings)
    output = str(laptop.folder / "picked.csv")
    rows = str(next(laptop.data.iterdir()))
    assert main(["pick", str(made), rows, "--output", output, "--strategy", "Diverse"]) != 0
    assert "needs no labels" in capsys.readouterr().err

    for path, content in files.items():
        path.write_bytes(content)
    laptop.write(epochs=2)
    laptop.model = made
    assert laptop.run() == 0
    shown = capsys.readouterr().out
    assert "new head, untrained" in shown
    first, classifier = laptop.generations()
    known = [(made, digest), (local_path(first.artifact.uri), first.artifact.digest)]
    encoders = [load(*each).model.state_dict() for each in known]
    shared = {name for name in encoders[0] if not name.startswith("cls.")}
    assert len(shared) > 10
    for name in shared:
        assert encoders[0][name].equal(encoders[1][name]), name
    assert classifier.verdict == "Accepted"


def test_the_next_run_continues_from_the_encoder_that_was_accepted(laptop):
    without_labels(laptop)
    adapting(laptop)
    assert laptop.run() == 0
    month = max(int(path.stem[-2:]) for path in laptop.data.iterdir()) + 1
    deliver(laptop.data, month)
    without_labels(laptop)
    assert laptop.run() == 0
    _, first, second = Generations.read(laptop.home.parent / "texts").generations
    assert (second.parent, second.baseline, second.verdict) == (1, 1, "Accepted"), second.message
    assert second.window.from_ == first.window.to


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rollout": {"targets": [], "pin": {"generation": 1}}}, "so no pod serves a generation"),
        ({"serving": {"warmUp": {"queries": 0}}}, "task MaskedLM has no serving"),
    ],
)
def test_a_recipe_that_would_serve_hidden_tokens_is_refused(laptop, capsys, fields, message):
    adapting(laptop, **fields)
    assert laptop.run() != 0
    assert message in capsys.readouterr().err
