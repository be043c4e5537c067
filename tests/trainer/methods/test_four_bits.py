"""A base in 4 bits trains adapters as the rounded base would, and comes back as it was."""

from __future__ import annotations

import sys

import bitsandbytes
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import nn
from trainer.architectures import ARCHITECTURES
from trainer.methods.test_lora import adapted, inputs, logits, small, take_steps, training

from springtide_trainer.errors import Refused
from springtide_trainer.methods.four_bits import FourBits
from springtide_trainer.methods.lora import LoRA, merge

LINEAR = sorted(set(ARCHITECTURES) - {"gpt2"})
"""Architectures whose layers are `torch.nn.Linear`."""


def in_four_bits(model) -> dict[str, FourBits]:
    return {path: each for path, each in model.named_modules() if isinstance(each, FourBits)}


def rounded(name: str):
    """The same adapters on a base of the same rounded weights, in plain layers."""
    model, plain = adapted(name, quantization="NF4"), adapted(name)
    with torch.no_grad():
        for path, each in in_four_bits(model).items():
            layer = plain.get_submodule(path)
            layer.weight.copy_(dequantize_4bit(each.weight.data, each.weight.quant_state))
    return model, plain


def gradients(model, **precision) -> dict[str, torch.Tensor]:
    with torch.autocast("cpu", **precision):
        loss = nn.functional.cross_entropy(model(**inputs()).logits, torch.tensor([0, 1, 0, 1, 1]))
    torch.autograd.backward(loss)
    found = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("name", LINEAR)
def test_scores_and_gradients_are_those_of_the_rounded_weights(name):
    model, plain = rounded(name)
    assert not [
        path
        for path, each in model.base_model.named_modules()
        if type(each) is nn.Linear and not each.weight.requires_grad
    ], "all linear layers of the encoder are in 4 bits"
    torch.testing.assert_close(logits(model), logits(plain), rtol=1e-5, atol=1e-6)
    found, expected = gradients(model, enabled=False), gradients(plain, enabled=False)
    assert found.keys() == expected.keys()
    for each, gradient in expected.items():
        torch.testing.assert_close(found[each], gradient, rtol=1e-4, atol=1e-6)


def test_rounded_weights_are_near_the_exact_ones_and_not_equal_to_them():
    """The largest error of NF4 is 0.152 of a block's largest weight, between -1 and -0.696."""
    model = adapted(quantization="NF4")
    for each in in_four_bits(model).values():
        exact = each.exact[0].weight
        error = (dequantize_4bit(each.weight.data, each.weight.quant_state) - exact).abs().max()
        assert 0 < error < 0.16 * exact.abs().max()


def test_a_pass_without_gradients_between_two_steps_changes_none():
    """Layers of bitsandbytes pack their weights in it for another kernel, without gradients."""
    model = adapted(quantization="NF4")
    before = gradients(model, enabled=False)
    logits(model)
    after = gradients(model, enabled=False)
    assert all(torch.equal(after[name], gradient) for name, gradient in before.items())


def test_outputs_have_the_type_of_a_plain_layer_under_autocast():
    layer = next(iter(in_four_bits(adapted(quantization="NF4")).values()))
    rows = torch.randn(3, layer.exact[0].in_features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(rows).dtype == layer.exact[0](rows).dtype == torch.bfloat16
    assert layer(rows).dtype == torch.float32


@pytest.mark.parametrize("name", LINEAR)
def test_adapters_are_merged_into_the_weights_as_they_were(name):
    original, model = small(name), adapted(name, quantization="NF4")
    losses = take_steps(model)
    assert losses[-1] < losses[0]
    trained = {each: x.detach().clone() for each, x in model.named_parameters() if x.requires_grad}
    plain = adapted(name)
    plain.load_state_dict(trained, strict=False)
    merge(model)
    merge(plain)
    assert model.state_dict().keys() == original.state_dict().keys()
    for each, weight in plain.state_dict().items():
        assert torch.equal(model.state_dict()[each], weight), each


def test_a_weight_takes_little_more_than_half_a_byte():
    """4 bits, 8 bits for each block of 64, and 32 bits for 256 blocks: 0.516 bytes."""
    model = adapted(quantization="NF4")
    weights = stored = 0
    for each in in_four_bits(model).values():
        state = each.weight.quant_state
        weights += each.exact[0].weight.numel()
        stored += each.weight.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    assert weights / 2 < stored < 0.53 * weights


def test_the_exact_weights_are_no_part_of_the_module():
    model = adapted(quantization="NF4")
    assert not [name for name, _ in model.named_parameters() if "exact" in name]
    assert not [name for name in model.state_dict() if "exact" in name]


def test_equal_weights_have_equal_bits():
    first, again = adapted(quantization="NF4"), adapted(quantization="NF4")
    for one, other in zip(in_four_bits(first).values(), in_four_bits(again).values(), strict=True):
        assert torch.equal(one.weight.data, other.weight.data)


def test_a_model_without_linear_layers_of_torch_is_refused():
    with pytest.raises(Refused, match=r"GPT2Model has no layers of type torch\.nn\.Linear") as no:
        adapted("gpt2", quantization="NF4")
    failure = no.value.failure
    assert failure.reason == "UnsupportedModel"
    assert failure.field == "spec.training.method.lora.quantization"


def test_without_bitsandbytes_a_training_is_refused_and_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(Refused, match=r"name an image that has it in training\.image") as refused:
        LoRA().prepare(small(), training(quantization="NF4"), seed=1)
    assert refused.value.failure.reason == "MissingPackage"


@pytest.mark.parametrize("version", ["0.9", "0.49.2", "0.49.0.dev0"])
def test_an_older_bitsandbytes_which_transposes_weights_is_refused(monkeypatch, version):
    monkeypatch.setattr(bitsandbytes, "__version__", version)
    with pytest.raises(Refused, match=f"is {version}, and at least 0.50 is needed") as refused:
        LoRA().prepare(small(), training(quantization="NF4"), seed=1)
    assert refused.value.failure.reason == "MissingPackage"
