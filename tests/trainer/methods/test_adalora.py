"""Adapters lose the directions that peft's AdaLoRA removes, and what is left is merged."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, AdaLoraModel
from trainer.architectures import ARCHITECTURES
from trainer.methods.test_lora import inputs, logits, small

from springtide_api.update.method import AdaLoRA as Options
from springtide_api.update.training import Training
from springtide_trainer.errors import Refused
from springtide_trainer.methods.adalora import AdaLoRA, RankAllocation
from springtide_trainer.methods.lora import merge

SMALL = {"rank": 2, "initialRank": 5, "alpha": 10}
EARLY = {"allocateFrom": "0.1", "allocateUntil": "0.6", "allocateEvery": 3}
TOTAL = 20
LABELS = torch.tensor([0, 1, 0, 1, 1])


def training(lower_layers: int = 0, **options: object) -> Training:
    return Training.model_validate(
        {
            "method": {"type": "AdaLoRA", "adaLora": {**SMALL, **EARLY, **options}},
            "hyperparameters": {"freeze": {"lowerLayers": lower_layers}},
        }
    )


def prepared(name: str = "bert", seed: int = 1, **options: object):
    return AdaLoRA().prepare(small(name), training(**options), seed=seed)


def allocation(model, *, total: int = TOTAL, **options: object) -> RankAllocation:
    return AdaLoRA().each_step(model, training(**options), total=total)


def optimizer_of(model) -> torch.optim.Optimizer:
    return torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-2)


def loss_of(model) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(model(**inputs()).logits, LABELS)


def take_steps(model, ranks: RankAllocation, first: int = 1, last: int = TOTAL, optimizer=None):
    optimizer = optimizer or optimizer_of(model)
    model.train()
    for step in range(first, last + 1):
        torch.manual_seed(step)
        loss = loss_of(model)
        torch.autograd.backward(loss)
        ranks.penalize()
        optimizer.step()
        ranks.observe(step, float(loss.detach()))
        optimizer.zero_grad()
    model.eval()
    return optimizer


def singular_values(model) -> dict[str, torch.Tensor]:
    return {n: w.detach().clone() for n, w in model.named_parameters() if "lora_E" in n}


def of_peft(model, **options: Any) -> AdaLoraModel:
    """The same model with peft's adapters, which begin as those of ours."""
    base = small()
    targets = [name.partition(".lora_E")[0] for name in singular_values(model)]
    config = AdaLoraConfig(
        init_r=5, target_r=2, lora_alpha=10, target_modules="|".join(targets), **options
    )
    made = AdaLoraModel(base, config, "default")
    made.model.load_state_dict(model.state_dict())
    for name, weight in made.model.named_parameters():
        weight.requires_grad_("lora_" in name or name.startswith("classifier"))
    return made


def test_each_step_is_that_of_peft():
    """With its total of 20 steps: allocation after step 2, the last one at step 12."""
    model = prepared()
    ranks = allocation(model)
    theirs = of_peft(model, total_step=TOTAL, tinit=2, tfinal=8, deltaT=3)
    ours_moves, theirs_moves = optimizer_of(model), optimizer_of(theirs.model)
    theirs.train()
    removed = []
    for step in range(1, TOTAL + 1):
        take_steps(model, ranks, step, step, ours_moves)
        torch.manual_seed(step)
        loss = theirs(**inputs(), labels=LABELS).loss
        torch.autograd.backward(loss)
        theirs_moves.step()
        theirs.update_and_allocate(step)
        theirs_moves.zero_grad()
        found, expected = singular_values(model), singular_values(theirs.model)
        removed.append(sum(int((value == 0).sum()) for value in found.values()))
        for name, value in expected.items():
            assert torch.equal(found[name] == 0, value == 0), (step, name)
            torch.testing.assert_close(found[name], value)
    for name, weight in theirs.model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weight)

    count = len(singular_values(model))
    assert [removed[step - 1] > 0 for step in (1, 2, 3, 4, 12)] == [False, False, True, False, True]
    assert {*removed[11:]} == {3 * count}
    left = {int((value != 0).sum()) for value in singular_values(model).values()}
    assert len(left) > 1  # some adapters keep more than others


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_merged_model_scores_as_the_adapted_one_and_is_a_plain_one(name):
    original, model = small(name), prepared(name)
    torch.testing.assert_close(logits(model), logits(original), rtol=0, atol=1e-5)
    take_steps(model, allocation(model))
    scores = logits(model)
    merge(model)
    assert model.state_dict().keys() == original.state_dict().keys()
    torch.testing.assert_close(logits(model), scores, rtol=0, atol=1e-5)
    assert not torch.allclose(scores, logits(original), atol=1e-3)
    before = dict(original.named_parameters())
    same = {name for name, weight in model.named_parameters() if torch.equal(weight, before[name])}
    assert any("embeddings" in each or "wte" in each or "embed_tokens" in each for each in same)


def test_the_penalty_is_the_mean_distance_from_orthonormal_vectors():
    model = prepared(targetModules=["value"], orthogonality="0.25")
    distances = []
    for name, weight in model.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            vectors = weight.detach() if ".lora_A." in name else weight.detach().T
            gram = vectors @ vectors.T
            distances.append(float((gram - torch.eye(5)).square().sum().sqrt()))
    assert len(distances) == 6
    penalty = allocation(model, orthogonality="0.25").penalty().detach()
    assert float(penalty) == pytest.approx(0.25 * sum(distances) / 6)


def test_the_penalty_is_computed_in_fp32_under_autocast():
    model = prepared()
    plain = allocation(model).penalty().detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = allocation(model).penalty().detach()
    assert (found.dtype, float(found)) == (torch.float32, float(plain))


@pytest.mark.parametrize("at", [1, 5, 12, 15])
def test_a_restored_allocation_goes_on_as_one_that_was_not_interrupted(at):
    whole = prepared()
    ranks = allocation(whole)
    moves = take_steps(whole, ranks, 1, at)
    again = prepared(seed=2)
    again.load_state_dict(whole.state_dict())
    theirs = optimizer_of(again)
    theirs.load_state_dict(copy.deepcopy(moves.state_dict()))
    restored = allocation(again)
    restored.load_state_dict({name: _copy(value) for name, value in ranks.state_dict().items()})

    take_steps(whole, ranks, at + 1, TOTAL, moves)
    take_steps(again, restored, at + 1, TOTAL, theirs)

    for name, weight in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("total", [1, 2, 3])
def test_a_run_of_few_steps_ends_with_the_budget_too(total):
    model = prepared()
    take_steps(model, allocation(model, total=total, allocateUntil="1"), 1, total)
    left = sum(int((value != 0).sum()) for value in singular_values(model).values())
    assert left == 2 * len(singular_values(model))


def test_directions_of_a_layer_that_no_loss_depends_on_are_removed():
    model = prepared()
    ranks, optimizer = allocation(model), optimizer_of(model)
    unused = "bert.pooler.dense.lora_"
    for step in range(1, TOTAL + 1):
        states = model.bert(**inputs()).last_hidden_state.mean(1)
        loss = torch.nn.functional.cross_entropy(model.classifier(states), LABELS)
        torch.autograd.backward(loss)
        optimizer.step()
        ranks.observe(step, 0.0)
        optimizer.zero_grad()
    left = {name: int((value != 0).sum()) for name, value in singular_values(model).items()}
    assert [count for name, count in left.items() if name.startswith(unused)] == [0]
    assert sum(left.values()) == 2 * len(left)  # the other adapters got its part


def test_deterministic_kernels_are_asked_for_again_after_an_allocation():
    model = prepared()
    torch.use_deterministic_algorithms(mode=True)
    try:
        take_steps(model, allocation(model), 1, 4)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(mode=False)


@pytest.mark.parametrize(
    ("options", "reason", "message", "field"),
    [
        ({"targetModules": ["q_proj"]}, "UnknownTargetModule", "q_proj: no such", "targetModules"),
        (
            {"targetModules": ["value"], "lower_layers": 3},
            "NoTargetModule",
            "in the 3 layers",
            "targetModules",
        ),
        ({"initialRank": 65}, "RankTooLarge", "initialRank is 65, the weights of", "initialRank"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(options, reason, message, field):
    with pytest.raises(Refused, match=message) as refused:
        prepared(**options)
    failure = refused.value.failure
    assert (failure.reason, failure.field) == (reason, f"spec.training.method.adaLora.{field}")


def test_the_defaults_scale_as_those_of_lora():
    options = Options()
    assert options.alpha / options.initial_rank == 16 / 8
