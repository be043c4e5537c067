"""What a fleet needs of GPUs and of the storage of models."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

MODELS = {
    "MiniLM-L6 (22.7 million parameters)": 22.7e6,
    "an encoder of 12 layers (110 million)": 110e6,
    "a decoder of 1 billion": 1e9,
}
"""Parameters of the models, as their model cards name them."""
BYTES = 4
"""Of a parameter in an artifact: FP32."""
CHECKPOINT = 3
"""Weights and both moments of AdamW, each as large as the weights."""
CHECKPOINTS = 2
"""Of a running training."""
PODS = 2
"""That serve each update."""
READS = 1 + 2
"""Of weights in a run: the parent is trained, candidate and live are evaluated."""
ROWS = 1_000_000
"""Of a run."""
OURS = "Springtide"


@dataclass(frozen=True)
class Fleet:
    """What is assumed: the figures that an operator of a fleet would change first."""

    updates: int = 10_000
    gpus: int = 1_000
    generations: int = 15
    """Kept of each update: `history.generations` and `history.rejected`, by default."""
    runs_a_day: float = 1.0


def rows_a_second(gpu: dict[str, Any], batch: int) -> float:
    """Rows of a whole training on a GPU, by second, from folder to folder."""
    (case,) = [each for each in gpu["cases"] if each["batch"] == batch and not each["layers"]]
    own = [each for each in case["measured"] if each["side"] == OURS]
    return fmean(each["rows"] / each["seconds"] for each in own)


TEXT = """## GPUs and storage

{gpus:,} GPUs give each of {updates:,} updates {hours:.1f} GPU-hours a day. A training of MiniLM-L6
takes {rate:,.0f} rows a second on one {card}, all of it counted
([measured](benchmarks.md#on-a-gpu)): {runs:,.0f} runs a day of {rows:,} rows need {needed:.0f} GPUs
all day. Evaluation and the start of pods are not in it.

Assumed: each update has {each:g} run a day, and `history` its defaults.

Kept: the weights of {generations} generations of each update, and {checkpoints} checkpoints of
{gpus:,} running trainings (weights and both moments of AdamW, `method: Full`). Moved: each run
reads weights {reads} times (the parent, and both models of the evaluation) and writes them once,
and {pods} pods load the new ones. Frozen rows, buffers of replay and data are not in it.
"""


def section(fleet: Fleet, gpu: dict[str, Any]) -> str:
    """Return what the GPUs can do, and the bytes that are kept and moved."""
    rate, runs = rows_a_second(gpu, 256), fleet.updates * fleet.runs_a_day
    text = TEXT.format(
        gpus=fleet.gpus,
        updates=fleet.updates,
        hours=fleet.gpus * 24 / runs,
        rate=rate,
        card=gpu["machine"]["gpu"],
        runs=runs,
        rows=ROWS,
        needed=runs * ROWS / rate / 86_400,
        each=fleet.runs_a_day,
        generations=fleet.generations,
        checkpoints=CHECKPOINTS,
        reads=READS,
        pods=PODS,
    )
    lines = [
        text,
        "| model, FP32 | kept | checkpoints | moved a day | on average |",
        "|---|---|---|---|---|",
        *(_row(fleet, name, parameters) for name, parameters in MODELS.items()),
        "",
        "LoRA makes checkpoints small, not artifacts: an adapter is merged before it is served.",
        "",
    ]
    return "\n".join(lines)


def _row(fleet: Fleet, name: str, parameters: float) -> str:
    weights = BYTES * parameters
    kept = fleet.updates * fleet.generations * weights
    checkpoints = fleet.gpus * CHECKPOINTS * CHECKPOINT * weights
    moved = fleet.updates * fleet.runs_a_day * (READS + 1 + PODS) * weights
    return (
        f"| {name} | {kept / 1e12:,.1f} TB | {checkpoints / 1e12:,.1f} TB | {moved / 1e12:,.1f} TB "
        f"| {moved / 86_400 / 1e9:,.2f} GB/s |"
    )
