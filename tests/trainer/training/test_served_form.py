"""serving.optimise: import and training write a quantized form beside the weights."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch

from springtide_api.update.model import Optimise, Serving
from springtide_trainer.artifact.manifest import verify
from springtide_trainer.artifact.models import load
from springtide_trainer.artifact.onnx_model import OnnxModel
from springtide_trainer.artifact.saving import tokenizer_files
from springtide_trainer.optimise import export as exporting
from springtide_trainer.storage import local_path

INT8 = Serving(optimise=Optimise(quantization="Int8Dynamic"))
QUICK = {"epochs": 4, "batchSize": 16, "learningRate": "1e-2"}
TEXTS = [("good shoe", None), ("a very bad lamp for the red dress", None), ("", None)]


def optimized(run):
    recipe = run.recipe.model_copy(update={"serving": INT8})
    return run.model_copy(update={"recipe": recipe})


def scorers(made):
    weights = load(local_path(made.uri), made.digest)
    return weights, load(local_path(made.served_uri), made.served.digest)


@pytest.mark.parametrize("method", [{"type": "Full"}, {"type": "LoRA", "lora": {"rank": 4}}])
def test_training_writes_the_form_of_the_weights_that_it_commits(world, method):
    plain = world.train(world.run_file(method=method, hyperparameters=QUICK)).artifact
    run = optimized(world.run_file("g1-train-2", method=method, hyperparameters=QUICK))
    made = world.train(run).artifact
    assert plain.served is None
    assert made.digest == plain.digest, "the form is beside the weights and changes nothing in them"
    assert made.served_digest == made.served.digest != made.digest
    assert made.served.quantization == "Int8Dynamic"

    weights, form = scorers(made)
    assert isinstance(form.model, OnnxModel)
    near, exact = form.predict(TEXTS), weights.predict(TEXTS)
    assert 0 < np.abs(near - exact).max() < 0.05
    assert near.dtype == np.float32
    assert not list((world.home.path / "tmp").iterdir()), "the unquantized graph is deleted"


def test_the_form_has_the_tokenizer_and_the_preprocessing_of_the_weights(world):
    made = world.train(optimized(world.run_file(hyperparameters=QUICK))).artifact
    weights, form = local_path(made.uri), local_path(made.served_uri)
    names = {path.name for path in form.iterdir()}
    assert "model.onnx" in names
    assert not [name for name in names if name.endswith(".safetensors")]
    kept = [*tokenizer_files(weights), weights / "config.json", weights / "preprocess.json"]
    for path in kept:
        assert (form / path.name).read_bytes() == path.read_bytes()
    assert [p.name for p in tokenizer_files(form)] == [p.name for p in tokenizer_files(weights)]
    verify(form, made.served.digest)
    assert made.served.bytes == sum(path.stat().st_size for path in form.iterdir())


def test_import_writes_the_form_of_the_initial_model_and_keeps_its_digest(
    publish_model, import_folder, tmp_path, monkeypatch
):
    source = publish_model(tmp_path / "source", ["no", "yes"])
    plain = import_folder(source)
    made = import_folder(source, serving=INT8.plain())
    assert (made.digest, made.head) == (plain.digest, "Trained")
    weights, form = scorers(made)
    np.testing.assert_allclose(form.predict(TEXTS), weights.predict(TEXTS), atol=0.05)


WRITE = """
import sys
from pathlib import Path
from springtide_trainer.artifact import manifest
from springtide_trainer.optimise import form
weights, folder = map(Path, sys.argv[1:])
form.write(weights, folder, folder.with_suffix(".full"))
print(manifest.write_manifest(folder))
"""


def test_equal_weights_give_the_same_bytes_in_every_process(world, tmp_path):
    made = world.train(optimized(world.run_file(hyperparameters=QUICK))).artifact
    command = [sys.executable, "-W", "ignore", "-c", WRITE, str(local_path(made.uri))]
    for number, threads in enumerate(("1", "2")):
        env = {"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": str(number)}
        done = subprocess.run(
            [*command, str(tmp_path / f"form-{number}")],
            env={"PYTHONPATH": ":".join(sys.path), **env},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == made.served.digest


def test_a_score_does_not_depend_on_other_rows_of_the_batch_nor_on_threads(world):
    made = world.train(optimized(world.run_file(hyperparameters=QUICK))).artifact
    _, form = scorers(made)
    texts = [(" ".join(["good", "very", "shoe"] * n), None) for n in range(5)]
    together = form.predict(texts)
    alone = np.concatenate([form.predict([text]) for text in texts])
    np.testing.assert_array_equal(together, alone)
    torch.set_num_threads(2)
    _, parallel = scorers(made)
    np.testing.assert_array_equal(parallel.predict(texts, batch_size=2), together)
    assert len(np.unique(together[:, 0])) == len(texts), "equal answers would prove nothing"


def test_a_model_that_cannot_be_converted_fails_the_import_before_any_training(
    published, import_folder, monkeypatch
):
    monkeypatch.setattr(exporting, "MAX_BYTES", 1000)
    with pytest.raises(exporting.Refused, match="OptimiseNotPossible: BertForSequence"):
        import_folder(published, serving=INT8.plain())


def test_the_quantizer_adds_nothing_to_the_log_and_no_handler(world, caplog):
    caplog.set_level(logging.INFO)
    handlers = list(logging.getLogger().handlers)
    world.train(optimized(world.run_file(hyperparameters=QUICK)))
    assert "optimized" in caplog.messages
    assert not [record for record in caplog.records if record.name == "root"]
    assert logging.getLogger().handlers == handlers
    assert not logging.getLogger().filters
