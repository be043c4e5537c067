"""What is loaded is in memory: the files of the artifact are not used after that."""

from shutil import copytree

import numpy as np
import pytest
from server.conftest import optimized
from server.test_inference import sentences

from springtide_trainer.artifact import models
from springtide_trainer.storage import local_path


@pytest.mark.survives(
    "Model",
    "the files of an artifact are overwritten in place after a server loaded it",
    "the scores stay those of the verified weights",
)
@pytest.mark.parametrize("form", ["weights", "quantized"])
def test_files_that_are_overwritten_after_loading_change_no_score(texts, tmp_path, form):
    made = texts if form == "weights" else optimized(tmp_path / "form", texts)
    folder = tmp_path / "copy"
    copytree(local_path(made.artifact.uri), folder)
    scorer = models.load(folder, made.artifact.digest)
    overwritten = 0
    for file in (*folder.glob("*.safetensors"), *folder.glob("*.onnx")):
        overwritten += file.stat().st_size
        with file.open("r+b") as opened:
            opened.write(bytes(file.stat().st_size))
    rows = scorer.preprocess.render({"text": sentences(20, 1)})

    expected = models.load(local_path(made.artifact.uri), made.artifact.digest).predict(rows)

    assert overwritten > 10_000
    np.testing.assert_array_equal(scorer.predict(rows), expected)
