"""Pruning sets exactly the smallest weights of each linear layer below the head to zero."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from trainer.architectures import ARCHITECTURES
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from springtide_trainer.errors import Refused
from springtide_trainer.optimise.pruning import linear_weights, prune, smallest

LAYERS = {
    "bert": 3 * 6 + 1,
    "roberta": 3 * 6,
    "distilbert": 2 * 6,
    "deberta-v2": 3 * 8,
    "modernbert": 3 * 4,
    "gpt2": 2 * 4,
    "llama": 3 * 7,
}
"""Linear layers of the small models; the attention of DeBERTa has two more for positions, and BERT
has a pooler."""


def a_model(name: str) -> nn.Module:
    torch.manual_seed(5)
    return AutoModelForSequenceClassification.from_config(ARCHITECTURES[name])


@pytest.mark.parametrize("sparsity", ["0.3", "0.5", "0.95"])
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_each_linear_layer_keeps_its_largest_weights_and_nothing_else_changes(name, sparsity):
    model, before = a_model(name), a_model(name).state_dict()
    assert len(linear_weights(model)) == LAYERS[name]
    pruned = {weight.data_ptr() for weight in linear_weights(model)}
    zeros = prune(model, sparsity)

    seen = 0
    for key, found in model.state_dict().items():
        if found.data_ptr() not in pruned:
            assert torch.equal(found, before[key]), key
            continue
        left = found != 0
        share, of = sparsity.removeprefix("0."), 10 ** (len(sparsity) - 2)
        assert int((~left).sum()) == found.numel() * int(share) // of
        assert torch.equal(found[left], before[key][left]), "what is left is as it was"
        assert before[key][left].abs().min() >= before[key][~left].abs().max()
        assert not torch.signbit(found[~left]).any(), "-0 has other bytes than 0"
        seen += int((~left).sum())
    assert zeros == seen > 0


def test_the_head_is_not_pruned():
    model = a_model("roberta")
    prune(model, "0.9")
    assert (model.classifier.dense.weight != 0).all()
    assert (model.classifier.out_proj.weight != 0).all()


def test_of_equal_weights_as_many_are_set_to_zero_as_of_others():
    model = a_model("bert")
    weight = model.bert.pooler.dense.weight
    with torch.no_grad():
        weight.fill_(-0.25)
    prune(model, "0.3")
    assert int((weight == 0).sum()) == weight.numel() * 3 // 10


@pytest.mark.parametrize("count", [0, 1, 37, 199, 200, 400])
@pytest.mark.parametrize("levels", [1, 2, 50, 1 << 20])
def test_the_weights_are_those_that_a_stable_sort_by_magnitude_has_first(levels, count):
    """With few levels many are equal, as those of a parent that was stored in BF16."""
    rng = torch.Generator().manual_seed(levels)
    values = torch.randint(-levels, levels + 1, (20, 20), generator=rng) * 2.0**-20
    values[3, 4], values[3, 5] = -0.0, 0.0
    for weight in (values, values.T):
        first = weight.abs().flatten().argsort(stable=True)[:count]
        wanted = torch.zeros(400, dtype=torch.bool)
        wanted[first] = True
        assert torch.equal(smallest(weight, count), wanted.view(20, 20))


def test_a_fraction_is_counted_in_decimals():
    """0.29 * 6400 is 1855.9999999999998 in binary floating point."""
    model = a_model("bert")
    model.bert.pooler.dense = nn.Linear(64, 100)
    prune(model, "0.29")
    assert int((model.bert.pooler.dense.weight == 0).sum()) == 1856


class NoLayers(BertForSequenceClassification):
    """A model whose linear layers all belong to its head."""

    base_model = nn.Embedding(3, 3)


def test_a_model_without_linear_layers_below_its_head_is_refused():
    with pytest.raises(Refused) as refused:
        prune(NoLayers(ARCHITECTURES["bert"]), "0.5")
    failure = refused.value.failure
    assert (failure.reason, failure.field) == (
        "OptimiseNotPossible",
        "spec.serving.optimise.pruning",
    )
    assert failure.message == (
        "NoLayers has no linear layer below its head that could be pruned; remove pruning"
    )
