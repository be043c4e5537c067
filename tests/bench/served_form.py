"""Compares the weights of a model with its quantized form: rows per second, AUC, size.

    SPRINGTIDE_ONLINE_RETAIL=FOLDER PYTHONPATH=tests python tests/bench/served_form.py

A model is trained on two months of purchases of a shop by the stage of the pods, which writes both,
and both are scored on the month after, in turns on the same rows and on one thread. Compare the
ratios: another processor changes both sides. `--share` takes a part of the customers.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from bench.retention import purchase_stream
from bench.retention.lineage import Lineage, recipe

from springtide_api.contract import ArtifactRef, ProbeInput
from springtide_trainer.artifact.models import load
from springtide_trainer.data.snapshots.frozen_rows import inputs, read_rows
from springtide_trainer.storage import Home, local_path
from springtide_trainer.tasks.metrics.classification import statistic
from springtide_trainer.tasks.metrics.statistic import EncodedRows

if TYPE_CHECKING:
    from springtide_api.contract import CommittedArtifact, WindowFound
    from springtide_trainer.artifact.models import Scorer

HOLDOUT = "2011-09"
SIZES = {"evaluation, 32 rows": 32, "server, 8 rows": 8, "one row": 1}
"""Rows of one forward pass."""
TRAINING = {
    "last": HOLDOUT,
    "rate": "1e-4",
    "batch": 32,
    "joint_epochs": 1,
    "lower": 0,
    "ratio": "0",
}


def trained(
    folder: Path, given: argparse.Namespace, seed: int = 0
) -> tuple[CommittedArtifact, WindowFound]:
    """Train on the months before the holdout; return weights with their form, and the window."""
    data = folder / "purchases.csv"
    purchase_stream.sample(data, given)
    serving = {"serving": {"optimise": {"quantization": "Int8Dynamic"}}}
    made_from = recipe(folder, purchase_stream.spec(seed, given, replay=False) | serving, data)
    lineage = Lineage(Home(folder / "home"))
    asked = ProbeInput(now=purchase_stream.NOW, through=purchase_stream.after(HOLDOUT))
    found = purchase_stream.window(lineage, made_from, asked)
    rows = ArtifactRef(uri=found.manifest, digest=found.digest)
    made = lineage.trained(made_from, lineage.imported(made_from), rows)
    print(f"trained on {found.rows:,} rows, holdout of {found.holdout_rows:,} rows")
    return made.artifact, found


def seconds(scorer: Scorer, pairs: list[Any], size: int) -> float:
    """Return the CPU seconds of scoring these rows."""
    began = time.process_time()
    scorer.predict(pairs, size)
    return time.process_time() - began


def speed(exact: Scorer, form: Scorer, pairs: list[Any], rounds: int) -> None:
    """Score in turns; print rows per CPU-second and the ratios."""
    for scorer in (exact, form):
        seconds(scorer, pairs[:64], 32)
    print("rows of a pass       FP32 rows/s  Int8 rows/s  ratio (lowest to highest)")
    for name, size in SIZES.items():
        turns = [(seconds(exact, pairs, size), seconds(form, pairs, size)) for _ in range(rounds)]
        ratios = [before / after for before, after in turns]
        rates = [len(pairs) / statistics.median(each) for each in zip(*turns, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:20} {rates[0]:11.1f}  {rates[1]:11.1f}  {spread}")


def quality(exact: Scorer, form: Scorer, table: Any) -> None:
    """Print the AUC of both, and the loss with 95 % bounds over the customers."""
    pairs = exact.preprocess.render(inputs(table))
    found = [each.predict(pairs, 32) for each in (exact, form)]
    _, entities = np.unique(table["entity"].to_pylist(), return_inverse=True)
    encoded = EncodedRows(np.array([int(each) for each in table["label"].to_pylist()]), entities)
    whole = np.ones((1, encoded.entities), dtype=np.int32)
    aucs = [float(statistic("auc", encoded, each)(whole)[0]) for each in found]
    sides: list[Any] = [SimpleNamespace(found=[each]) for each in found]
    loss, low, high = purchase_stream.interval(encoded, *sides)
    apart = np.abs(found[0] - found[1])[:, 1]
    print(f"AUC {aucs[0]:.4f} FP32, {aucs[1]:.4f} Int8")
    print(f"loss of AUC {loss:+.4f} (95 % bounds {low:+.4f} to {high:+.4f})")
    print(f"difference of a probability: mean {apart.mean():.4f}, largest {apart.max():.4f}")


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--first", default="2011-07", help="first month")
    asked.add_argument("--share", type=float, default=0.3, help="share of the customers")
    asked.add_argument("--rows", type=int, default=500, help="rows that are timed")
    asked.add_argument("--rounds", type=int, default=5)
    given = asked.parse_args()
    vars(given).update(TRAINING | {"held_out": given.share})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made, window = trained(Path(folder), given)
        assert made.served is not None
        exact = load(local_path(made.uri), made.digest, "cpu")
        form = load(local_path(made.served_uri), made.served.digest)
        table = read_rows(local_path(window.manifest), "holdout")
        pairs = exact.preprocess.render(inputs(table.slice(0, given.rows)))
        print(f"size {made.bytes / 1e6:.1f} MB FP32, {made.served.bytes / 1e6:.1f} MB Int8")
        speed(exact, form, pairs, given.rounds)
        quality(exact, form, table)


if __name__ == "__main__":
    main()
