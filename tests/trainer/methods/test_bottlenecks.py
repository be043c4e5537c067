"""Bottlenecks move, the base does not, and only our loader finds the model with them."""

from __future__ import annotations

import copy

import pytest
import torch
from trainer.architectures import ARCHITECTURES
from trainer.methods.test_lora import logits, small, take_steps, trained
from transformers import AutoModelForSequenceClassification

from springtide_api.update.training import Training
from springtide_trainer.artifact import saving
from springtide_trainer.errors import Refused
from springtide_trainer.methods.bottlenecks import Adapter
from springtide_trainer.methods.table import METHODS
from springtide_trainer.optimise.export import export
from springtide_trainer.tasks import sequence_head
from springtide_trainer.tasks.bottleneck import bottlenecks


def training(lower_layers: int = 0, **options: object) -> Training:
    return Training.model_validate(
        {
            "method": {"type": "Adapter", "adapter": {"width": 8, **options}},
            "hyperparameters": {"freeze": {"lowerLayers": lower_layers}},
        }
    )


def prepared(model=None, seed: int = 1, **options: object):
    return Adapter().prepare(model or small(), training(**options), seed=seed)


LAST = {
    "bert": "bert.encoder.layer.{}.output.dense",
    "roberta": "roberta.encoder.layer.{}.output.dense",
    "distilbert": "distilbert.transformer.layer.{}.ffn.lin2",
    "deberta-v2": "deberta.encoder.layer.{}.output.dense",
    "modernbert": "model.layers.{}.mlp.Wo",
    "gpt2": "transformer.h.{}.mlp.c_proj",
    "llama": "model.layers.{}.mlp.down_proj",
}
"""The last linear layer of the feed-forward network."""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_layer_gets_one_that_adds_nothing_before_the_first_step(name, tmp_path):
    original, model = small(name), prepared(small(name))
    count = original.config.num_hidden_layers
    assert {*bottlenecks(model)} == {LAST[name].format(number) for number in range(count)}
    assert torch.equal(logits(model), logits(original))
    prefix = f"{model.base_model_prefix}."
    assert all(".bottleneck." in each for each in trained(model) if each.startswith(prefix))
    head = {each for each, _ in original.named_parameters() if not each.startswith(prefix)}
    assert {each for each in trained(model) if not each.startswith(prefix)} == head

    losses = take_steps(model)

    assert losses[-1] < losses[0]
    before = dict(original.named_parameters())
    moving = trained(model)
    for each, weight in model.named_parameters():
        if each not in moving:
            assert torch.equal(weight, before[each]), each
    scores = logits(model)
    assert not torch.allclose(scores, logits(original), atol=1e-3)

    saving.save_model(model, tmp_path)
    again = sequence_head.load(tmp_path)
    assert torch.equal(logits(again), scores)
    assert again.state_dict().keys() == model.state_dict().keys()


def test_one_adds_what_passes_through_its_units():
    """Houlsby et al. 2019, figure 2, with the skip connection inside."""
    model = prepared()
    take_steps(model)
    path = "bert.encoder.layer.1.output.dense"
    layer, held = model.get_submodule(path), bottlenecks(model)[path]
    given = torch.randn(3, 128)
    with torch.no_grad():
        plain = given @ layer.weight.T + layer.bias
        units = torch.nn.functional.gelu(plain @ held.down.weight.T + held.down.bias)
        expected = plain + units @ held.up.weight.T + held.up.bias
        torch.testing.assert_close(layer(given), expected)
    assert held.down.weight.shape == (8, 64)


@pytest.mark.survives(
    "Model",
    "plain transformers loads a model with bottleneck adapters, as a server of one's own would",
    "it finds no weights and fails, instead of answering without the adapters",
)
def test_plain_transformers_refuses_the_folder(tmp_path):
    model = prepared()
    saving.save_model(model, tmp_path)
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path, use_safetensors=True)


def test_equal_models_give_equal_files(tmp_path):
    for folder in ("one", "two"):
        saving.save_model(prepared(), tmp_path / folder)
    one, two = (sorted((tmp_path / folder).iterdir()) for folder in ("one", "two"))
    assert [path.name for path in one] == [path.name for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert {"bottlenecks.json", "bottlenecks.safetensors", "model.adapted.safetensors"} < {
        path.name for path in one
    }
    assert saving.tokenizer_files(tmp_path / "one") == []


def test_the_next_generation_goes_on_training_them(tmp_path):
    first = prepared()
    take_steps(first)
    saving.save_model(first, tmp_path)
    second = prepared(sequence_head.load(tmp_path), seed=2)
    assert torch.equal(logits(second), logits(first))
    assert trained(second) == trained(first)


def test_new_targets_get_new_ones_and_others_stay_as_they_are(tmp_path):
    first = prepared(targetModules=["output.dense"])
    assert len(bottlenecks(first)) == 6  # also behind attention.output.dense, as Houlsby et al.
    take_steps(first)
    saving.save_model(first, tmp_path)
    second = prepared(sequence_head.load(tmp_path), targetModules=["value", "intermediate.dense"])
    assert torch.equal(logits(second), logits(first))
    assert len(bottlenecks(second)) == 12
    ends = {each.partition(".bottleneck")[0] for each in trained(second) if "bottleneck" in each}
    assert {end.rpartition(".layer.")[2][2:] for end in ends} == {
        "attention.self.value",
        "intermediate.dense",
    }


def test_layers_that_are_frozen_get_none_and_keep_those_that_they_have(tmp_path):
    assert len(bottlenecks(prepared(lower_layers=2))) == 1
    first = prepared()
    saving.save_model(first, tmp_path)
    second = prepared(sequence_head.load(tmp_path), lower_layers=2)
    assert len(bottlenecks(second)) == 3
    moving = {name.partition(".bottleneck")[0] for name in trained(second) if "bottleneck" in name}
    assert moving == {"bert.encoder.layer.2.output.dense"}


def test_a_full_update_trains_and_keeps_them(tmp_path):
    saving.save_model(prepared(), tmp_path / "first")
    model = METHODS["Full"].prepare(
        sequence_head.load(tmp_path / "first"), Training.model_validate({}), seed=1
    )
    take_steps(model)
    METHODS["Full"].export(model, tmp_path / "second")
    assert torch.equal(logits(sequence_head.load(tmp_path / "second")), logits(model))


def test_new_ones_depend_on_the_seed_alone():
    first, again, other = (small() for _ in range(3))
    before = torch.random.get_rng_state()
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        prepared(model, seed=seed)
    assert torch.equal(torch.random.get_rng_state(), before)
    name = "bert.encoder.layer.0.output.dense.bottleneck.down.weight"
    assert torch.equal(first.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))


def test_a_copy_of_the_model_has_bottlenecks_of_its_own():
    model = prepared()
    take_steps(model)
    other = copy.deepcopy(model)
    take_steps(other)
    assert not torch.allclose(logits(model), logits(other), atol=1e-3)


def test_an_optimized_form_has_them(tmp_path):
    """The export compares its logits with those of the model."""
    model = prepared()
    take_steps(model)
    export(model, ["input_ids"], tmp_path / "model.onnx", max_length=16)
    plain = small()
    assert not torch.allclose(logits(plain), logits(model), atol=1e-3)
    assert (tmp_path / "model.onnx").stat().st_size > 0


REFUSED = {
    "a name that no layer has": (
        {"targetModules": ["q_proj"]},
        "UnknownTargetModule",
        "q_proj: no such linear layer",
        "targetModules",
    ),
    "only frozen layers": (
        {"lower_layers": 3},
        "NoTargetModule",
        "no layer that is trained ends with",
        "targetModules",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_do_not_fit_the_model_are_refused(case):
    options, reason, message, field = REFUSED[case]
    with pytest.raises(Refused, match=message) as refused:
        prepared(**options)
    failure = refused.value.failure
    assert (failure.reason, failure.field) == (reason, f"spec.training.method.adapter.{field}")


@pytest.mark.survives(
    "Model",
    "bottleneck adapters of another width than the live model's",
    "refused before the first step with both widths",
)
def test_another_width_than_the_live_models_is_refused():
    with pytest.raises(Refused, match=r"width is 4, and the adapters of the live model.* have 8"):
        prepared(prepared(), width=4)
