"""Each option of robustness on the purchases of a shop, against the same training without it.

    SPRINGTIDE_ONLINE_RETAIL=FOLDER PYTHONPATH=tests python -m bench.retention.robustness

Each option is trained once on the months before the last, with every seed, and scored on the last
month, which no training saw. Printed are the AUC, its gain over the training without options with
one-sided 95 % bounds over seeds and customers, rows, CPU seconds and memory of the process that
trained, and the bytes that are served. A gain whose bounds are on both sides of 0 is no effect.
`--share` and `--held-out` take a part of the customers: of the months that are trained on, and of
the scored one. `--options` names some of the options.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import torch
from bench.retention.lineage import Lineage, recipe, reference
from bench.retention.purchase_stream import LAST, NOW, after, aucs, interval, sample, spec, window
from bench.retention.results import Side

from springtide_api.contract import ArtifactRef, EvaluateInput, ProbeInput
from springtide_trainer.storage import Home, local_path
from springtide_trainer.tasks.metrics.statistic import EncodedRows

if TYPE_CHECKING:
    from collections.abc import Iterable

PLAIN = "none"
BALANCED = {"classWeights": "Balanced"}
FOCAL = {"loss": {"type": "Focal", "focal": {"gamma": "2"}}}
OPTIONS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "class weights": {"classification": BALANCED},
    "focal loss": {"classification": FOCAL},
    "ema 0.99": {"robustness": {"averaging": {"ema": "0.99"}}},
    "last 100 steps": {"robustness": {"averaging": {"lastK": 100}}},
    "adversarial 1": {"robustness": {"adversarial": {"epsilon": "1"}}},
    "token dropout 0.1": {"robustness": {"augmentation": {"tokenDropout": "0.1"}}},
    "word swap 0.1": {"robustness": {"augmentation": {"wordSwap": "0.1"}}},
}


@dataclass(frozen=True)
class Trained:
    """What a training with an option and a seed gave.

    Attributes:
        encoded: The rows of the last month.
        scores: What the model predicts of them: [rows, labels].
        rows: Rows that it was trained on.
        seconds: CPU seconds of the training.
        memory: Largest resident memory of the process, in MiB.
        served: Bytes of the artifact.
    """

    encoded: EncodedRows
    scores: Any
    rows: int
    seconds: float
    memory: float
    served: int


def train(given: argparse.Namespace, job: tuple[str, int]) -> Trained:
    """Train with an option and a seed, and score the last month."""
    option, seed = job
    torch.set_num_threads(1)
    made = spec(seed, given, replay=False)
    chosen = OPTIONS[option]
    if "classification" in chosen:
        made["model"]["classification"] = chosen["classification"]
    if "robustness" in chosen:
        made["training"]["robustness"] = chosen["robustness"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sample(folder / "purchases.csv", given)
        lineage = Lineage(Home(folder / "home"))
        using = recipe(folder, made, folder / "purchases.csv")
        asked = window(lineage, using, ProbeInput(now=NOW, through=after(given.last)))
        data = ArtifactRef(uri=asked.manifest, digest=asked.digest)
        trained = lineage.trained(using, lineage.imported(using), data)
        seconds, memory = lineage.seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        scoring = EvaluateInput(candidate=reference(trained.artifact), holdout=data)
        result = lineage.run("evaluate", using, evaluate=scoring)
        table = pq.read_table(lineage.home.report(result.job) / "scores.parquet")
        files = local_path(trained.artifact.uri).iterdir()
        served = sum(file.stat().st_size for file in files)
    _, entities = np.unique(table["entity"].to_pylist(), return_inverse=True)
    label = np.array([int(each) for each in table["label"].to_pylist()])
    scores = np.array(table["candidate"].to_pylist())
    encoded = EncodedRows(label, entities)
    return Trained(encoded, scores, trained.rows, seconds, memory / 1024, served)


def tried(given: argparse.Namespace, job: tuple[str, int]) -> Trained:
    """Train, and end with an error where a stage ends its process: a pool would wait for it."""
    try:
        return train(given, job)
    except SystemExit as ended:
        raise RuntimeError(f"{job}: {ended}") from ended


def table(found: dict[str, list[Trained]]) -> Iterable[str]:
    """Yield the lines of a table, one for each option."""
    yield "| option | AUC | gain (bounds) | rows | CPU s | MiB | bytes served |"
    yield "|---|---|---|---|---|---|---|"
    encoded = found[PLAIN][0].encoded
    whole = np.ones((1, encoded.entities), dtype=np.int32)
    sides = {
        option: Side(option, "", found=[each.scores for each in made])
        for option, made in found.items()
    }
    for option, made in found.items():
        quality = float(aucs(encoded, sides[option], whole).mean())
        gain = "" if option == PLAIN else _gain(interval(encoded, sides[option], sides[PLAIN]))
        yield (
            f"| {option} | {quality:.4f} | {gain} | {made[0].rows:,} "
            f"| {mean(each.seconds for each in made):.1f} "
            f"| {mean(each.memory for each in made):,.0f} | {made[0].served:,} |"
        )


def _gain(bounds: tuple[float, float, float]) -> str:
    value, low, high = bounds
    return f"{value:+.4f} ({low:+.4f} to {high:+.4f})"


def parsed() -> argparse.Namespace:
    asked = argparse.ArgumentParser()
    asked.add_argument("--options", nargs="+", default=[*OPTIONS], choices=[*OPTIONS])
    asked.add_argument("--seeds", type=int, default=5)
    asked.add_argument("--first", default="2010-12", help="first month")
    asked.add_argument("--last", default=LAST, help="last month, which is scored")
    asked.add_argument("--share", type=float, default=1.0)
    asked.add_argument("--held-out", type=float, default=1.0)
    asked.add_argument("--rate", default="1e-4")
    asked.add_argument("--batch", type=int, default=32)
    asked.add_argument("--epochs", type=int, default=2)
    asked.add_argument("--processes", type=int, default=1, help="trainings at once")
    given = asked.parse_args()
    given.joint_epochs, given.lower, given.ratio = given.epochs, 0, "0"
    given.ema = given.half_life = None
    given.options = [PLAIN, *(each for each in given.options if each != PLAIN)]
    return given


def main() -> None:
    given = parsed()
    jobs = [(option, seed) for option in given.options for seed in range(1, given.seeds + 1)]
    spawning = multiprocessing.get_context("spawn")
    # A process for each training, because memory is measured as the most that it ever had.
    with spawning.Pool(given.processes, maxtasksperchild=1) as processes:
        made = processes.map(partial(tried, given), jobs, chunksize=1)
    found: dict[str, list[Trained]] = {option: [] for option in given.options}
    for (option, _), each in zip(jobs, made, strict=True):
        found[option].append(each)
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
