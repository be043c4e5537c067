"""Adapters move, the base does not, and the merged model gives the scores of the adapted one."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch
from trainer.architectures import ARCHITECTURES
from transformers import AutoModelForSequenceClassification

from springtide_api.contract import ExitCode
from springtide_api.update.training import Training
from springtide_trainer.errors import Refused
from springtide_trainer.methods.lora import LoRA, merge

VARIANTS = {
    "plain": {},
    "rsLoRA": {"rsLora": True},
    "DoRA": {"dora": True},
    "with dropout": {"dropout": "0.3"},
}


def training(lower_layers: int = 0, **lora: object) -> Training:
    return Training.model_validate(
        {
            "method": {"type": "LoRA", "lora": {"rank": 4, **lora}},
            "hyperparameters": {"freeze": {"lowerLayers": lower_layers}},
        }
    )


def small(name: str = "bert"):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(copy.deepcopy(ARCHITECTURES[name]))
    return model.eval()


def adapted(name: str = "bert", lower_layers: int = 0, seed: int = 1, **lora: object):
    return LoRA().prepare(small(name), training(lower_layers, **lora), seed=seed)


def inputs() -> dict[str, torch.Tensor]:
    tokens = torch.randint(4, 99, (5, 12), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(12) < torch.tensor([12, 3, 7, 1, 12])[:, None]).long()
    return {"input_ids": tokens * mask, "attention_mask": mask}


def take_steps(model) -> list[float]:
    """Some steps with a loss that the head alone cannot bring to 0."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    labels, losses = torch.tensor([0, 1, 0, 1, 1]), []
    model.train()
    for _ in range(6):
        loss = torch.nn.functional.cross_entropy(model(**inputs()).logits, labels)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs()).logits


def trained(model) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_base_stays_and_the_merged_model_scores_as_the_adapted_one(name, variant):
    original, model = small(name), adapted(name, **VARIANTS[variant])
    torch.testing.assert_close(logits(model), logits(original), rtol=0, atol=1e-5)
    moving = trained(model)
    head = {each for each in moving if not each.startswith(f"{model.base_model_prefix}.")}
    assert head == {
        each
        for each, _ in original.named_parameters()
        if not each.startswith(f"{model.base_model_prefix}.")
    }
    assert all("lora_" in each for each in moving - head)

    losses = take_steps(model)

    assert losses[-1] < losses[0]
    before = dict(original.named_parameters())
    for each, weight in model.named_parameters():
        if each not in moving:
            assert torch.equal(weight, before[each.replace(".base_layer", "")]), each
    scores = logits(model)
    merge(model)
    assert model.state_dict().keys() == original.state_dict().keys()
    torch.testing.assert_close(logits(model), scores, rtol=0, atol=1e-5)
    assert not torch.allclose(scores, logits(original), atol=1e-3)


@pytest.mark.parametrize(("rs_lora", "scale"), [(False, 16 / 4), (True, 16 / math.sqrt(4))])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_an_adapter_adds_the_scaled_product_of_its_matrices(name, rs_lora, scale):
    original, model = small(name), adapted(name, rsLora=rs_lora)
    take_steps(model)
    path = {
        "bert": "bert.encoder.layer.1.attention.self.query",
        "gpt2": "transformer.h.1.attn.c_attn",
    }[name]
    layer = model.get_submodule(path)
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    delta = product.T if name == "gpt2" else product
    merge(model)
    added = model.get_submodule(path).weight - original.get_submodule(path).weight
    torch.testing.assert_close(added, scale * delta)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_dora_gives_each_row_the_norm_that_it_learnt(name):
    model = adapted(name, dora=True)
    take_steps(model)
    path = {"bert": "bert.pooler.dense", "gpt2": "transformer.h.0.mlp.c_fc"}[name]
    learnt = model.get_submodule(path).lora_magnitude_vector["default"].weight.detach().clone()
    merge(model)
    weight = model.get_submodule(path).weight
    norms = (weight.T if name == "gpt2" else weight).norm(dim=1)
    torch.testing.assert_close(norms, learnt)


def test_new_adapters_depend_on_the_seed_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = adapted(seed=1), adapted(seed=1), adapted(seed=2)
    torch.manual_seed(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    name = "bert.encoder.layer.0.attention.self.query.lora_A.default.weight"
    weight = first.get_parameter(name)
    assert torch.equal(weight, again.get_parameter(name))
    assert not torch.equal(weight, other.get_parameter(name))


def test_preparing_leaves_the_random_state_of_the_process_unchanged():
    model = small()
    before = torch.random.get_rng_state()
    LoRA().prepare(model, training(), seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_all_linear_layers_of_the_encoder_get_adapters_by_default():
    found = {name.partition(".lora_")[0] for name in trained(adapted()) if "lora_" in name}
    layers = [
        f"bert.encoder.layer.{number}.{part}"
        for number in range(3)
        for part in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        )
    ]
    assert found == {*layers, "bert.pooler.dense"}


def test_target_modules_are_the_ends_of_paths():
    names = trained(adapted(targetModules=["value", "attention.output.dense"]))
    found = {name.partition(".lora_")[0] for name in names if "lora_" in name}
    parts = ("attention.self.value", "attention.output.dense")
    assert found == {f"bert.encoder.layer.{n}.{part}" for n in range(3) for part in parts}


def test_frozen_layers_get_no_adapters():
    names = trained(adapted(lower_layers=2))
    assert not [name for name in names if "layer.0." in name or "layer.1." in name]
    assert [name for name in names if "layer.2." in name]


REFUSED = {
    "a name that no layer has": (
        {"targetModules": ["value", "q_proj"]},
        "UnknownTargetModule",
        r"^q_proj: no such linear layer in the encoder; it has attention\.output\.dense, "
        r"attention\.self\.key, .*output\.dense, pooler\.dense$",
        "targetModules",
    ),
    "a layer of the head": (
        {"targetModules": ["classifier"]},
        "UnknownTargetModule",
        r"\(classifier is in the head, which is trained without adapters\); it has",
        "targetModules",
    ),
    "a layer that is not linear": (
        {"targetModules": ["LayerNorm"]},
        "UnknownTargetModule",
        "^LayerNorm: no such linear layer in the encoder; it has",
        "targetModules",
    ),
    "a part of a name": (
        {"targetModules": ["alue"]},
        "UnknownTargetModule",
        "^alue: no such",
        "targetModules",
    ),
    "only frozen layers": (
        {"targetModules": ["value"], "lower_layers": 3},
        "NoTargetModule",
        r"in the 3 layers of freeze\.lowerLayers",
        "targetModules",
    ),
    "more layers than there are": (
        {"lower_layers": 4},
        "TooManyFrozenLayers",
        "lowerLayers is 4, the model has 3 layers",
        "",
    ),
    "a rank above the smaller side of a weight": (
        {"rank": 65},
        "RankTooLarge",
        r"rank is 65, the weights of encoder\.layer\.0\.attention\.self\.query are 64 x 64, .* at "
        "most 64",
        "rank",
    ),
}


@pytest.mark.survives(
    "Model",
    "adapters on modules that the model does not have, or of a rank above its weights",
    "refused with the modules that exist, or both numbers; nothing is trained",
)
@pytest.mark.parametrize("case", REFUSED)
def test_adapters_that_do_not_fit_the_model_are_refused(case):
    options, reason, message, field = REFUSED[case]
    with pytest.raises(Refused) as refused:
        adapted(**options)
    failure = refused.value.failure
    assert (failure.reason, failure.field.endswith(field)) == (reason, True)
    assert re.search(message, failure.message), failure.message


def test_the_largest_rank_has_an_effect_and_is_accepted():
    assert trained(adapted(rank=64))


def test_merged_weights_that_are_not_finite_are_refused():
    model = adapted()
    with torch.no_grad():
        layer = model.get_submodule("bert.encoder.layer.0.attention.self.query")
        for part in (layer.lora_A, layer.lora_B):
            part["default"].weight.fill_(3e38)
    with pytest.raises(
        Refused, match=r"layer\.0\.attention\.self\.query are not finite"
    ) as refused:
        merge(model)
    assert refused.value.code == ExitCode.DIVERGED
