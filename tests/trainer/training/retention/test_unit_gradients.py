"""Passes of several units find the squared gradients that a pass of each unit by itself finds."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from trainer.architectures import ARCHITECTURES
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from springtide_api.update.training import Freeze
from springtide_trainer.methods.full import freeze
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.ranking import Ranking
from springtide_trainer.training.retention.fisher_information import of_rows
from springtide_trainer.training.rows.batches import Examples
from springtide_trainer.training.rows.training_rows import TrainingRows
from springtide_trainer.training.rows.units import Units

LENGTHS = [9, 4, 12, 4, 1, 7, 5]
ALONE = "rows are passes by themselves"


class Given:
    """Rows of tokens."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.lengths = np.array(LENGTHS)
        self._ids = [torch.from_numpy(rng.integers(5, 60, length)) for length in LENGTHS]

    def batch(self, rows: Any) -> dict[str, torch.Tensor]:
        own = [self._ids[row] for row in rows]
        shown = [torch.ones_like(each) for each in own]
        padded = nn.utils.rnn.pad_sequence
        return {
            "input_ids": padded(own, batch_first=True, padding_value=1),
            "attention_mask": padded(shown, batch_first=True),
        }


def rows_of(groups: list[int] | None = None) -> TrainingRows:
    every = np.arange(len(LENGTHS))
    group = None if groups is None else np.array(groups)
    units = Units.of_rows(every) if group is None else Units.of_groups(every, group)
    weights = np.linspace(0.5, 2.0, len(LENGTHS), dtype=np.float32)
    examples = Examples(Given(), np.zeros(len(LENGTHS), np.int64), weights, group)
    return TrainingRows(examples, units, np.empty(0, np.int64), first_replayed=len(LENGTHS))


def a_model(name: str, outputs: int = 3) -> Any:
    config = copy.deepcopy(ARCHITECTURES[name])
    config.num_labels, config.pad_token_id = outputs, 1
    torch.manual_seed(5)
    return AutoModelForSequenceClassification.from_config(config)


def compare(model: Any, rows: TrainingRows, task: Any) -> None:
    alone, together = (
        of_rows(model, rows, task, count=99, seed=(4,), pass_rows=most) for most in (1, 5)
    )
    assert alone.keys() == together.keys()
    assert all(each.requires_grad for name, each in model.named_parameters() if name in alone)
    assert all(each.grad is None for each in model.parameters())
    assert sum(float(each.sum()) for each in alone.values()) > 0
    for name, each in alone.items():
        close = torch.testing.assert_close
        close(together[name].sqrt(), each.sqrt(), atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("embeddings", [True, False], ids=["frozen words", "trained words"])
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_they_are_those_of_each_row(name, embeddings, caplog):
    model = a_model(name)
    freeze(model, Freeze(embeddings=embeddings))
    with caplog.at_level("INFO"):
        compare(model, rows_of(), Classification(["a", "b", "c"]))
    assert (ALONE in caplog.text) == (name in {"deberta-v2", "llama"})


def test_they_are_those_of_each_group(caplog):
    model = a_model("bert", outputs=1)
    with caplog.at_level("INFO"):
        task = Ranking({"no": 0.0, "yes": 1.0}, "Listwise", 9)
        compare(model, rows_of([0, 0, 1, 1, 1, 2, 2]), task)
    assert ALONE not in caplog.text


class Reused(BertForSequenceClassification):
    """A model that uses weights where no layer reads them."""

    def forward(self, **inputs: Any) -> Any:
        made = super().forward(**inputs)
        made.logits = made.logits * self.bert.pooler.dense.weight.square().mean()
        return made


def test_a_model_that_uses_weights_outside_of_their_layers_has_a_pass_for_each_row(caplog):
    config = copy.deepcopy(ARCHITECTURES["bert"])
    config.num_labels = 3
    torch.manual_seed(5)
    with caplog.at_level("INFO"):
        compare(Reused(config), rows_of(), Classification(["a", "b", "c"]))
    assert f"{ALONE}" in caplog.text
