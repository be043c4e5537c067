"""The sides of the benchmarks of training: this trainer, a tutorial's loop, Hugging Face's Trainer.

All train MiniLM with a new head on the same rows, with batches of 32, at the same learning rate.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from bench.relevance import LABELS, MAX_LENGTH, texts
from bench.training.rounds import Quality
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from springtide_api.contract import RunFile
from springtide_trainer.artifact.models import load_tokenizer, predict
from springtide_trainer.artifact.tokens import tokenize
from springtide_trainer.storage import local_path
from springtide_trainer.tasks.classification import Classification

if TYPE_CHECKING:
    from bench.training.rounds import Clock, Round

BATCH = 32


def springtide(shared: Round, clock: Clock, *, job: str, **training: Any) -> Any:
    """Run the stage `train` with these options; return the model of its artifact."""
    plain = shared.world.run_file(job, **training).plain()
    plain["recipe"]["model"]["maxLength"] = MAX_LENGTH
    plain["train"]["checkpoints"] = str(shared.home.path / "checkpoints" / job)
    run = RunFile.model_validate(plain)
    with clock.running():
        made = shared.world.train(run)
    return model(shared, local_path(made.artifact.uri))


def model(shared: Round, folder: Any = None) -> Any:
    """Load a model: the weights that all sides start from, or those of another folder."""
    return AutoModelForSequenceClassification.from_pretrained(folder or shared.parent)


def tutorial(shared: Round, clock: Clock, *, rate: float) -> Any:
    """Train with one call of the tokenizer for each row, padding to 128, FP32 and AdamW."""
    torch.manual_seed(shared.number)
    rows, labels = shared.trained
    tokenizer, trained = AutoTokenizer.from_pretrained(shared.parent), model(shared)

    def collate(numbers: list[int]) -> tuple[dict[str, Any], Any]:
        options = {"padding": "max_length", "truncation": True, "max_length": MAX_LENGTH}
        each = [tokenizer(rows[n], return_tensors="pt", **options) for n in numbers]
        inputs = {name: torch.cat([one[name] for one in each]) for name in each[0]}
        return inputs, torch.tensor([labels[n] for n in numbers])

    with clock.running():
        optimizer = torch.optim.AdamW(trained.parameters(), lr=rate)
        trained.train()
        for inputs, wanted in DataLoader(range(len(rows)), BATCH, shuffle=True, collate_fn=collate):
            trained(**inputs, labels=wanted).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return trained


def hugging_face(
    shared: Round, clock: Clock, trained: Any, *, rate: float, epochs: int = 1
) -> None:
    """Train a model with Hugging Face's Trainer; all but batch, rate and epochs is default."""
    rows, labels = shared.trained
    tokenizer = AutoTokenizer.from_pretrained(shared.parent)
    with clock.running(), tempfile.TemporaryDirectory() as folder:
        encoded = tokenizer(rows, truncation=True, max_length=MAX_LENGTH)["input_ids"]
        data = [
            {"input_ids": ids, "labels": label} for ids, label in zip(encoded, labels, strict=True)
        ]
        arguments = transformers.TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=rate,
            seed=shared.number,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        collate = transformers.DataCollatorWithPadding(tokenizer)
        trainer = transformers.Trainer(trained, arguments, collate, train_dataset=data)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()


def auc(shared: Round, models: dict[str, Any]) -> dict[str, float]:
    """Return the AUC of each model on the held-out rows, which are the same in all rounds."""
    tokenizer = load_tokenizer(shared.parent)
    some, labels = texts(tokenizer, shared.sizes.held_out, 0)
    tokens = tokenize(tokenizer, [(text, None) for text in some], MAX_LENGTH)
    task, rows = Classification(LABELS), np.arange(len(some))
    return {
        name: float(
            roc_auc_score(labels, predict(task, each, tokens, rows=rows, batch_size=BATCH)[:, 1])
        )
        for name, each in models.items()
    }


AUC = Quality("AUC", tolerance=0.005, of=auc)
TRAINING_SIZES = ("trained", "held_out")
