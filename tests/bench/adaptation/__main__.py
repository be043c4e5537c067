"""Compares a classifier on goods that are new to a shop, with and without task MaskedLM before it.

    SPRINGTIDE_ONLINE_RETAIL=FOLDER PYTHONPATH=tests python -m bench.adaptation [--write]

A row is a product, its label the word for its kind, which is removed from its description. The
labelled products are from before a month, and those that are scored are sold first from then on.
The texts without labels are the descriptions of all products but those. `--write` writes the
result, and docs/benchmarks.md from it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from bench.adaptation import page
from bench.methods.page import share
from bench.retention.class_arrival import hits, interval
from bench.retention.lineage import Lineage, recipe
from bench.retention.online_retail import KINDS, described, rows
from bench.training import page as whole_page
from bench.training.machine import facts
from trainer.training.conftest import freeze

from springtide_api.contract import ArtifactRef
from springtide_trainer.artifact.models import load
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from springtide_api.contract import TrainOutput

FIRST = "2011-05"
"""The month from which on a product that is sold for the first time is a new one."""
PROBED = 300
"""Texts on which the hidden tokens are counted that the model predicts right."""


class Products:
    """The products of all seeds.

    Attributes:
        labelled: Description without its kind, and kind, of each product that was sold before.
        scored: The same of the new products.
        texts: Descriptions of all products but the new ones; those without a kind too.
    """

    def __init__(self) -> None:
        months: dict[str, str] = {}
        for row in rows("events.csv.gz"):
            text, month = row["Description"].strip(), row["InvoiceDate"][:7]
            months[text] = min(months.get(text, month), month)
        known = list(described())
        before = {kept: kind for text, kept, kind in known if months[text] < FIRST}
        new = {text for text, _, _ in known if months[text] >= FIRST}
        self.labelled = sorted(before.items())
        self.scored = sorted(
            {kept: kind for text, kept, kind in known if text in new and kept not in before}.items()
        )
        self.texts = sorted(text for text in months if text and text not in new)

    def sample(self, each: int, seed: int) -> list[tuple[str, str]]:
        """Return as many labelled products of each kind; with 0 all."""
        order = np.random.default_rng(seed).permutation(len(self.labelled))
        chosen: dict[str, list[tuple[str, str]]] = {kind: [] for kind in KINDS}
        for text, kind in (self.labelled[at] for at in order):
            if not each or len(chosen[kind]) < each:
                chosen[kind].append((text, kind))
        return [row for found in chosen.values() for row in found]


def spec(seed: int, task: dict[str, Any], hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """Return the spec of an update: of Classification, or with `task` of MaskedLM."""
    masked = "task" in task
    columns = {"text": "text", "timestamp": "at", "entity": "text"}
    rule = {"name": "useful", "metric": "accuracy", "min": "0.1"}
    if masked:
        rule["metric"] = "masked_accuracy"
    return {
        "model": {"initial": {"uri": "file:///models/minilm"}, "maxLength": 32, **task},
        "data": {
            "source": {
                "uri": "file:///data",
                "format": "CSV",
                "columns": columns if masked else columns | {"label": "kind"},
            },
            "volume": {"claimName": "data"},
        },
        "training": {"hyperparameters": {"batchSize": 16, "seed": seed, **hyperparameters}},
        "gate": {"rules": [rule]},
    }


def frozen(lineage: Lineage, texts: list[str], kinds: list[str]) -> ArtifactRef:
    """Freeze training rows, each an entity of its own."""
    folder, digest = freeze(lineage.home, {"text": texts, "label": kinds, "entity": texts})
    return ArtifactRef(uri=folder.as_uri(), digest=digest)


def adapted(
    folder: Path, lineage: Lineage, known: Products, seed: int, given: argparse.Namespace
) -> TrainOutput:
    """Train MaskedLM on the texts, from MiniLM."""
    options = {
        "epochs": given.text_epochs,
        "learningRate": given.text_rate,
        "freeze": {"embeddings": False},
    }
    made_from = recipe(folder, spec(seed, {"task": "MaskedLM"}, options), folder)
    texts = frozen(lineage, known.texts, [""] * len(known.texts))
    return lineage.trained(made_from, lineage.imported(made_from), texts)


def classified(
    folder: Path,
    lineage: Lineage,
    known: Products,
    seed: int,
    given: argparse.Namespace,
    *,
    start: str | None = None,
) -> Any:
    """Train a classifier, from MiniLM or the weights at a URI; return its hits: bool [products]."""
    options = {"epochs": given.epochs, "learningRate": given.rate}
    made_from = recipe(folder, spec(seed, {"labels": KINDS}, options), folder)
    if start:
        initial = made_from.model.initial.model_copy(update={"uri": start})
        model = made_from.model.model_copy(update={"initial": initial})
        made_from = made_from.model_copy(update={"model": model})
    texts, kinds = map(list, zip(*known.sample(given.labelled, seed), strict=True))
    made = lineage.trained(made_from, lineage.imported(made_from), frozen(lineage, texts, kinds))
    return hits(made.artifact.uri, made.artifact.digest, known.scored, KINDS)


def one_seed(
    known: Products, seed: int, given: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train both sides with a seed; return what `page` makes a table of."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lineage = Lineage(Home(folder / "home"))
        alone = _result(seed, classified(folder, lineage, known, seed, given), lineage.seconds)
        made = adapted(folder, lineage, known, seed, given).artifact
        seconds = lineage.seconds
        scorer = load(local_path(made.uri), made.digest, "cpu")
        right = scorer.predict([(text, None) for text in known.texts[:PROBED]])[:, 1].mean()
        found = classified(folder, lineage, known, seed, given, start=made.uri)
        both = _result(seed, found, seconds + lineage.seconds, float(right))
    return alone, both


def _result(seed: int, found: Any, seconds: float, right: float = 0.0) -> dict[str, Any]:
    return {
        "seed": seed,
        "hits": "".join("1" if each else "0" for each in found),
        "seconds": round(seconds, 1),
        "masked_accuracy": round(right, 4),
    }


def gain(alone: list[dict[str, Any]], both: list[dict[str, Any]]) -> list[float]:
    """Return the gain of accuracy by the adaptation, and its bounds."""
    found = (
        np.array([[h == "1" for h in each["hits"]] for each in side]) for side in (both, alone)
    )
    return [round(each, 6) for each in interval(*found)]


def parsed() -> argparse.Namespace:
    asked = argparse.ArgumentParser()
    asked.add_argument("--seeds", type=int, default=5)
    asked.add_argument("--labelled", type=int, default=10, help="products of each kind; 0: all")
    asked.add_argument("--epochs", type=int, default=8)
    asked.add_argument("--rate", default="1e-4")
    asked.add_argument("--text-epochs", type=int, default=5, help="of MaskedLM")
    asked.add_argument("--text-rate", default="1e-4", help="of MaskedLM")
    asked.add_argument("--write", action="store_true", help="write the result and the page")
    return asked.parse_args()


def main() -> None:
    given = parsed()
    torch.set_num_threads(1)
    known = Products()
    names = ("labelled", "epochs", "rate", "text_epochs", "text_rate")
    settings = {name: getattr(given, name) for name in names}
    sizes = {"texts": len(known.texts), "rows": len(known.sample(given.labelled, 1))}
    result: dict[str, Any] = {"alone": [], "adapted": []}
    for seed in range(1, given.seeds + 1):
        alone, both = one_seed(known, seed, given)
        result["alone"].append(alone)
        result["adapted"].append(both)
        print(f"seed {seed}: {share(alone['hits']):.3f}, {share(both['hits']):.3f}", flush=True)
    result |= {"gain": gain(result["alone"], result["adapted"]), "settings": settings}
    result |= {"title": page.TITLE, "machine": facts(1), "sizes": sizes}
    print(page.section(result))
    if given.write:
        page.RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        whole_page.main()


if __name__ == "__main__":
    main()
