"""Classes that arrive five at a time: a growing head and ten stored rows a class, or all rows.

    SPRINGTIDE_ONLINE_RETAIL=FOLDER PYTHONPATH=tests python -m bench.retention.class_arrival

The rows are products of a shop: the label is the kind of product, the text is its description, with
`--hidden` without the word for the kind. In each step the rows of five new classes arrive, and the
model is trained from its parent's weights: with a replay buffer of some rows a class, and without
one. All are compared with a model that was trained on the rows of all classes at once, on products
that no model saw. The loss of accuracy with ten rows a class must be at most 1.5 points, and larger
without replay. `--write` writes the result.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.retention import sections
from bench.retention.lineage import Lineage, recipe
from bench.retention.online_retail import KINDS, products, share_of
from bench.retention.results import Benchmark, Side, Target
from trainer.training.conftest import freeze

from springtide_api.contract import ArtifactRef, CommittedArtifact, TrainOutput
from springtide_trainer.artifact.models import load
from springtide_trainer.storage import Home, local_path

STEP, BOUND = 5, 0.015
HELD_OUT = 0.3
SAMPLES = 2000


def benchmark(given: argparse.Namespace) -> Benchmark:
    """Return what is measured."""
    text = "without the word for its kind" if given.hidden else "which has the word for its kind"
    return Benchmark(
        name="class_arrival_hidden" if given.hidden else "class_arrival",
        title=f"Kinds of products that arrive five at a time, by a description {text}",
        quality="accuracy",
        about=f"A row is a product of a shop and its kind, one of {given.classes}. The model "
        "starts with the first five kinds, and its head grows by five in each step. The seed "
        "decides the order of the kinds.",
    )


@dataclass(frozen=True)
class Setting:
    """What all sides of a seed share.

    Attributes:
        labels: The classes in the order in which they arrive.
        rows: Text and label of each training row.
        held_out: Text and label of each row to score.
    """

    lineage: Lineage
    folder: Path
    labels: list[str]
    rows: list[tuple[str, str]]
    held_out: list[tuple[str, str]]
    seed: int
    given: argparse.Namespace


def train(setting: Setting, side: Side, stored: int, steps: list[int]) -> None:
    """Train step by step, or all classes at once; score each model.

    Args:
        stored: Rows of each class in the replay buffer; 0: no replay.
        steps: Number of known classes after each step.
    """
    parent: CommittedArtifact | TrainOutput | None = None
    total, accuracies, trainings = 0.0, [], []
    for before, known in zip([0, *steps], steps, strict=False):
        labels = setting.labels[:known]
        arriving = labels[before:]
        epochs = setting.given.epochs if len(steps) > 1 else setting.given.joint_epochs
        made_from = recipe(
            setting.folder, spec(setting, labels, stored, epochs=epochs), setting.folder
        )
        parent = parent or setting.lineage.imported(made_from)
        parent = made = setting.lineage.trained(made_from, parent, frozen(setting, arriving))
        trainings.append(made)
        total += setting.lineage.seconds
        found = hits(made.artifact.uri, made.artifact.digest, setting.held_out, labels)
        accuracies.append(float(found.mean()))
    side.found.append(found)
    side.quality.append(accuracies[-1])
    side.steps.append(accuracies)
    side.keep(trainings, total)


def frozen(
    setting: Setting, labels: list[str], *, hidden: float = 0.0, left_out: bool = True
) -> ArtifactRef:
    """Freeze the training rows of some classes; each product is an entity.

    Args:
        setting: Has the rows.
        labels: The classes.
        hidden: Share of the rows whose labels are hidden.
        left_out: Leave these rows out, else they have no label.
    """
    known = [row for row in setting.rows if row[1] in labels]
    chosen = [(text, "" if share_of(text, "hidden") < hidden else kind) for text, kind in known]
    chosen = [row for row in chosen if row[1] or not left_out]
    texts, kinds = zip(*chosen, strict=True)
    table = {"text": list(texts), "label": list(kinds), "entity": list(texts)}
    folder, digest = freeze(setting.lineage.home, table)
    return ArtifactRef(uri=folder.as_uri(), digest=digest)


def spec(setting: Setting, labels: list[str], stored: int, *, epochs: int) -> dict[str, Any]:
    """Return the spec of a step: labels are appended, and the floor of replay grows with them."""
    given = setting.given
    replay = {"ratio": "0", "rowsPerClass": stored, "bufferRows": stored * len(labels)}
    return {
        "model": {
            "initial": {"uri": "file:///models/minilm"},
            "labels": labels,
            "maxLength": 32,
        },
        "data": {
            "source": {
                "uri": "file:///data",
                "format": "CSV",
                "columns": {"text": "text", "label": "kind", "timestamp": "at", "entity": "text"},
            },
            "volume": {"claimName": "data"},
        },
        "training": {
            "hyperparameters": {
                "epochs": epochs,
                "learningRate": given.rate,
                "batchSize": 16,
                "seed": setting.seed,
                "freeze": {"lowerLayers": given.lower},
            },
            **({"retention": {"replay": replay}} if stored else {}),
        },
        "gate": {"rules": [{"name": "useful", "metric": "accuracy", "min": "0.5"}]},
    }


def hits(uri: str, digest: str, rows: list[tuple[str, str]], labels: list[str]) -> Any:
    """Return which held-out rows of these labels are predicted right: bool [rows]."""
    scorer = load(local_path(uri), digest, "cpu")
    asked = [(text, kind) for text, kind in rows if kind in labels]
    predicted = scorer.predict([(text, None) for text, _ in asked]).argmax(axis=1)
    return np.array([scorer.task.outputs[code] for code in predicted]) == [k for _, k in asked]


def interval(ours: Any, theirs: Any) -> tuple[float, float, float]:
    """Return the gain of accuracy and its one-sided 95 % bounds: seeds and products are drawn.

    Args:
        ours: Which products are predicted right: bool [seeds, products].
        theirs: The same of the other side, with the same seeds and products.
    """
    difference = ours.astype(float) - theirs
    seeds, rows = difference.shape
    rng = np.random.default_rng(0)
    drawn = [
        difference[rng.integers(0, seeds, seeds)][:, rng.integers(0, rows, rows)].mean()
        for _ in range(SAMPLES)
    ]
    low, high = np.quantile(drawn, [0.05, 0.95])
    return float(difference.mean()), float(low), float(high)


def parsed() -> argparse.Namespace:
    asked = argparse.ArgumentParser()
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--classes", type=int, default=len(KINDS))
    asked.add_argument("--epochs", type=int, default=4)
    asked.add_argument("--joint-epochs", type=int, default=12, help="of the training on all rows")
    asked.add_argument("--rate", default="1e-4")
    asked.add_argument("--lower", type=int, default=0, help="layers that are not trained")
    asked.add_argument("--stored", type=int, nargs="+", default=[10], help="rows of each class")
    asked.add_argument("--hidden", action="store_true", help="remove the word for the kind")
    asked.add_argument("--write", action="store_true", help="write the result and the page")
    return asked.parse_args()


def main() -> None:
    given = parsed()
    torch.set_num_threads(1)
    classes = KINDS[: given.classes]
    steps = [*range(STEP, len(classes) + 1, STEP)]
    known = [each for each in products(hidden=given.hidden) if each[1] in classes]
    held_out = [each for each in known if share_of(each[0], "held out") < HELD_OUT]
    rows = [each for each in known if share_of(each[0], "held out") >= HELD_OUT]
    joint = Side("all kinds", "Trained once, on the rows of all kinds (joint).")
    replays = {
        stored: Side(f"{stored} stored rows", f"Replays {stored} stored rows of each earlier kind.")
        for stored in given.stored
    }
    naive = Side("new kinds only", "No replay.")
    plans = [(joint, 0, steps[-1:])]
    plans += [(side, stored, steps) for stored, side in {**replays, 0: naive}.items()]
    for seed in range(1, given.seeds + 1):
        order = np.random.default_rng(seed).permutation(classes).tolist()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            lineage = Lineage(Home(folder / "home"))
            setting = Setting(lineage, folder, order, rows, held_out, seed, given)
            for side, stored, own in plans:
                train(setting, side, stored, own)
        held = _conclude([side for side, _, _ in plans], given, len(rows))
    sys.exit(0 if held else 1)


def _conclude(sides: list[Side], given: argparse.Namespace, rows: int) -> bool:
    """Print and write what the seeds so far have; return whether the targets are met."""
    joint, first, *_, naive = sides
    for side in sides[1:]:
        side.loss = interval(np.stack(joint.found), np.stack(side.found))
    assert first.loss
    assert naive.loss
    targets = [
        Target(f"loss of accuracy with {first.name} of each kind", first.loss[0], BOUND),
        Target(
            "lowest loss of accuracy (lower: the joint training had too few steps)",
            min(side.loss[0] for side in sides if side.loss),
            -BOUND,
            least=True,
        ),
        Target("loss of accuracy without replay", naive.loss[0], BOUND, least=True),
    ]
    kind = benchmark(given)
    held_out = len(joint.found[0])
    result = kind.result(sides, targets, given, training_rows=rows, held_out_rows=held_out)
    print(f"{len(joint.quality)} seeds:\n{sections.section(result)}", flush=True)
    if given.write:
        kind.write(result)
    return all(target.met for target in targets)


if __name__ == "__main__":
    main()
