"""serving.optimise: import and training write an optimized form beside the weights."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from springtide_api.contract import CommittedArtifact
from springtide_api.update.model import Optimise, Pruning, Serving
from springtide_trainer.artifact.manifest import verify
from springtide_trainer.artifact.models import load
from springtide_trainer.artifact.onnx_model import OnnxModel
from springtide_trainer.artifact.saving import tokenizer_files
from springtide_trainer.optimise import export as exporting
from springtide_trainer.optimise.form import commit_form
from springtide_trainer.storage import local_path

INT8 = Optimise(quantization="Int8Dynamic")
PRUNED = Optimise(pruning=Pruning(sparsity="0.5"))
BOTH = Optimise(quantization="Int8Dynamic", pruning=Pruning(sparsity="0.5"))
FORMS = pytest.mark.parametrize("form", [INT8, PRUNED, BOTH], ids=Optimise.describe)
QUICK = {"epochs": 4, "batchSize": 16, "learningRate": "1e-2"}
TEXTS = [("good shoe", None), ("a very bad lamp for the red dress", None), ("", None)]


def optimized(run, form=INT8):
    recipe = run.recipe.model_copy(update={"serving": Serving(optimise=form)})
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
    made = import_folder(source, serving={"optimise": INT8.plain()})
    assert (made.digest, made.head) == (plain.digest, "Trained")
    weights, form = scorers(made)
    np.testing.assert_allclose(form.predict(TEXTS), weights.predict(TEXTS), atol=0.05)


def sparse(weights):
    """The share of zeros in each linear layer below the head, from the file."""
    return [
        float((value == 0).float().mean())
        for name, value in load_file(weights / "model.safetensors").items()
        if name.endswith("weight") and value.ndim == 2 and "embed" not in name
        if not name.startswith("classifier")
    ]


@pytest.mark.parametrize("method", [{"type": "Full"}, {"type": "LoRA", "lora": {"rank": 4}}])
def test_the_pruned_form_is_a_plain_folder_and_the_weights_stay_dense(world, method):
    plain = world.train(world.run_file(method=method, hyperparameters=QUICK)).artifact
    run = world.run_file("g1-train-2", method=method, hyperparameters=QUICK)
    made = world.train(optimized(run, PRUNED)).artifact
    assert made.digest == plain.digest, "the next training continues from the same weights"
    assert (made.served.quantization, made.served.sparsity) == (None, "0.5")
    folder = local_path(made.served_uri)
    assert set(sparse(folder)) == {0.5}
    assert max(sparse(local_path(made.uri))) < 0.01

    _, form = scorers(made)
    texts = [text for text, _ in TEXTS]
    inputs = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.inference_mode():
        expected = model(**inputs).logits.softmax(-1)
    np.testing.assert_allclose(form.predict(TEXTS), expected, atol=1e-6)
    names = {path.name for path in local_path(made.uri).iterdir()}
    assert {path.name for path in folder.iterdir()} == names
    for name in names - {"model.safetensors", "springtide-manifest.json"}:
        assert (folder / name).read_bytes() == (local_path(made.uri) / name).read_bytes()
    assert made.served.bytes == made.bytes, "zeros of a dense format need the same space"


def test_another_sparsity_writes_another_form_of_the_same_weights(world):
    made = {}
    for number, sparsity in enumerate(("0.5", "0.51")):
        run = world.run_file(f"g1-train-{number}", hyperparameters=QUICK)
        form = Optimise(pruning=Pruning(sparsity=sparsity))
        made[sparsity] = world.train(optimized(run, form)).artifact
    one, other = made.values()
    assert one.digest == other.digest
    assert one.served.digest != other.served.digest
    assert other.served.sparsity == "0.51"


def test_weights_are_pruned_before_they_are_quantized_and_zeros_stay_zeros(world):
    run = world.run_file(hyperparameters=QUICK)
    made = world.train(optimized(run, BOTH)).artifact
    assert (made.served.quantization, made.served.sparsity) == ("Int8Dynamic", "0.5")
    written = {
        each.name: onnx.numpy_helper.to_array(each)
        for each in onnx.load(local_path(made.served_uri) / "model.onnx").graph.initializer
    }
    layers = [name for name in written if "MatMul" in name and name.endswith("_quantized")]
    assert len(layers) == 2 * 6, "the pooler and the head are products of another kind"
    for name in layers:
        share = (written[name] == 0).mean()
        assert 0.5 <= share < 0.6, "a weight that is left may be rounded to zero, too"
        assert not written[name.replace("_quantized", "_zero_point")].any()
    dense = world.train(optimized(world.run_file("g1-train-2", hyperparameters=QUICK))).artifact
    assert dense.digest == made.digest
    assert dense.served.digest != made.served.digest


WRITE = """
import sys
from pathlib import Path
from springtide_api.contract import CommittedArtifact
from springtide_api.update.model import Optimise
from springtide_trainer.artifact import manifest
from springtide_trainer.optimise import form
weights, folder, wanted = sys.argv[1:]
form.write(Path(weights), Path(folder), Optimise.model_validate_json(wanted))
print(manifest.write_manifest(Path(folder)))
"""


@FORMS
def test_equal_weights_give_the_same_bytes_in_every_process(world, tmp_path, form):
    made = world.train(optimized(world.run_file(hyperparameters=QUICK), form)).artifact
    command = [sys.executable, "-W", "ignore", "-c", WRITE, str(local_path(made.uri))]
    for number, threads in enumerate(("1", "2")):
        env = {"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": str(number)}
        done = subprocess.run(
            [*command, str(tmp_path / f"form-{number}"), form.model_dump_json(by_alias=True)],
            env={"PYTHONPATH": ":".join(sys.path), **env},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == made.served.digest


def test_an_empty_optimise_asks_for_no_form(world):
    """An older CRD, after a rollback of the chart, leaves it behind when it drops `pruning`."""
    run = optimized(world.run_file(), Optimise())
    made = CommittedArtifact(uri="file:///x", digest="sha256:" + 64 * "a", bytes=1)
    assert commit_form(made, run.recipe, world.home, world.home.path / "tmp") is made


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
        import_folder(published, serving={"optimise": INT8.plain()})


def test_the_quantizer_adds_nothing_to_the_log_and_no_handler(world, caplog):
    caplog.set_level(logging.INFO)
    handlers = list(logging.getLogger().handlers)
    world.train(optimized(world.run_file(hyperparameters=QUICK)))
    assert "optimized" in caplog.messages
    assert not [record for record in caplog.records if record.name == "root"]
    assert logging.getLogger().handlers == handlers
    assert not logging.getLogger().filters
