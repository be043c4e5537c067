"""The server loads the optimized form of an artifact and scores it as the evaluation does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from server.conftest import INT8, optimized
from server.test_inference import sentences

from springtide_api.update.model import Optimise, Pruning
from springtide_trainer.artifact import models
from springtide_trainer.storage import local_path

VALUES = {
    "pairs": "probabilities",
    "features": "probabilities",
    "topics": "probabilities",
    "prices": "value",
    "ranker": "score",
}


PRUNED = Optimise(pruning=Pruning(sparsity="0.05"))
BOTH = PRUNED.model_copy(update={"quantization": "Int8Dynamic"})


@pytest.mark.parametrize(
    ("name", "wanted"),
    [*((name, INT8) for name in sorted(VALUES)), ("pairs", PRUNED), ("ranker", BOTH)],
)
async def test_200_rows_scored_by_infer_equal_the_scores_of_the_evaluation(
    name, wanted, request, tmp_path, serve, ask
):
    plain = request.getfixturevalue(name)
    made = optimized(tmp_path / "form", plain, wanted)
    scorer = models.load(local_path(made.artifact.uri), made.artifact.digest)
    rows = {each: sentences(200, n) for n, each in enumerate(scorer.preprocess.inputs)}
    expected = scorer.predict(scorer.preprocess.render(rows), batch_size=32)

    async with serve(made.settings, max_batch=7) as client:
        described = (await client.get("/v2/models/model")).json()
        answer = (await client.post("/v2/models/model/infer", json=ask(**rows))).json()

    by = "onnxruntime_onnx" if wanted.quantization else "pytorch_transformers"
    assert described["platform"] == by
    found = next(each for each in answer["outputs"] if each["name"] == VALUES[name])
    served = np.array(found["data"], dtype=np.float32).reshape(expected.shape)
    np.testing.assert_allclose(served, expected, rtol=1e-6)

    weights = models.load(local_path(plain.artifact.uri), plain.artifact.digest)
    exact = weights.predict(scorer.preprocess.render(rows))
    apart = np.abs(exact - expected) / exact.std()
    assert apart.max() > 0, "these are the scores of the form, not those of the weights"
    assert np.corrcoef(exact[:, -1], expected[:, -1])[0, 1] > 0.9


def test_a_server_process_serves_the_quantized_form(texts, tmp_path, start, ask):
    made = optimized(tmp_path / "form", texts)
    process = start(MODEL_URI=made.artifact.uri, MODEL_DIGEST=made.artifact.digest)
    process.wait_for(200)
    answer = process.post("/v2/models/model/infer", json=ask(text=["red shoe"])).json()
    assert answer["parameters"] == {"digest": made.artifact.digest}
    assert sum(answer["outputs"][0]["data"]) == pytest.approx(1)
    process.popen.terminate()
    assert [line for line in process.output() if line["level"] == "error"] == []


def test_a_changed_byte_of_the_quantized_form_is_refused(texts, tmp_path, start):
    made = optimized(tmp_path / "form", texts)
    file = local_path(made.artifact.uri) / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    process = start(MODEL_URI=made.artifact.uri, MODEL_DIGEST=made.artifact.digest)
    assert process.popen.wait() == 3
    assert "DigestMismatch: model.onnx" in json.dumps(process.output())
