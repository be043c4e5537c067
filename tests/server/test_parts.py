"""The server answers with the prompt, the prefixes or the bottlenecks that an artifact has."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoTokenizer, BertForSequenceClassification

from springtide_api.update.training import Training
from springtide_trainer.artifact import manifest, saving
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.methods.table import METHODS
from springtide_trainer.storage import Home, local_path

ROWS = ["red shoe", "cheap small lamp for winter"]
KINDS = {
    "PromptTuning": {"promptTuning": {"tokens": 5}},
    "PrefixTuning": {"prefixTuning": {"tokens": 5}},
    "Adapter": {"adapter": {"width": 4}},
}


def scores(model, folder) -> torch.Tensor:
    tokens = AutoTokenizer.from_pretrained(folder)(ROWS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**tokens).logits.softmax(-1)


@pytest.mark.parametrize("kind", KINDS)
async def test_served_scores_are_those_of_the_model_with_its_parts(
    texts, serve, ask, tmp_path, kind
):
    base = local_path(texts.artifact.uri)
    model = BertForSequenceClassification.from_pretrained(base)
    without = scores(model, base)
    method = METHODS[kind]
    training = Training.model_validate({"method": {"type": kind, **KINDS[kind]}})
    model = method.prepare(model, training, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in (each for each in model.parameters() if each.requires_grad):
            weight.add_(torch.randn(weight.shape, generator=generator))
    expected = scores(model, base)
    assert (expected - without).abs().max() > 0.05

    folder = tmp_path / "tmp" / "made"
    saving.copy_tokenizer(base, folder)
    method.export(model, folder)
    Preprocess.read(base).write(folder)
    artifact = manifest.commit(folder, Home(tmp_path))
    settings = replace(texts.settings, model_uri=artifact.uri, model_digest=artifact.digest)

    async with serve(settings) as client:
        answer = (await client.post("/v2/models/model/infer", json=ask(text=ROWS))).json()

    (found,) = [each["data"] for each in answer["outputs"] if each["name"] == "probabilities"]
    torch.testing.assert_close(torch.tensor(found), expected.flatten(), rtol=0, atol=1e-5)
