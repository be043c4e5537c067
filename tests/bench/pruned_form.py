"""What `serving.optimise.pruning` costs and gives, by sparsity: AUC, bytes, rows per second.

    SPRINGTIDE_ONLINE_RETAIL=FOLDER PYTHONPATH=tests python tests/bench/pruned_form.py

A model is trained on two months of purchases of a shop by the stage of the pods. Each form of it
is written by the code of the pods and scored on the month after. The loss of AUC is that to the
weights as they were trained. "One threshold" prunes with the same threshold in all layers, which
is not offered: it shows what another choice would give. Compare ratios: another processor changes
both sides. `--share` and `--held-out` take a part of the customers.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from bench.retention import purchase_stream
from bench.served_form import TRAINING, seconds, trained
from torch.nn import functional

from springtide_api.update.model import Optimise, Pruning
from springtide_trainer.artifact import manifest
from springtide_trainer.artifact.models import load
from springtide_trainer.artifact.onnx_model import ONNX_MODEL
from springtide_trainer.data.snapshots.frozen_rows import inputs, read_rows
from springtide_trainer.optimise.form import write
from springtide_trainer.optimise.pruning import linear_weights
from springtide_trainer.storage import local_path
from springtide_trainer.tasks.metrics.classification import statistic
from springtide_trainer.tasks.metrics.statistic import EncodedRows

if TYPE_CHECKING:
    from springtide_api.contract import CommittedArtifact, WindowFound
    from springtide_trainer.artifact.models import Scorer

HEADING = "| form | AUC | loss of AUC | model | compressed |\n|---|---|---|---|---|"
SPARSITIES = ("0.3", "0.5", "0.7", "0.9")
TOKENS, INNER, OUTER = 1024, 384, 1536
"""A product of MiniLM: the tokens of 32 rows, and the widths of its feed-forward layer."""


class Comparison:
    """Forms of one artifact on the rows of one holdout."""

    def __init__(self, made: CommittedArtifact, window: WindowFound, folder: Path) -> None:
        self.weights, self.folder = local_path(made.uri), folder
        self.dense = load(self.weights, made.digest, "cpu")
        table = read_rows(local_path(window.manifest), "holdout")
        self.pairs = self.dense.preprocess.render(inputs(table))
        _, entities = np.unique(table["entity"].to_pylist(), return_inverse=True)
        labels = np.array([int(each) for each in table["label"].to_pylist()])
        self.rows = EncodedRows(labels, entities)
        self.exact = self.dense.predict(self.pairs, 32)
        print(f"{len(labels):,} rows are scored\n\n{HEADING}")
        print(f"| as trained | {self.auc(self.exact):.4f} | | {sizes(self.weights)} |", flush=True)

    def written(self, form: Optimise) -> tuple[Scorer, Path]:
        """Write a form and load it."""
        folder = self.folder / form.describe().replace(", ", "-").replace(" ", "-")
        write(self.weights, folder, form)
        return load(folder, manifest.write_manifest(folder), "cpu"), folder

    def auc(self, found: Any) -> float:
        whole = np.ones((1, self.rows.entities), dtype=np.int32)
        return float(statistic("auc", self.rows, found)(whole)[0])

    def quality(self, found: Any) -> str:
        """Return the AUC and its loss, with one-sided 95 % bounds over the customers."""
        sides: list[Any] = [SimpleNamespace(found=[each]) for each in (self.exact, found)]
        loss, low, high = purchase_stream.interval(self.rows, *sides)
        return f"{self.auc(found):.4f} | {loss:+.4f} ({low:+.4f} to {high:+.4f})"

    def line(self, form: Optimise) -> None:
        """Print a line of the table: AUC, loss, bytes of the model, bytes compressed."""
        scorer, folder = self.written(form)
        found = self.quality(scorer.predict(self.pairs, 32))
        print(f"| {form.describe()} | {found} | {sizes(folder)} |", flush=True)

    def one_threshold(self, sparsity: str) -> None:
        """Print the line of a model whose layers all have the same threshold."""
        scorer = load(self.weights, manifest_digest(self.weights), "cpu")
        weights = linear_weights(scorer.model)  # type: ignore[arg-type]
        every = torch.cat([weight.abs().flatten() for weight in weights])
        threshold = every.kthvalue(int(float(sparsity) * len(every))).values
        for weight in weights:
            weight.masked_fill_(weight.abs() <= threshold, 0.0)
        found = self.quality(scorer.predict(self.pairs, 32))
        print(f"| one threshold, {sparsity} | {found} | |", flush=True)

    def speed(self, form: Optimise, without: Optimise | None, *, rows: int, rounds: int) -> None:
        """Print how many times as fast a form is as the same without pruning, in turns."""
        sides = (self.written(without)[0] if without else self.dense, self.written(form)[0])
        pairs = self.pairs[:rows]
        for side in sides:
            seconds(side, pairs[:64], 32)
        ratios = [
            seconds(sides[0], pairs, 32) / seconds(sides[1], pairs, 32) for _ in range(rounds)
        ]
        found = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(
            f"rows per second, {form.describe()}: {found} times those without pruning", flush=True
        )


def manifest_digest(folder: Path) -> str:
    """Return the digest of a folder that was committed, from the name of the folder."""
    return folder.name.replace("-", ":", 1)


def sizes(folder: Path) -> str:
    """Return the bytes of the model's file, and those of the file compressed by zlib."""
    path = next(folder.glob("*.safetensors"), folder / ONNX_MODEL)
    content = path.read_bytes()
    return f"{len(content) / 1e6:.1f} MB | {len(zlib.compress(content)) / 1e6:.1f} MB"


def kernels(rounds: int) -> None:
    """Print the time of one product with zeros, by PyTorch's kernels for sparse weights."""
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(TOKENS, INNER, generator=rng)
    weight = torch.randn(OUTER, INNER, generator=rng)
    for sparsity in SPARSITIES:
        zeros = (
            weight.abs()
            <= weight.abs().flatten().kthvalue(int(float(sparsity) * weight.numel())).values
        )
        pruned = weight.masked_fill(zeros, 0.0)
        compressed = pruned.to_sparse_csr()
        turns = [
            (timed(functional.linear, rows, pruned), timed(torch.matmul, compressed, rows.T))
            for _ in range(rounds)
        ]
        ratio = statistics.median(dense / sparse for dense, sparse in turns)
        print(f"product with {sparsity} zeros: CSR {ratio:.2f} times as fast as dense", flush=True)


def timed(product: Any, *factors: torch.Tensor) -> float:
    began = time.process_time()
    for _ in range(10):
        product(*factors)
    return time.process_time() - began


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--first", default="2011-07", help="first month")
    asked.add_argument("--share", type=float, default=1.0, help="share of the customers")
    asked.add_argument("--held-out", type=float, default=0.25, help="the same for the scored month")
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--rows", type=int, default=96, help="rows that are timed")
    asked.add_argument("--rounds", type=int, default=5)
    given = asked.parse_args()
    vars(given).update(TRAINING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kernels(given.rounds)
        made, window = trained(folder, given, given.seed)
        compared = Comparison(made, window, folder)
        int8 = Optimise(quantization="Int8Dynamic")
        pruned = [Optimise(pruning=Pruning(sparsity=each)) for each in SPARSITIES]
        both = [each.model_copy(update={"quantization": "Int8Dynamic"}) for each in pruned]
        for form in (*pruned, int8, *both):
            compared.line(form)
        for sparsity in SPARSITIES:
            compared.one_threshold(sparsity)
        compared.speed(pruned[-1], None, rows=given.rows, rounds=given.rounds)
        compared.speed(both[-1], int8, rows=given.rows, rounds=given.rounds)


if __name__ == "__main__":
    main()
