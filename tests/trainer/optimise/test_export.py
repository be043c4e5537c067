"""A model is converted to ONNX only if the converted one has its logits."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from trainer.architectures import ARCHITECTURES
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from springtide_trainer.artifact.onnx_model import OnnxModel
from springtide_trainer.errors import Refused
from springtide_trainer.optimise import export as exporting
from springtide_trainer.optimise.export import export


def a_model(name: str) -> nn.Module:
    torch.manual_seed(5)
    config = ARCHITECTURES[name]
    config.num_labels = 3
    return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_encoders_and_decoders_have_the_same_logits_in_onnx(tmp_path, name):
    model, path = a_model(name), tmp_path / "full.onnx"
    names = ["input_ids", "token_type_ids"] if name in {"bert", "deberta-v2"} else ["input_ids"]
    export(model, names, path, max_length=256)
    converted = OnnxModel(path)
    for length in (4, 77, 150, 256):
        row = {each: torch.zeros(1, length, dtype=torch.int64) for each in names}
        row["input_ids"] = torch.randint(1, 99, (1, length))
        with torch.inference_mode():
            expected = model(**row).logits
        found = converted(attention_mask=torch.ones(1, length), **row).logits
        assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_the_exported_model_is_left_in_evaluation_mode(tmp_path):
    """The exporter restores the mode of what it exports: dropout would be in the comparison."""
    model = a_model("bert").train()
    export(model, ["input_ids"], tmp_path / "full.onnx", max_length=16)
    assert not any(module.training for module in model.modules())


class Branching(BertForSequenceClassification):
    """A model that does something else with short rows, of which a trace has one branch."""

    def forward(self, input_ids):
        found = super().forward(input_ids=input_ids)
        if input_ids.shape[1] < 32:
            found.logits = -found.logits
        return found


def test_a_model_whose_trace_is_right_for_one_length_only_is_refused(tmp_path):
    with pytest.raises(Refused) as refused:
        export(
            Branching(ARCHITECTURES["bert"]), ["input_ids"], tmp_path / "full.onnx", max_length=64
        )
    failure = refused.value.failure
    assert failure.reason == "OptimiseNotPossible"
    assert failure.field == "spec.serving.optimise.quantization"
    assert failure.message.startswith(
        "Branching cannot be served as Int8Dynamic: its logits of a row of 1 tokens differ by "
    )
    assert failure.message.endswith("; remove serving.optimise, or use another model")


class Unknown(BertForSequenceClassification):
    """A model with an operation that ONNX does not have."""

    def forward(self, input_ids):
        found = super().forward(input_ids=input_ids)
        found.logits = torch.special.bessel_j0(found.logits)
        return found


def test_a_model_with_an_operation_that_onnx_lacks_is_refused(tmp_path):
    with pytest.raises(Refused, match="Unknown cannot be served as Int8Dynamic: the export"):
        export(Unknown(ARCHITECTURES["bert"]), ["input_ids"], tmp_path / "full.onnx", max_length=64)


def test_a_model_that_does_not_fit_an_onnx_file_is_refused_with_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "MAX_BYTES", 500_000)
    with pytest.raises(Refused, match=r"it has 1 MB of weights, the limit is 0 MB"):
        export(a_model("bert"), ["input_ids"], tmp_path / "full.onnx", max_length=64)
