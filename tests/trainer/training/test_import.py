"""Importing Hugging Face encoders; models that could run code are refused."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from springtide_trainer.artifact.manifest import verify
from springtide_trainer.artifact.models import load, load_tokenizer
from springtide_trainer.artifact.saving import copy_tokenizer
from springtide_trainer.errors import Refused
from springtide_trainer.stages import import_model
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from pathlib import Path


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_without_a_head_gets_a_seeded_deterministic_one(
    published, import_folder, tmp_path
):
    first = import_folder(published)
    elsewhere = shutil.copytree(published, tmp_path / "another" / "place")
    second = import_folder(elsewhere)
    assert first.head == "Seeded"
    assert first.digest == second.digest
    verify(local_path(first.uri), first.digest)


def test_the_encoder_is_imported_bit_equal(published, import_folder):
    source = load_file(published / "model.safetensors")
    made = load_file(local_path(import_folder(published).uri) / "model.safetensors")
    for name, weight in source.items():
        assert torch.equal(made[f"bert.{name}"], weight)


def test_scores_of_an_artifact_are_probability_distributions(published, import_folder):
    made = import_folder(published)
    scorer = load(local_path(made.uri), made.digest)
    scores = scorer.predict([("good shoe", None), ("bad", None), ("", None)])
    assert scores.shape == (3, 2)
    assert scores.dtype == "float32"
    assert scores.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert scorer.predict([]).shape == (0, 2)


def test_a_score_does_not_depend_on_other_rows_of_the_batch(published, import_folder):
    made = import_folder(published)
    scorer = load(local_path(made.uri), made.digest)
    texts = [("good", None), ("bad lamp for the red dress", None), ("a very fine shoe", None)]
    together = scorer.predict(texts)
    for text, row in zip(texts, together, strict=True):
        assert scorer.predict([text])[0] == pytest.approx(row, abs=1e-6)


def test_a_trained_head_is_kept_with_its_rows_in_the_order_of_the_labels(
    publish_model, import_folder, tmp_path
):
    source = publish_model(tmp_path / "trained", ["yes", "no"])
    made = import_folder(source, ["no", "yes"])
    before = load_file(source / "model.safetensors")["classifier.weight"]
    after = load_file(local_path(made.uri) / "model.safetensors")["classifier.weight"]
    assert made.head == "Trained"
    assert torch.equal(after, before.flip(0))
    config = json.loads((local_path(made.uri) / "config.json").read_text())
    assert config["id2label"] == {"0": "no", "1": "yes"}


def test_a_trained_head_with_other_names_is_refused_with_both_lists(
    publish_model, import_folder, tmp_path
):
    source = publish_model(tmp_path / "trained", ["LABEL_0", "LABEL_1"])
    with pytest.raises(Refused, match=r"\['LABEL_0', 'LABEL_1'\].*\['no', 'yes'\]") as refused:
        import_folder(source)
    assert refused.value.failure.field == "spec.model.labels"


def test_a_trained_head_of_another_size_is_replaced_by_a_seeded_one(
    publish_model, import_folder, tmp_path
):
    made = import_folder(publish_model(tmp_path / "trained", ["a", "b", "c"]))
    assert made.head == "Seeded"


def test_an_expected_digest_is_verified(published, import_folder):
    digest = import_folder(published).digest
    assert import_folder(published, digest=digest).digest == digest
    with pytest.raises(Refused, match=digest) as refused:
        import_folder(published, digest="sha256:" + "0" * 64)
    assert refused.value.failure.reason == "DigestMismatch"


@pytest.mark.parametrize(
    "template",
    ["{{ messages }}", {"default": "{{ messages }}", "tool_use": "{{ tools }}"}],
    ids=["one", "several"],
)
def test_the_template_of_a_chat_model_is_kept_in_the_settings_of_its_tokenizer(
    published, import_folder, tmp_path, template
):
    words = load_tokenizer(published)
    words.chat_template = template
    words.save_pretrained(published)
    assert (published / "chat_template.jinja").is_file()

    made = import_folder(published)

    folder = local_path(made.uri)
    verify(folder, made.digest)
    copy_tokenizer(folder, tmp_path / "child")
    assert load_tokenizer(tmp_path / "child").chat_template == template


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def remote_code(folder: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModel": "modeling.Mine"})


def remote_code_of_the_tokenizer(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": "mine.Mine"})


def link_to_outside(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")


def oversized_header(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(b"\xff" * 7 + b"\x7f" + content[8:])


def remote_code_deep_inside(folder: Path) -> None:
    edit(folder / "config.json", text_config={"layers": [{"auto_map": {}}]})


def oversized_settings(folder: Path) -> None:
    (folder / "config.json").write_text(" " * (2 << 20))


@pytest.mark.survives(
    "Model",
    "a pickle as the initial model",
    "refused before it is opened, with the file and what to convert it to",
)
@pytest.mark.survives(
    "Model", "a model with remote code", "refused before anything is loaded, with the file"
)
@pytest.mark.survives(
    "Model",
    "a safetensors file whose header claims 8 EiB, settings of megabytes",
    "refused by their sizes before they are read",
)
@pytest.mark.survives(
    "Model", "a symlink out of the model's folder", "refused with the link's path; not followed"
)
@pytest.mark.parametrize(
    ("damage_folder", "expected"),
    [
        (
            pickled,
            "{folder} has its weights only in pytorch_model.bin, a pickle file, which can run "
            "code; convert it to model.safetensors",
        ),
        (
            remote_code,
            "{folder}/config.json refers to custom code (auto_map); use a model of the "
            "transformers library",
        ),
        (
            remote_code_deep_inside,
            "{folder}/config.json refers to custom code (auto_map); use a model of the "
            "transformers library",
        ),
        (
            remote_code_of_the_tokenizer,
            "{folder}/tokenizer_config.json refers to custom code (auto_map); use a model of the "
            "transformers library",
        ),
        (
            link_to_outside,
            "{folder}/model.safetensors is a link to outside the folder; replace it by a copy of "
            "the file",
        ),
        (
            oversized_header,
            "{folder}/model.safetensors: invalid header of 9,223,372,036,854,775,807 bytes in a "
            "file of {size:,}; copy it again",
        ),
        (
            oversized_settings,
            "{folder}/config.json is larger than 1,048,576 bytes; copy it again",
        ),
    ],
)
def test_a_model_that_could_run_code_is_refused_before_it_is_loaded(
    published, import_folder, damage_folder, expected, monkeypatch
):
    size = (published / "model.safetensors").stat().st_size
    damage_folder(published)
    monkeypatch.setattr(import_model, "_load", lambda *_: pytest.fail("was loaded"))
    with pytest.raises(Refused) as refused:
        import_folder(published)
    assert refused.value.failure.reason == "UnsafeArtifact"
    assert refused.value.failure.field == "spec.model.initial.uri"
    assert refused.value.failure.message == expected.format(folder=published, size=size)


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def a_part_of_the_encoder_is_missing(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("encoder.layer.1.output.dense.weight")
    save_file(weights, folder / "model.safetensors")


def weights_cut_short(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])


def a_weight_is_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][3, 4] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def invalid_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def another_task(folder: Path) -> None:
    edit(folder / "config.json", model_type="whisper")


def quantized(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"bits": 4})


@pytest.mark.survives(
    "Model",
    "an initial model that is incomplete, damaged or of another kind",
    "refused with the folder, what is missing and what to do",
)
@pytest.mark.parametrize(
    ("damage_folder", "reason", "expected"),
    [
        (
            no_folder,
            "MissingModel",
            " is not a folder; check the path and that the claim is mounted",
        ),
        (no_weights, "MissingModel", " has no model.safetensors; save the weights"),
        (no_tokenizer, "MissingTokenizer", " has no tokenizer; add one of "),
        (
            a_part_of_the_encoder_is_missing,
            "InvalidModel",
            ": 1 weights of the encoder are missing, such as "
            "bert.encoder.layer.1.output.dense.weight; copy the whole folder",
        ),
        (weights_cut_short, "InvalidModel", "; copy it again"),
        (
            a_weight_is_nan,
            "InvalidModel",
            ": 1 weights have NaN or infinite numbers, such as "
            "bert.encoder.layer.1.output.dense.weight; use another copy",
        ),
        (invalid_json, "InvalidModel", "/config.json is not valid JSON ("),
        (another_task, "UnsupportedModel", ": model_type 'whisper' does not support sequence"),
        (quantized, "UnsupportedModel", ": quantized weights cannot be trained; use the original"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_with_the_reason(
    published, import_folder, damage_folder, reason, expected
):
    damage_folder(published)
    with pytest.raises(Refused) as refused:
        import_folder(published)
    assert refused.value.failure.reason == reason
    assert refused.value.failure.field == "spec.model.initial.uri"
    assert str(published) in refused.value.failure.message
    assert expected in refused.value.failure.message
    assert refused.value.failure.message.isprintable()
