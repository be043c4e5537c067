"""Examples per CPU-second of a training, against a tutorial's loop and Hugging Face's Trainer.

    PYTHONPATH=tests python tests/bench/training_speed.py [--rows 1024] [--rounds 2] [--write]

All sides train the same rows from the same weights, in turns in one run: compare ratios only.
Loading of weights is not counted for the others; for this trainer it is. `--write` writes
docs/benchmarks.md. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import platform
import re
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from bench.relevance import LABELS, MAX_LENGTH, texts, weights
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader
from trainer.training.conftest import World, freeze, imported
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from springtide_api.contract import RunFile
from springtide_trainer.artifact.models import predict
from springtide_trainer.artifact.tokens import tokenize
from springtide_trainer.storage import Home, local_path
from springtide_trainer.tasks.classification import Classification

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH, RATE, PAGE = 32, 1e-4, Path(__file__).parents[2] / "docs" / "benchmarks.md"
MARGIN = 0.005


@dataclass
class Rows:
    """Rows of one round, and the folder of the weights that all sides start from."""

    texts: list[str]
    labels: list[int]
    world: World
    seed: int

    @property
    def parent(self) -> Path:
        return local_path(self.world.parent.uri)


@dataclass
class Side:
    """One way to train: returns CPU seconds and the model."""

    name: str
    train: Callable[[Rows], tuple[float, Any]]
    epochs: int = 1
    rates: list[float] = field(default_factory=list)
    aucs: list[float] = field(default_factory=list)


def tutorial(rows: Rows) -> tuple[float, Any]:
    """One call of the tokenizer for each row, padding to 128, FP32, AdamW."""
    torch.manual_seed(rows.seed)
    tokenizer = AutoTokenizer.from_pretrained(rows.parent)
    model = AutoModelForSequenceClassification.from_pretrained(rows.parent)
    began = time.process_time()

    def collate(numbers: list[int]) -> tuple[dict[str, Any], Any]:
        options = {"padding": "max_length", "truncation": True, "max_length": MAX_LENGTH}
        each = [tokenizer(rows.texts[n], return_tensors="pt", **options) for n in numbers]
        inputs = {name: torch.cat([one[name] for one in each]) for name in each[0]}
        return inputs, torch.tensor([rows.labels[n] for n in numbers])

    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    model.train()
    numbers = list(range(len(rows.texts)))
    for inputs, labels in DataLoader(numbers, BATCH, shuffle=True, collate_fn=collate):
        torch.autograd.backward(model(**inputs, labels=labels).loss)
        optimizer.step()
        optimizer.zero_grad()
    return time.process_time() - began, model


def trainer_defaults(epochs: int) -> Callable[[Rows], tuple[float, Any]]:
    """Hugging Face's Trainer: rows tokenized at once, all settings but batch and rate default."""

    def train(rows: Rows) -> tuple[float, Any]:
        tokenizer = AutoTokenizer.from_pretrained(rows.parent)
        model = AutoModelForSequenceClassification.from_pretrained(rows.parent)
        began = time.process_time()
        encoded = tokenizer(rows.texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
        data = [
            {"input_ids": ids, "labels": label}
            for ids, label in zip(encoded, rows.labels, strict=True)
        ]
        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                folder,
                num_train_epochs=epochs,
                per_device_train_batch_size=BATCH,
                learning_rate=RATE,
                seed=rows.seed,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
            )
            collate = transformers.DataCollatorWithPadding(tokenizer)
            transformers.Trainer(model, arguments, collate, train_dataset=data).train()
        return time.process_time() - began, model

    return train


def springtide(epochs: int, lower: int = 0) -> Callable[[Rows], tuple[float, Any]]:
    """This trainer: everything from the frozen rows to the trained weights."""

    def train(rows: Rows) -> tuple[float, Any]:
        options = {
            "epochs": epochs,
            "batchSize": BATCH,
            "learningRate": str(RATE),
            "freeze": {"lowerLayers": lower},
            "seed": rows.seed,
        }
        job = f"e{epochs}-l{lower}-train-{rows.seed}"
        plain = rows.world.run_file(job, hyperparameters=options).model_dump(
            mode="json", by_alias=True, exclude_none=True
        )
        plain["recipe"]["model"]["maxLength"] = MAX_LENGTH
        plain["train"]["checkpoints"] = str(rows.world.home.path / "checkpoints" / job)
        run = RunFile.model_validate(plain)
        began = time.process_time()
        made = rows.world.train(run)
        seconds = time.process_time() - began
        folder = local_path(made.artifact.uri)
        return seconds, AutoModelForSequenceClassification.from_pretrained(folder)

    return train


def sides() -> list[Side]:
    made = [Side("this trainer", springtide(1)), Side("a tutorial's loop", tutorial)]
    frozen = [Side("this trainer, lower half frozen, 3 epochs", springtide(3, lower=3), 3)]
    if find_spec("accelerate"):
        made.append(Side("Hugging Face Trainer, defaults", trainer_defaults(1)))
        frozen.append(Side("Hugging Face Trainer, defaults, 3 epochs", trainer_defaults(3), 3))
    else:
        print("Hugging Face's Trainer needs the package accelerate, which is not installed")
    return made + frozen


def auc(model: Any, parent: Path, held_out: tuple[list[str], list[int]]) -> float:
    tokens = tokenize(
        AutoTokenizer.from_pretrained(parent), [(text, None) for text in held_out[0]], MAX_LENGTH
    )
    rows = np.arange(len(held_out[0]))
    scores = predict(Classification(LABELS), model, tokens, rows=rows, batch_size=32)
    return float(roc_auc_score(held_out[1], scores[:, 1]))


def ratios(measured: list[Side]) -> list[tuple[Side, Side]]:
    """Return the pairs to compare: of as many epochs each."""
    mine = [side for side in measured if side.name.startswith("this")]
    return [
        (own, other)
        for own in mine
        for other in measured
        if other not in mine and other.epochs == own.epochs
    ]


def report(measured: list[Side]) -> str:
    lines = ["| training | examples per CPU-second | AUC |", "|---|---|---|"]
    lines += [f"| {s.name} | {mean(s.rates):.1f} | {mean(s.aucs):.4f} |" for s in measured]
    lines += ["", "| compared | ratio | difference of AUC |", "|---|---|---|"]
    for own, other in ratios(measured):
        ratio = mean(mine / its for mine, its in zip(own.rates, other.rates, strict=True))
        difference = mean(own.aucs) - mean(other.aucs)
        lines.append(f"| {own.name} to {other.name} | {ratio:.1f} | {difference:+.4f} |")
    return "\n".join(lines)


def machine() -> str:
    flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
    has = [name for name in ("avx512_bf16", "amx_bf16") if name in flags] or ["no BF16"]
    return (
        f"{torch.get_num_threads()} threads, {platform.machine()} with {', '.join(has)}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--rows", type=int, default=1024)
    asked.add_argument("--rounds", type=int, default=2)
    asked.add_argument("--held-out", type=int, default=1000)
    asked.add_argument("--write", action="store_true")
    given = asked.parse_args()
    measured = sides()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        parent = imported(weights(), home)
        tokenizer = AutoTokenizer.from_pretrained(local_path(parent.uri))
        held_out = texts(tokenizer, given.held_out, 0)
        for number in range(1, given.rounds + 1):
            some, labels = texts(tokenizer, given.rows, number)
            table = {
                "text": some,
                "label": [LABELS[label] for label in labels],
                "entity": [str(row) for row in range(len(some))],
            }
            rows = Rows(some, labels, World(home, parent, freeze(home, table)), number)
            for side in measured:
                seconds, model = side.train(rows)
                side.rates.append(side.epochs * given.rows / seconds)
                side.aucs.append(auc(model, rows.parent, held_out))
                print(
                    f"round {number}: {side.name}: {side.rates[-1]:.1f} examples/CPU-s, "
                    f"AUC {side.aucs[-1]:.4f}",
                    flush=True,
                )
    text = report(measured)
    print(f"\n{machine()}\n\n{text}")
    if given.write:
        PAGE.write_text(
            "# Benchmarks\n\nWritten by `make bench-training WRITE=1`. All sides run in turns in "
            "one run; compare ratios only.\n\n"
            f"MiniLM-L6 on {given.rows:,} rows of 44 tokens on average, {given.rounds} rounds, "
            f"{machine()}.\n\n{text}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
