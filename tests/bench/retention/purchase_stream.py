"""Purchases of ten months, month by month with replay, against a training on all months at once.

    SPRINGTIDE_ONLINE_RETAIL=FOLDER PYTHONPATH=tests python -m bench.retention.purchase_stream

Each month continues from the weights of the month before, on its own rows and rows from the replay
buffer. The joint model is trained once, on all months. Both are scored on the month after the last,
which neither was trained on. The upper 95 % bound of the loss of AUC, over seeds and customers,
must be at most 0.01, and the last month may train on at most a quarter of the joint rows. A joint
training that is worse than the months by more than 0.01 had too few steps to compare with.
`--share` and `--held-out` take a part of the customers: of all months, and of the scored one.
All customers and batches of 32 rows take two hours of one core for each seed, or minutes on a GPU,
which several seeds can share: `--processes` trains so many seeds at once. `--write` writes the
result. Choose options on an earlier month (`--last`) and with seeds that do not count
(`--first-seed`): what is chosen on the scored month says nothing about another one.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import torch
from bench.retention import sections
from bench.retention.lineage import Lineage, recipe, reference
from bench.retention.online_retail import rows, share_of
from bench.retention.results import Benchmark, Side, Target, share_of_rows

from springtide_api.contract import ArtifactRef, EvaluateInput, ProbeInput
from springtide_trainer.evaluation.confidence_intervals import Resampling, bootstrap_weights
from springtide_trainer.storage import Home
from springtide_trainer.tasks.metrics.classification import statistic
from springtide_trainer.tasks.metrics.statistic import EncodedRows

if TYPE_CHECKING:
    from springtide_api.contract import TrainOutput, WindowFound
    from springtide_api.generation.spec import Recipe

NAME, LAST = "next_purchase_pairs.csv.gz", "2011-09"
BOUND, SHARE_OF_ROWS = 0.01, 0.25
NOW = datetime(2011, 12, 1, tzinfo=UTC)


BENCHMARK = Benchmark(
    name="purchase_stream",
    title="Purchases of a shop, month by month",
    quality="AUC",
    about="A row is what a customer bought before and one product, and whether it was bought next. "
    f"Ten months up to {LAST}: the last one is scored, the others are trained on, month "
    "by month with a replay buffer, or all at once. The epochs of the joint training, 4 and not "
    "2, were chosen on the month before the scored one, with one seed; those of the months so that "
    "both sides see each row about as often, and the ratio so that the last month has at most a "
    "quarter of the rows.",
)


def sample(path: Path, given: argparse.Namespace) -> None:
    """Write the purchases of a part of the customers, from the first month to the last."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer: csv.DictWriter[str] | None = None
        for row in rows(NAME):
            part = given.held_out if row["month"] == given.last else given.share
            if writer is None:
                writer = csv.DictWriter(stream, list(row))
                writer.writeheader()
            within = given.first <= row["month"] <= given.last
            if within and share_of(row["customer"], "customers") < part:
                writer.writerow(row)


def spec(seed: int, given: argparse.Namespace, replay: bool) -> dict[str, Any]:
    """Return the spec of a month, or of the joint training, which replays nothing."""
    stored = {"ratio": given.ratio, "bufferRows": 20_000}
    if given.half_life:
        stored["halfLife"] = given.half_life
    robust = {"robustness": {"averaging": {"ema": given.ema}}} if given.ema else {}
    rule = {
        "name": "as-good-as-joint",
        "metric": "auc",
        "min": "0.5",
        "maxRegression": {"absolute": str(BOUND)},
    }
    return {
        "model": {
            "initial": {"uri": "file:///models/minilm"},
            "labels": ["0", "1"],
            "maxLength": 64,
        },
        "data": {
            "source": {
                "uri": "file:///data/purchases.csv",
                "format": "CSV",
                "columns": {
                    "text": "query",
                    "textPair": "item",
                    "label": "label",
                    "timestamp": "ts",
                    "entity": "customer",
                },
            },
            "volume": {"claimName": "data"},
        },
        "training": {
            "hyperparameters": {
                "epochs": given.epochs if replay else given.joint_epochs,
                "learningRate": given.rate,
                "batchSize": given.batch,
                "seed": seed,
                "freeze": {"lowerLayers": given.lower},
            },
            **({"retention": {"replay": stored}} if replay else {}),
            **robust,
        },
        "gate": {"rules": [rule]},
    }


def with_rate(made_from: Recipe, rate: str) -> Recipe:
    """Return a recipe with another learning rate."""
    training = made_from.training
    options = training.hyperparameters.model_copy(update={"learning_rate": rate})
    changed = training.model_copy(update={"hyperparameters": options})
    return made_from.model_copy(update={"training": changed})


def windows(lineage: Lineage, made_from: Recipe, months: list[str]) -> list[WindowFound]:
    """Freeze a window for each month but the last: it is trained on, the next one is scored."""
    found: list[WindowFound] = []
    for holdout in months[1:]:
        asked = ProbeInput(now=NOW, cursor=found[-1].to if found else None, through=after(holdout))
        found.append(window(lineage, made_from, asked))
    return found


def window(lineage: Lineage, made_from: Recipe, asked: ProbeInput) -> WindowFound:
    output = lineage.run("probe", made_from, probe=asked).probe
    assert output is not None
    if output.window is None:
        sys.exit(f"no window: {output.message}")
    return output.window


def after(month: str) -> datetime:
    """Return the end of a month."""
    year, number = map(int, month.split("-"))
    return datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)


def stream(
    lineage: Lineage, made_from: Recipe, months: list[WindowFound], later: Recipe | None = None
) -> tuple[list[TrainOutput], float]:
    """Train on one window after the other; return the trainings and their CPU seconds.

    Args:
        lineage: The storage.
        made_from: The recipe.
        months: The windows.
        later: The recipe of the windows after the first. None: the same.
    """
    seconds = 0.0
    initial = lineage.imported(made_from)
    made: list[TrainOutput] = []
    for each in months:
        rows = ArtifactRef(uri=each.manifest, digest=each.digest)
        using = later if later and made else made_from
        made.append(lineage.trained(using, made[-1] if made else initial, rows))
        seconds += lineage.seconds
    return made, seconds


def scores(
    lineage: Lineage, made_from: Recipe, models: list[TrainOutput], holdout: WindowFound
) -> tuple[EncodedRows, list[Any]]:
    """Score the last month with both models by the stage of the evaluation."""
    candidate, baseline = (reference(each.artifact) for each in models)
    rows = ArtifactRef(uri=holdout.manifest, digest=holdout.digest)
    given = EvaluateInput(candidate=candidate, baseline=baseline, holdout=rows)
    result = lineage.run("evaluate", made_from, evaluate=given)
    table = pq.read_table(lineage.home.report(result.job) / "scores.parquet")
    _, entities = np.unique(table["entity"].to_pylist(), return_inverse=True)
    label = np.array([int(each) for each in table["label"].to_pylist()])
    found = [np.array(table[name].to_pylist()) for name in ("candidate", "baseline")]
    return EncodedRows(label, entities), found


def aucs(encoded: EncodedRows, side: Side, weights: Any) -> Any:
    """Return the AUC of each seed for each draw of customers: float [seeds, draws]."""
    return np.stack([statistic("auc", encoded, each)(weights) for each in side.found])


def interval(encoded: EncodedRows, joint: Side, stream_: Side) -> tuple[float, float, float]:
    """Return the loss of AUC and its one-sided 95 % bounds: seeds and customers are drawn."""
    by = Resampling()
    drawn = [
        aucs(encoded, joint, weights) - aucs(encoded, stream_, weights)
        for weights in bootstrap_weights(encoded.entities, rows=len(encoded.label), by=by)
    ]
    differences = np.concatenate(drawn, axis=1)
    seeds, draws = differences.shape
    chosen = np.random.default_rng(0).integers(0, seeds, size=(seeds, draws))
    low, high = np.quantile(
        np.take_along_axis(differences, chosen, axis=0).mean(axis=0), [0.05, 0.95]
    )
    whole = np.ones((1, encoded.entities), dtype=np.int32)
    value = (aucs(encoded, joint, whole) - aucs(encoded, stream_, whole)).mean()
    return float(value), float(low), float(high)


def parsed() -> argparse.Namespace:
    asked = argparse.ArgumentParser()
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--first", default="2010-12", help="first month")
    asked.add_argument("--last", default=LAST, help="last month, which is scored")
    asked.add_argument("--share", type=float, default=1.0)
    asked.add_argument("--held-out", type=float, default=1.0)
    asked.add_argument("--ratio", default="0.75", help="replayed rows of each new row")
    asked.add_argument("--rate", default="1e-4")
    asked.add_argument("--later-rate", help="of the months after the first; default: --rate")
    asked.add_argument("--ema", help="of both sides (robustness.averaging)")
    asked.add_argument("--half-life", help="of stored rows, such as 720h")
    asked.add_argument("--first-seed", type=int, default=1)
    asked.add_argument("--batch", type=int, default=32)
    asked.add_argument("--epochs", type=int, default=2, help="of each month")
    asked.add_argument("--joint-epochs", type=int, default=4)
    asked.add_argument("--lower", type=int, default=0, help="layers that are not trained")
    asked.add_argument("--processes", type=int, default=1, help="seeds that are trained at once")
    asked.add_argument("--write", action="store_true", help="write the result and the page")
    return asked.parse_args()


def one_seed(
    given: argparse.Namespace, seed: int
) -> tuple[EncodedRows, list[tuple[list[TrainOutput], float, Any]]]:
    """Train and score both sides for a seed: their trainings, seconds and scores."""
    torch.set_num_threads(1)
    known = ["2010-12", *(f"2011-{month:02}" for month in range(1, 10))]
    months = [each for each in known if given.first <= each <= given.last]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sample(folder / "purchases.csv", given)
        lineage = Lineage(Home(folder / "home"))
        keeping, plain = (
            recipe(folder, spec(seed, given, one), folder / "purchases.csv")
            for one in (True, False)
        )
        each_month = windows(lineage, keeping, months)
        whole = window(lineage, plain, ProbeInput(now=NOW, through=after(given.last)))
        later = with_rate(keeping, given.later_rate or given.rate)
        made = [stream(lineage, plain, [whole]), stream(lineage, keeping, each_month, later)]
        models = [trainings[-1] for trainings, _ in made]
        encoded, found = scores(lineage, plain, models, each_month[-1])
    return encoded, [(*own, scored) for own, scored in zip(made, found, strict=True)]


def main() -> None:
    given = parsed()
    sides = [
        Side("all months", "Trained once, on the rows of all months (joint)."),
        Side("month by month", f"Replays {given.ratio} stored rows for each new row."),
    ]
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    spawning, held = multiprocessing.get_context("spawn"), False
    with ProcessPoolExecutor(given.processes, spawning) as processes:
        for encoded, made in processes.map(partial(one_seed, given), seeds):
            for side, (trainings, seconds, scored) in zip(sides, made, strict=True):
                side.keep(trainings, seconds)
                side.found.append(scored)
            held = _conclude(encoded, sides, given)
    sys.exit(0 if held else 1)


def _conclude(encoded: EncodedRows, sides: list[Side], given: argparse.Namespace) -> bool:
    """Print and write what the seeds so far have; return whether the targets are met."""
    joint, by_month = sides
    whole = np.ones((1, encoded.entities), dtype=np.int32)
    for side in sides:
        side.quality = [float(each) for each in aucs(encoded, side, whole)[:, 0]]
    by_month.loss = interval(encoded, joint, by_month)
    targets = [
        Target("upper bound of the loss of AUC", by_month.loss[2], BOUND),
        Target(
            "lower bound of the loss of AUC (lower: the joint training had too few steps)",
            by_month.loss[1],
            -BOUND,
            least=True,
        ),
        Target(
            "rows of the last month / rows of the joint training",
            share_of_rows(by_month, joint),
            SHARE_OF_ROWS,
        ),
    ]
    result = BENCHMARK.result(
        sides,
        targets,
        given,
        held_out_rows=len(encoded.label),
        held_out_customers=encoded.entities,
    )
    print(f"{len(joint.quality)} seeds:\n{sections.section(result)}", flush=True)
    if given.write:
        BENCHMARK.write(result)
    return all(target.met for target in targets)


if __name__ == "__main__":
    main()
