"""A model is divided into parts, or refused; with one process it can be shown in this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor
from trainer.architectures import ARCHITECTURES
from transformers import AutoModelForSequenceClassification

from springtide_trainer.errors import Refused
from springtide_trainer.processes import ALONE, Processes
from springtide_trainer.training.engine import shards
from springtide_trainer.training.engine.strategies import STRATEGIES, Whole, strategy_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CPU = torch.device("cpu")


@pytest.fixture
def placing() -> Iterator[shards.Shards]:
    """Parts for a group of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield shards.Shards(ALONE, CPU)
    dist.destroy_process_group()


def bert() -> nn.Module:
    return AutoModelForSequenceClassification.from_config(ARCHITECTURES["bert"])


def test_all_parameters_are_in_parts_between_any_two_passes(placing):
    model = placing.place(bert())

    def divided() -> bool:
        return all(isinstance(each, DTensor) for _, each in model.named_parameters())

    assert divided()
    words = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        model(input_ids=words)
    assert divided()
    torch.autograd.backward(model(input_ids=words).logits.sum())
    assert divided()


def test_a_model_with_a_single_number_is_refused(placing):
    model = bert()
    model.register_parameter("temperature", nn.Parameter(torch.tensor(1.0)))
    with pytest.raises(Refused, match="temperature is a single number") as no:
        placing.place(model)
    assert no.value.failure.field == "spec.training.parallelism.type"


def test_a_parameter_that_stays_whole_is_noticed(placing, monkeypatch):
    divide = shards.fully_shard
    monkeypatch.setattr(
        shards, "fully_shard", lambda part, **how: divide(part, ignored_params={bias}, **how)
    )
    model = bert()
    bias = model.classifier.bias
    with pytest.raises(RuntimeError, match=r"not divided, such as classifier\.bias"):
        placing.place(model)


def test_one_process_has_nothing_to_divide():
    for name in STRATEGIES:
        assert isinstance(strategy_of(name, ALONE, CPU), Whole)
    assert isinstance(strategy_of("DDP", Processes(1, 2), CPU), Whole)
