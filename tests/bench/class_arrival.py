"""Classes that arrive five at a time: a growing head and ten stored rows a class, or all rows.

    SPRINGTIDE_ONLINE_RETAIL=FOLDER PYTHONPATH=tests python tests/bench/class_arrival.py [--seeds 3]

The rows are products of a shop: the label is the kind of product, the text is its description
without that word. In each step the rows of five new classes arrive, and the model is trained from
its parent's weights: with a replay buffer of ten rows a class, and without one. Both are compared
with a model that was trained on the rows of all classes at once, on products that no model saw. The
loss of accuracy with replay must be at most 1.5 points, and larger without it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from bench.lineage import Lineage, recipe
from bench.online_retail import KINDS, products, share_of
from rich.console import Console
from rich.table import Table
from trainer.training.conftest import freeze

from springtide_api.contract import ArtifactRef
from springtide_trainer.artifact.models import load
from springtide_trainer.storage import Home, local_path

STEP, STORED, BOUND = 5, 10, 0.015
HELD_OUT = 0.3
SAMPLES = 2000


@dataclass
class Side:
    """One way to train, and what came out, each for every seed.

    Attributes:
        hits: bool [rows] of the last model: whether its prediction is right.
        accuracies: After each step, on the classes that arrived.
        trained: Training rows of the last step.
        seconds: CPU seconds of all steps.
    """

    name: str
    replay: bool = False
    joint: bool = False
    hits: list[Any] = field(default_factory=list)
    accuracies: list[list[float]] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


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
    epochs: int
    rate: str


def train(setting: Setting, side: Side) -> None:
    """Train step by step, or all classes at once; score each model."""
    parent = buffer = None
    total, accuracies = 0.0, []
    steps = range(STEP, len(setting.labels) + 1, STEP)
    for known in steps if not side.joint else steps[-1:]:
        labels = setting.labels[:known]
        arriving = labels if side.joint else labels[-STEP:]
        made_from = recipe(setting.folder, spec(setting, labels, side.replay), setting.folder)
        parent = parent or setting.lineage.imported(made_from)
        rows = frozen(setting, arriving)
        made = setting.lineage.trained(made_from, parent, rows, buffer=buffer)
        parent, buffer = made.artifact, made.buffer
        total += setting.lineage.seconds
        hits = score(parent.uri, parent.digest, setting.held_out, labels)
        accuracies.append(float(hits.mean()))
    side.hits.append(hits)
    side.accuracies.append(accuracies)
    side.trained.append(made.rows)
    side.seconds.append(total)


def frozen(setting: Setting, labels: list[str]) -> ArtifactRef:
    """Freeze the training rows of some classes; each product is an entity."""
    chosen = [row for row in setting.rows if row[1] in labels]
    texts, kinds = zip(*chosen, strict=True)
    table = {"text": list(texts), "label": list(kinds), "entity": list(texts)}
    folder, digest = freeze(setting.lineage.home, table)
    return ArtifactRef(uri=folder.as_uri(), digest=digest)


def spec(setting: Setting, labels: list[str], replay: bool) -> dict[str, Any]:
    """Return the spec of a step: labels are appended, and the floor of replay grows with them."""
    stored = {"ratio": "0", "rowsPerClass": STORED, "bufferRows": STORED * len(labels)}
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
                "epochs": setting.epochs,
                "learningRate": setting.rate,
                "batchSize": 16,
                "seed": setting.seed,
            },
            **({"retention": {"replay": stored}} if replay else {}),
        },
        "gate": {"rules": [{"name": "useful", "metric": "accuracy", "min": "0.5"}]},
    }


def score(uri: str, digest: str, rows: list[tuple[str, str]], labels: list[str]) -> Any:
    """Return which held-out rows of these labels are predicted right: bool [rows]."""
    scorer = load(local_path(uri), digest, "cpu")
    asked = [(text, kind) for text, kind in rows if kind in labels]
    predicted = scorer.predict([(text, None) for text, _ in asked]).argmax(axis=1)
    return np.array([scorer.task.outputs[code] for code in predicted]) == [k for _, k in asked]


def interval(joint: Side, other: Side) -> tuple[float, float, float]:
    """Return the loss of accuracy and its 95 % bounds: seeds and products are drawn."""
    difference = np.stack(joint.hits).astype(float) - np.stack(other.hits)
    seeds, rows = difference.shape
    rng = np.random.default_rng(0)
    drawn = [
        difference[rng.integers(0, seeds, seeds)][:, rng.integers(0, rows, rows)].mean()
        for _ in range(SAMPLES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)


def table(sides: list[Side]) -> Table:
    joint = next(side for side in sides if side.joint)
    made = Table(title="Accuracy on all classes at the end, by training")
    for name in (
        "training",
        "accuracy",
        "after each step",
        "loss to joint, points",
        "95 % bounds",
        "rows of the last step",
        "CPU seconds",
    ):
        made.add_column(name, justify="left" if name == "training" else "right")
    for side in sides:
        loss, low, high = interval(joint, side)
        steps = np.mean(side.accuracies, axis=0)
        made.add_row(
            side.name,
            f"{mean(each[-1] for each in side.accuracies):.1%}",
            " ".join(f"{each:.1%}" for each in steps),
            "" if side.joint else f"{100 * loss:.1f}",
            "" if side.joint else f"{100 * low:.1f} to {100 * high:.1f}",
            f"{mean(side.trained):,.0f}",
            f"{mean(side.seconds):,.0f}",
        )
    return made


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--classes", type=int, default=len(KINDS))
    asked.add_argument("--epochs", type=int, default=4)
    asked.add_argument("--rate", default="1e-4")
    given = asked.parse_args()
    torch.set_num_threads(1)
    classes = KINDS[: given.classes]
    known = [each for each in products() if each[1] in classes]
    held_out = [each for each in known if share_of(each[0], "held out") < HELD_OUT]
    rows = [each for each in known if share_of(each[0], "held out") >= HELD_OUT]
    sides = [
        Side("all rows at once (joint)", joint=True),
        Side(f"new classes, {STORED} stored rows a class", replay=True),
        Side("new classes only (naive)"),
    ]
    for seed in range(1, given.seeds + 1):
        order = np.random.default_rng(seed).permutation(classes).tolist()
        with tempfile.TemporaryDirectory() as folder:
            lineage = Lineage(Home(Path(folder) / "home"))
            setting = Setting(
                lineage,
                Path(folder),
                order,
                rows,
                held_out,
                seed,
                given.epochs,
                given.rate,
            )
            for side in sides:
                train(setting, side)
                print(f"seed {seed}, {side.name}: {side.accuracies[-1][-1]:.1%}", flush=True)
    console = Console(width=140)
    console.print(table(sides))
    joint, replayed, naive = sides
    kept, forgot = interval(joint, replayed)[0], interval(joint, naive)[0]
    held = kept <= BOUND < forgot
    console.print(
        f"{len(classes)} classes, {STEP} a step, {len(rows):,} products to train on, "
        f"{len(joint.hits[0]):,} held out, {given.seeds} seeds; at most {100 * BOUND:.1f} points "
        f"may be lost: {'held' if held else 'NOT HELD'} with replay ({100 * kept:.1f}), "
        f"without it {100 * forgot:.1f}"
    )
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
