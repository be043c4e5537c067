"""An adapter as files: peft reads them, and a model with them is the one that wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from trainer.architectures import ARCHITECTURES
from trainer.methods.test_lora import VARIANTS, adapted, inputs, logits, small, take_steps, training
from transformers import AutoModel

from springtide_api.contract import AdapterInput, ArtifactRef
from springtide_trainer.artifact import manifest, saving
from springtide_trainer.errors import Refused
from springtide_trainer.methods import adapter
from springtide_trainer.methods.adapter import Continued
from springtide_trainer.methods.lora import LoRA, merge
from springtide_trainer.storage import Home


def base_of(home: Home, name: str = "bert"):
    """Commit the model whose weights the adapters of these tests belong to."""
    folder = home.path / "tmp" / f"base-{name}"
    saving.save_model(small(name), folder)
    return manifest.commit(folder, home)


def written(home: Home, name: str = "bert", **options: object):
    """Train an adapter for some steps and commit it; return it, its base and the model."""
    base, model = base_of(home, name), adapted(name, **options)
    take_steps(model)
    left = adapter.write(model, home.path / "tmp" / "left", base=base.digest, continued=False)
    return left.commit(home), base, model


def given(left, base) -> AdapterInput:
    where = ArtifactRef(uri=base.uri, digest=base.digest)
    return AdapterInput(uri=left.uri, digest=left.digest, base=where)


def continued(merged, left, base, **options: object):
    """Continue an adapter, beginning with the merged model as the parent's artifact has it."""
    lower = int(str(options.pop("lower_layers", 0)))
    chain = Continued.of(given(left, base))
    return LoRA().prepare(merged, training(lower, **options), seed=9, continued=chain)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "models" / "shop" / "ranker")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_merged_model_continues_with_the_base_the_adapter_and_its_own_head(home, name, variant):
    left, base, model = written(home, name, **VARIANTS[variant])
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    merge(model)
    again = continued(model, left, base, **VARIANTS[variant])
    found = again.state_dict()

    assert found.keys() == before.keys()
    assert [key for key in before if not torch.equal(found[key], before[key])] == []
    moving = {key for key, weight in again.named_parameters() if weight.requires_grad}
    assert any("lora_B" in key for key in moving)
    assert not any("base_layer" in key for key in moving)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks it
@pytest.mark.parametrize("variant", ["plain", "DoRA"])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_peft_loads_the_adapter_beside_the_encoder_of_its_base(home, name, variant):
    left, base, model = written(home, name, **VARIANTS[variant])
    encoder = AutoModel.from_pretrained(Path(base.uri.removeprefix("file://")))
    loaded = PeftModel.from_pretrained(encoder, left.uri.removeprefix("file://")).eval()
    with torch.no_grad():
        expected = model.base_model(**inputs()).last_hidden_state
        found = loaded(**inputs()).last_hidden_state
        plain = small(name).base_model(**inputs()).last_hidden_state

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3)


def test_equal_adapters_have_equal_digests_and_another_base_is_another_adapter(home):
    left, base, model = written(home)
    merged = small()
    again = continued(merged, left, base)
    folder = home.path / "tmp"
    same = adapter.write(again, folder / "same", base=base.digest, continued=True).commit(home)
    other = adapter.write(again, folder / "other", base=left.digest, continued=True).commit(home)

    assert (same.digest, same.continued, left.continued) == (left.digest, True, False)
    assert other.digest != left.digest
    assert logits(again).shape == logits(model).shape


def test_continuing_leaves_the_random_state_of_the_process_unchanged(home):
    left, base, model = written(home, "roberta")
    merge(model)
    before = torch.random.get_rng_state()
    continued(model, left, base)
    assert torch.equal(torch.random.get_rng_state(), before)


OTHER = {
    "another rank": ({"rank": 5}, "r is 4, the recipe has 5"),
    "another alpha": ({"alpha": 7}, "lora_alpha is 16, the recipe has 7"),
    "rsLoRA": ({"rsLora": True}, "use_rslora is False, the recipe has True"),
    "DoRA": ({"dora": True}, "use_dora is False, the recipe has True"),
    "other modules": ({"targetModules": ["value"]}, "target_modules is "),
    "frozen layers": ({"lower_layers": 1}, "target_modules is "),
}


@pytest.mark.survives(
    "Model",
    "an adapter of other weights, of other options, or with other tensors",
    "refused before the first step with both values; `Fresh` starts a new one",
)
@pytest.mark.parametrize("case", OTHER)
def test_an_adapter_with_other_options_is_refused(home, case):
    options, message = OTHER[case]
    left, base, model = written(home)
    merge(model)
    with pytest.raises(Refused) as refused:
        continued(model, left, base, **options)
    assert refused.value.failure.reason == "AdapterMismatch"
    assert message in refused.value.failure.message
    assert "continuation to Fresh, without rebaseEvery, until" in refused.value.failure.message


def test_another_dropout_is_no_other_adapter(home):
    left, base, model = written(home)
    merge(model)
    assert continued(model, left, base, dropout="0.5")


@pytest.mark.survives(
    "Model",
    "an adapter whose base digest differs from the weights it is given with",
    "refused before the first step with both digests",
)
def test_an_adapter_of_another_base_is_refused_with_both_digests(home):
    left, base, _ = written(home)
    other = base_of(home, "roberta")
    with pytest.raises(Refused) as refused:
        Continued.of(given(left, other))
    assert refused.value.failure.reason == "AdapterMismatch"
    assert f"belongs to the weights {base.digest}, not to {other.digest}" in str(
        refused.value.failure.message
    )
    assert refused.value.failure.field == "spec.training.method.lora.continuation"


def rewritten(home: Home, left, change) -> adapter.CommittedAdapter:
    """Commit an adapter again after a change of its files."""
    folder = home.path / "tmp" / "changed"
    source = Path(left.uri.removeprefix("file://"))
    folder.mkdir(parents=True)
    for path in source.iterdir():
        if path.name != manifest.MANIFEST:
            (folder / path.name).write_bytes(path.read_bytes())
    change(folder)
    return adapter.Written(folder, left.base, continued=False).commit(home)


def without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / adapter.WEIGHTS)
    tensors.pop(min(tensors))
    save_file(tensors, folder / adapter.WEIGHTS)


def of_another_shape(folder: Path) -> None:
    tensors = load_file(folder / adapter.WEIGHTS)
    name = min(tensors)
    save_file({**tensors, name: tensors[name][:, :1].contiguous()}, folder / adapter.WEIGHTS)


@pytest.mark.parametrize("change", [without_a_tensor, of_another_shape])
def test_weights_that_do_not_fit_the_settings_are_refused(home, change):
    left, base, model = written(home)
    merge(model)
    with pytest.raises(Refused, match="its weights are not those of its settings"):
        continued(model, rewritten(home, left, change), base)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors"])
def test_weights_that_cannot_be_read_are_refused(home, content):
    left, base, model = written(home)
    merge(model)

    def change(folder: Path) -> None:
        (folder / adapter.WEIGHTS).unlink()
        if content is not None:
            (folder / adapter.WEIGHTS).write_bytes(content)

    with pytest.raises(Refused, match=r"adapter_model\.safetensors cannot be read"):
        continued(model, rewritten(home, left, change), base)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_settings_that_cannot_be_read_are_refused(home, text):
    left, base, _ = written(home)
    broken = rewritten(home, left, lambda folder: (folder / adapter.CONFIG).write_text(text))
    with pytest.raises(Refused) as refused:
        Continued.of(given(broken, base))
    assert refused.value.failure.reason == "AdapterMismatch"


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("damaged", ["adapter", "base"])
def test_a_damaged_or_missing_folder_is_refused_with_the_way_to_go_on(home, damaged, missing):
    left, base, _ = written(home)
    folder = Path((left if damaged == "adapter" else base).uri.removeprefix("file://"))
    weights = next(folder.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    if missing:
        folder.rename(folder.with_name("elsewhere"))
    what = "is not a folder" if missing else "does not match its manifest"
    wanted = rf"{what}.*restore the folder from a copy, or set .* Fresh, without rebaseEvery"
    with pytest.raises(Refused, match=wanted) as refused:
        Continued.of(given(left, base))
    assert refused.value.failure.reason == "DigestMismatch"


def test_the_settings_name_no_version_and_no_path(home):
    left, base, _ = written(home)
    text = (Path(left.uri.removeprefix("file://")) / adapter.CONFIG).read_text()
    settings = json.loads(text)
    assert settings["base_model_name_or_path"] == base.digest
    assert settings["peft_type"] == "LORA"
    assert "version" not in text
    assert str(home.path) not in text
