"""model.keepLayers: layers are removed, and what is left loads and computes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from trainer.architectures import ARCHITECTURES
from transformers import AlbertConfig, AutoConfig, AutoModelForSequenceClassification

from springtide_trainer.errors import Refused
from springtide_trainer.methods.kept_layers import keep_layers
from springtide_trainer.methods.layers import all_layers

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

TOKENS = torch.tensor([[3, 7, 11, 13, 17]])


def a_model(name: str) -> PreTrainedModel:
    torch.manual_seed(1)
    config = type(ARCHITECTURES[name]).from_dict(ARCHITECTURES[name].to_dict())
    return AutoModelForSequenceClassification.from_config(config).eval()


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS, attention_mask=torch.ones_like(TOKENS)).logits


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_without_its_last_layer_is_loaded_as_it_was_saved(name: str, tmp_path: Path):
    model = a_model(name)
    before, layers = logits(model), all_layers(model)
    kept = [*range(len(layers) - 1)]
    assert keep_layers(model, kept[::-1])  # in any order
    assert all_layers(model) == layers[:-1]
    assert not torch.equal(logits(model), before)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).num_hidden_layers == len(kept)
    torch.testing.assert_close(logits(loaded), logits(model))


def test_the_layers_that_stay_are_the_named_ones_and_all_of_them_is_no_change():
    model = a_model("bert")
    first, _, third = all_layers(model)
    assert not keep_layers(model, [0, 1, 2])
    assert keep_layers(model, [0, 2])
    assert all_layers(model) == [first, third]


def test_a_layer_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(Refused, match="keepLayers has layer 3; the model has layers 0 to 2"):
        keep_layers(a_model("bert"), [0, 3])


def test_layers_with_shared_weights_cannot_be_removed():
    config = AlbertConfig(
        hidden_size=32,
        embedding_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=99,
    )
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(Refused, match="has no list of 4 layers"):
        keep_layers(model, [0, 1])
