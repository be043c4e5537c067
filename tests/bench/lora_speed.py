"""Examples per CPU-second of a training with LoRA, against peft with Hugging Face's Trainer.

    PYTHONPATH=tests python tests/bench/lora_speed.py [--rows 1024] [--targets query value]

Both sides have adapters of the same rank, alpha and targets (default: all linear layers of the
encoder), the same batch and rate, and train the head; all other settings are the defaults of each.
They take turns in one run: compare ratios only. Loading and wrapping of the model are not counted
for the Trainer; for this trainer they are, with the merge and the artifact.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from bench.relevance import LABELS, MAX_LENGTH, texts, weights
from bench.training_speed import BATCH, Rows, Side, auc, machine, report
from peft import LoraConfig, get_peft_model
from trainer.training.conftest import World, freeze, imported
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from springtide_api.contract import RunFile
from springtide_trainer.storage import Home, local_path

RANK, ALPHA, RATE = 8, 16, 5e-4


def springtide(rows: Rows, targets: list[str]) -> tuple[float, Any]:
    """This trainer: everything from the frozen rows to the merged model."""
    job = f"lora-train-{rows.seed}"
    plain = rows.world.run_file(
        job,
        method={
            "type": "LoRA",
            "lora": {"rank": RANK, "alpha": ALPHA, "targetModules": targets},
        },
        hyperparameters={"batchSize": BATCH, "learningRate": str(RATE), "seed": rows.seed},
    ).model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["recipe"]["model"]["maxLength"] = MAX_LENGTH
    plain["train"]["checkpoints"] = str(rows.world.home.path / "checkpoints" / job)
    run = RunFile.model_validate(plain)
    began = time.process_time()
    made = rows.world.train(run)
    seconds = time.process_time() - began
    folder = local_path(made.artifact.uri)
    return seconds, AutoModelForSequenceClassification.from_pretrained(folder)


def trainer_defaults(rows: Rows, targets: list[str]) -> tuple[float, Any]:
    """peft's wrapper for sequence classification, in Hugging Face's Trainer."""
    torch.manual_seed(rows.seed)
    tokenizer = AutoTokenizer.from_pretrained(rows.parent)
    model = AutoModelForSequenceClassification.from_pretrained(rows.parent)
    config = LoraConfig(
        task_type="SEQ_CLS", r=RANK, lora_alpha=ALPHA, target_modules=targets or "all-linear"
    )
    wrapped = get_peft_model(model, config)
    began = time.process_time()
    encoded = tokenizer(rows.texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    data = [
        {"input_ids": ids, "labels": label} for ids, label in zip(encoded, rows.labels, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            seed=rows.seed,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        collate = transformers.DataCollatorWithPadding(tokenizer)
        transformers.Trainer(wrapped, arguments, collate, train_dataset=data).train()
    seconds = time.process_time() - began
    return seconds, wrapped.merge_and_unload()


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--rows", type=int, default=1024)
    asked.add_argument("--rounds", type=int, default=2)
    asked.add_argument("--held-out", type=int, default=1000)
    asked.add_argument("--targets", nargs="*", default=[])
    given = asked.parse_args()
    measured = [
        Side("this trainer, LoRA", partial(springtide, targets=given.targets)),
        Side("peft and Hugging Face Trainer", partial(trainer_defaults, targets=given.targets)),
    ]
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        parent = imported(weights(), home)
        tokenizer = AutoTokenizer.from_pretrained(local_path(parent.uri))
        held_out = texts(tokenizer, given.held_out, 0)
        for number in range(given.rounds + 1):
            count = given.rows if number else BATCH
            some, labels = texts(tokenizer, count, number + 1)
            table = {
                "text": some,
                "label": [LABELS[label] for label in labels],
                "entity": [str(row) for row in range(len(some))],
            }
            rows = Rows(some, labels, World(home, parent, freeze(home, table)), number)
            for side in measured:
                seconds, model = side.train(rows)
                if number:  # round 0 loads libraries
                    side.rates.append(count / seconds)
                    side.aucs.append(auc(model, rows.parent, held_out))
    print(f"{machine()}\n\n{report(measured)}")


if __name__ == "__main__":
    main()
