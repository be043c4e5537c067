"""Prompts and prefixes: as peft computes them, trained alone, and found by our loader alone."""

from __future__ import annotations

import copy
import itertools
import warnings

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model
from trainer.architectures import ARCHITECTURES, SMALL
from trainer.methods.test_lora import inputs, logits, small, take_steps, trained
from transformers import AutoModelForSequenceClassification, Gemma2Config

from springtide_api.update.training import Training
from springtide_trainer.artifact import saving
from springtide_trainer.artifact.length_limit import check_max_length
from springtide_trainer.errors import Refused
from springtide_trainer.methods.table import METHODS
from springtide_trainer.optimise.export import export
from springtide_trainer.tasks import sequence_head
from springtide_trainer.tasks.prefix import prefixes
from springtide_trainer.tasks.prompt import prompt_of

BLOCKS = {"PromptTuning": "promptTuning", "PrefixTuning": "prefixTuning"}
FILES = {"PromptTuning": "prompt", "PrefixTuning": "prefixes"}
TOKENS = 5
OWN_ATTENTION = "deberta-v2"
"""The architecture that computes attention itself."""
WORKING = [
    (method, name)
    for method in BLOCKS
    for name in ARCHITECTURES
    if (method, name) != ("PrefixTuning", OWN_ATTENTION)
]
DECODERS = ("gpt2", "llama")
STAYING = {"Adapter", *BLOCKS}
"""Methods whose parameters become a part of the model."""
both = pytest.mark.parametrize("method", BLOCKS)


def of_peft(model, config):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        return get_peft_model(model, config).eval()


def training(method: str, tokens: int = TOKENS, lower_layers: int = 0) -> Training:
    return Training.model_validate(
        {
            "method": {"type": method, BLOCKS[method]: {"tokens": tokens}},
            "hyperparameters": {"freeze": {"lowerLayers": lower_layers}},
        }
    )


def prepared(method: str, model=None, seed: int = 1, **options: int):
    return METHODS[method].prepare(model or small(), training(method, **options), seed=seed)


def added(model) -> dict[str, torch.Tensor]:
    """The parameters of prompt or prefixes."""
    return {
        name: weight
        for name, weight in model.named_parameters()
        if ".prompt." in name or ".prefix." in name
    }


@pytest.mark.parametrize(("method", "name"), WORKING)
def test_they_and_the_head_are_trained_beside_fixed_weights(method, name, tmp_path):
    original, model = small(name), prepared(method, small(name))
    assert added(model)
    prefix = f"{model.base_model_prefix}."
    head = {each for each, _ in original.named_parameters() if not each.startswith(prefix)}
    assert trained(model) == head | added(model).keys()

    first = copy.deepcopy(model)
    losses = take_steps(model)

    assert losses[-1] < losses[0]
    before = dict(first.named_parameters())
    for each, weight in model.named_parameters():
        assert torch.equal(weight, before[each]) == (each not in trained(model)), each
    scores = logits(model)

    saving.save_model(model, tmp_path)
    again = sequence_head.load(tmp_path)
    assert torch.equal(logits(again), scores)
    assert again.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(("method", "name"), WORKING)
def test_padding_changes_no_score(method, name):
    model = prepared(method, small(name))
    for row, length in enumerate(inputs()["attention_mask"].sum(dim=1)):
        one = {each: values[row : row + 1, :length] for each, values in inputs().items()}
        with torch.no_grad():
            alone = model(**one).logits
        torch.testing.assert_close(alone[0], logits(model)[row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_a_prompt_of_a_decoder_is_that_of_peft(name):
    model = prepared("PromptTuning", small(name))
    config = PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=TOKENS)
    theirs = of_peft(small(name), config)
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(prompt_of(model).vectors)
        ids = inputs()["input_ids"][:1]  # peft's head reads the last position, also of padding
        torch.testing.assert_close(model(input_ids=ids).logits, theirs(input_ids=ids).logits)


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert"])
def test_a_prompt_of_an_encoder_is_that_of_peft_behind_the_first_token(name):
    """Peft puts its vectors before a row: here after the embedding of its first token."""
    model = prepared("PromptTuning", small(name))
    config = PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=TOKENS + 1)
    plain = small(name)
    theirs = of_peft(small(name), config)
    ids = inputs()["input_ids"][:1]
    with torch.no_grad():
        first = plain.get_input_embeddings()(ids[0, :1])
        vectors = torch.cat([first, prompt_of(model).vectors])
        theirs.prompt_encoder["default"].embedding.weight.copy_(vectors)
        rest = {"input_ids": ids[:, 1:], "attention_mask": torch.ones_like(ids[:, 1:])}
        torch.testing.assert_close(model(input_ids=ids).logits, theirs(**rest).logits)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_prefixes_are_those_of_peft_but_take_no_position(name):
    """Peft adds the length of the prefix to the positions of a row; they are given without it."""
    model = prepared("PrefixTuning", small(name))
    config = PrefixTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=TOKENS)
    theirs = of_peft(small(name), config)
    found = list(prefixes(model).values())
    ids = inputs()["input_ids"][:2]
    mask = inputs()["attention_mask"][:2]
    positions = torch.arange(ids.shape[1]).expand(2, -1) - TOKENS
    with torch.no_grad():
        # [layers * 2, heads, tokens, size] to [tokens, layers * 2 * heads * size]
        pairs = torch.stack([part for each in found for part in (each.keys, each.values)])
        table = pairs.permute(2, 0, 1, 3).reshape(TOKENS, -1)
        theirs.prompt_encoder["default"].embedding.weight.copy_(table)
        given = {"input_ids": ids, "attention_mask": mask}
        expected = theirs(**given, position_ids=positions).logits
        torch.testing.assert_close(model(**given).logits, expected)


def test_the_head_of_an_encoder_still_reads_the_first_token():
    model = prepared("PromptTuning")
    read = []
    model.bert.pooler.register_forward_pre_hook(lambda _, given: read.append(given[0].shape))
    lengths = []
    model.bert.embeddings.word_embeddings.register_forward_hook(
        lambda _, given, made: lengths.append(made)
    )
    ids = inputs()["input_ids"][:1]
    with torch.no_grad():
        model(input_ids=ids)
        own = model.bert.embeddings.word_embeddings.weight[ids[0]]
    (made,) = lengths
    assert read == [(1, 12 + TOKENS, 64)]
    assert torch.equal(made[0, :1], own[:1])
    assert torch.equal(made[0, 1 : 1 + TOKENS], prompt_of(model).vectors)
    assert torch.equal(made[0, 1 + TOKENS :], own[1:])


@pytest.mark.parametrize("name", DECODERS)
def test_padding_on_the_left_of_a_decoder_is_before_its_prompt(name):
    model = prepared("PromptTuning", small(name))
    read = []
    model.get_input_embeddings().register_forward_hook(lambda _, given, made: read.append(made))
    ids = torch.tensor([[0, 0, 7, 8]])
    with torch.no_grad():
        model(input_ids=ids, attention_mask=torch.tensor([[0, 0, 1, 1]]))
    assert torch.equal(read[0][0, 2 : 2 + TOKENS], prompt_of(model).vectors)


@both
@pytest.mark.survives(
    "Model",
    "plain transformers loads a model with a prompt or prefixes, as a server of one's own would",
    "it finds no weights and fails, instead of answering without them",
)
def test_plain_transformers_refuses_the_folder(method, tmp_path):
    saving.save_model(prepared(method), tmp_path)
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path, use_safetensors=True)


@both
def test_equal_models_give_equal_files(method, tmp_path):
    for folder in ("one", "two"):
        saving.save_model(prepared(method), tmp_path / folder)
    one, two = (sorted((tmp_path / folder).iterdir()) for folder in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert [path.name for path in one] == [
        "config.json",
        "model.adapted.safetensors",
        *(f"{FILES[method]}.{suffix}" for suffix in ("json", "safetensors")),
    ]
    assert saving.tokenizer_files(tmp_path / "one") == []
    plain = small()
    saving.save_model(plain, tmp_path / "plain")
    config = (tmp_path / "plain" / "config.json").read_bytes()
    assert (tmp_path / "one" / "config.json").read_bytes() == config


@both
def test_the_next_generation_goes_on_training_them(method, tmp_path):
    first = prepared(method)
    take_steps(first)
    saving.save_model(first, tmp_path)
    second = prepared(method, sequence_head.load(tmp_path), seed=2)
    assert torch.equal(logits(second), logits(first))
    assert trained(second) == trained(first)


@both
def test_a_full_update_trains_and_keeps_them(method, tmp_path):
    saving.save_model(prepared(method), tmp_path / "first")
    model = METHODS["Full"].prepare(
        sequence_head.load(tmp_path / "first"), Training.model_validate({}), seed=1
    )
    before = {name: weight.detach().clone() for name, weight in added(model).items()}
    take_steps(model)
    assert not any(torch.equal(weight, before[name]) for name, weight in added(model).items())
    METHODS["Full"].export(model, tmp_path / "second")
    assert torch.equal(logits(sequence_head.load(tmp_path / "second")), logits(model))


@both
def test_new_ones_depend_on_the_seed_alone(method):
    models = [small() for _ in range(3)]
    before = torch.random.get_rng_state()
    pairs = zip(models, (1, 1, 2), strict=True)
    first, again, other = (added(prepared(method, model, seed=seed)) for model, seed in pairs)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not any(torch.equal(weight, other[name]) for name, weight in first.items())


def test_a_new_prompt_has_the_embeddings_of_words():
    model = prepared("PromptTuning")
    words = model.get_input_embeddings().weight
    assert all(bool((words == each).all(dim=1).any()) for each in prompt_of(model).vectors)


@pytest.mark.parametrize("name", DECODERS)
def test_prefixes_of_a_decoder_are_read_as_a_cache_of_keys_and_values(name):
    """A cache of words whose positions are those of the row, too."""
    model, plain = prepared("PrefixTuning", small(name)), small(name)
    words = torch.randint(99, (1, TOKENS), generator=torch.Generator().manual_seed(1))
    ids = inputs()["input_ids"][:1]
    with torch.no_grad():
        cache = plain.base_model(input_ids=words, use_cache=True).past_key_values
        for held, layer in zip(prefixes(model).values(), cache.layers, strict=True):
            held.keys.copy_(layer.keys[0])
            held.values.copy_(layer.values[0])
        positions = torch.arange(ids.shape[1])[None]
        expected = plain(input_ids=ids, past_key_values=cache, position_ids=positions).logits
        torch.testing.assert_close(model(input_ids=ids).logits, expected)


def test_new_prefixes_are_small():
    """So are their logits, and the share that attention gives them beside words."""
    found = prefixes(prepared("PrefixTuning"))
    parts = torch.stack([part for each in found.values() for part in (each.keys, each.values)])
    assert float(parts.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert abs(float(parts.detach().mean())) < 0.002


@both
def test_a_copy_of_the_model_has_its_own(method):
    model = prepared(method)
    take_steps(model)
    other = copy.deepcopy(model)
    take_steps(other)
    assert not torch.allclose(logits(model), logits(other), atol=1e-3)


@both
def test_an_optimized_form_has_them(method, tmp_path):
    """The export compares its logits with those of the model."""
    model = prepared(method)
    take_steps(model)
    export(model, ["input_ids"], tmp_path / "model.onnx", max_length=16)
    assert (tmp_path / "model.onnx").stat().st_size > 0


@pytest.mark.survives(
    "Model",
    "a prompt or prefixes of another length than the live model's",
    "refused before the first step with both lengths",
)
@both
def test_another_length_than_the_live_models_is_refused(method):
    with pytest.raises(Refused, match=r"tokens is 4, .* of the live model.* has 5") as refused:
        prepared(method, prepared(method), tokens=4)
    failure = refused.value.failure
    assert failure.reason == "PromptMismatch"
    assert failure.field == f"spec.training.method.{BLOCKS[method]}.tokens"


def test_layers_that_are_frozen_get_no_prefix_and_keep_one_that_they_have(tmp_path):
    assert len(prefixes(prepared("PrefixTuning", lower_layers=2))) == 1
    first = prepared("PrefixTuning")
    saving.save_model(first, tmp_path)
    second = prepared("PrefixTuning", sequence_head.load(tmp_path), lower_layers=2)
    assert len(prefixes(second)) == 3
    moving = {name.partition(".prefix.")[0] for name in trained(second) & added(second).keys()}
    assert moving == {"bert.encoder.layer.2.attention.self"}


def test_all_layers_frozen_leaves_no_place_for_prefixes():
    with pytest.raises(Refused, match="all attention layers are in the 3 layers of freeze"):
        prepared("PrefixTuning", lower_layers=3)


def test_prefixes_of_a_model_that_computes_attention_itself_are_refused():
    with pytest.raises(Refused, match="'deberta-v2' computes attention itself") as refused:
        prepared("PrefixTuning", small(OWN_ATTENTION))
    assert refused.value.failure.reason == "UnsupportedModel"


def test_prefixes_of_a_model_whose_attention_sdpa_does_not_compute_are_refused():
    """PyTorch's function leaves out the caps of Gemma 2, or sinks of others, without an error."""
    config = Gemma2Config(**SMALL, head_dim=32, num_key_value_heads=2)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with pytest.raises(Refused, match="'gemma2' computes attention itself"):
        prepared("PrefixTuning", model)
    assert prompt_of(prepared("PromptTuning", model)) is not None


def test_a_prompt_takes_positions_and_a_prefix_takes_none():
    check_max_length(prepared("PrefixTuning"), 512)
    model = prepared("PromptTuning")
    check_max_length(model, 507)
    with pytest.raises(Refused, match=r"maxLength is 508 and the prompt has 5 .* the 512 pos"):
        check_max_length(model, 508)
    row = {"input_ids": torch.full((1, 507), 7)}
    with torch.no_grad():
        assert bool(model(**row).logits.isfinite().all())


OTHERS = {"LoRA": "lora", "AdaLoRA": "adaLora", "Adapter": "adapter", **BLOCKS}


@pytest.mark.parametrize(
    ("held", "wanted"), [pair for pair in itertools.permutations(OTHERS, 2) if pair[0] in STAYING]
)
def test_parameters_of_another_method_beside_them_are_refused(held, wanted):
    options = {
        name: Training.model_validate({"method": {"type": name, OTHERS[name]: {}}})
        for name in (held, wanted)
    }
    model = METHODS[held].prepare(small(), options[held], seed=1)
    with pytest.raises(Refused, match=rf"set training\.method\.type to {held} or Full"):
        METHODS[wanted].prepare(model, options[wanted], seed=1)
