"""A training of a prompt or prefixes, from the parent's artifact to the candidate's."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from springtide_api.contract import ArtifactRef
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path

QUICK = {"epochs": 1, "batchSize": 16, "learningRate": "1e-2"}
METHODS = {
    "prompt": {"type": "PromptTuning", "promptTuning": {"tokens": 4}},
    "prefixes": {"type": "PrefixTuning", "prefixTuning": {"tokens": 4}},
}
MODEL = "model.adapted.safetensors"
both = pytest.mark.parametrize("kind", METHODS)


def weights(made, kind: str) -> dict[str, torch.Tensor]:
    folder = local_path(made.uri)
    files = (MODEL, f"{kind}.safetensors")
    return {name: w for file in files for name, w in load_file(folder / file).items()}


def after(world, parent, job: str = "g2-train-1", **training):
    """The run of a generation after an artifact."""
    run = world.run_file(job, **training)
    ref = ArtifactRef(uri=parent.uri, digest=parent.digest)
    return run.model_copy(update={"train": run.train.model_copy(update={"parent": ref})})


@both
def test_the_weights_of_the_parent_stay_beside_new_ones_and_head(world, kind):
    made = world.train(world.run_file(method=METHODS[kind], hyperparameters=QUICK)).artifact
    before = load_file(local_path(world.parent.uri) / "model.safetensors")
    trained = load_file(local_path(made.uri) / MODEL)
    assert trained.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], trained[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


@both
def test_the_next_generation_trains_them_on_from_the_artifact(world, kind):
    method = METHODS[kind]
    first = world.train(world.run_file(method=method, hyperparameters=QUICK)).artifact
    still = {**QUICK, "learningRate": "1e-30", "weightDecay": "0"}
    run = after(world, first, method=method, hyperparameters=still)
    assert world.train(run).artifact.digest == first.digest


@both
@pytest.mark.parametrize("dropout", ["0", "0.1"])
def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(world, kind, dropout):
    options = {**QUICK, "epochs": 2, "dropout": dropout}
    whole = world.run_file(
        "whole", method=METHODS[kind], hyperparameters=options, checkpoint={"everySteps": 20}
    )
    digest = world.train(whole).artifact.digest
    (checkpoint,) = world.home.checkpoints(1).iterdir()
    held = load_file(checkpoint / "state.safetensors")
    names = {name.removeprefix("weights/") for name in held if name.startswith("weights/")}
    added = (".prompt.", ".prefix.")
    assert all(name.startswith("classifier.") or any(a in name for a in added) for name in names)
    assert len(names) > 2
    assert world.train(whole.model_copy(update={"job": "resumed"})).artifact.digest == digest


@both
def test_how_a_step_is_cut_into_passes_changes_weights_by_rounding_only(world, kind):
    options = {
        "maxSteps": 8,
        "batchSize": 16,
        "optimizer": "SGD",
        "learningRate": "0.1",
        "precision": "FP32",
    }
    cut = {"method": METHODS[kind], "hyperparameters": options}
    ours, theirs = (
        weights(world.train(world.run_file(f"cut-{d}", divisor=d, **cut)).artifact, kind)
        for d in (1, 8)
    )
    still = {**cut, "hyperparameters": {**options, "learningRate": "1e-30", "weightDecay": "0"}}
    start = weights(world.train(world.run_file("start", **still)).artifact, kind)
    apart = sum(float((theirs[name] - ours[name]).norm()) for name in ours)
    moved = sum(float((ours[name] - start[name]).norm()) for name in ours)
    assert 0 < apart < 1e-3 * moved


def test_stored_outputs_of_frozen_layers_have_their_prefixes(world, caplog):
    """Those that frozen layers have of earlier generations are a part of what is stored."""
    method = METHODS["prefixes"]
    first = world.train(world.run_file(method=method, hyperparameters=QUICK)).artifact
    options = {**QUICK, "epochs": 2, "freeze": {"lowerLayers": 1}}
    with caplog.at_level("INFO"):
        made = world.train(after(world, first, method=method, hyperparameters=options)).artifact
    assert "outputs of the lower layers stored" in caplog.messages
    before, found = weights(first, "prefixes"), weights(made, "prefixes")
    moved = {n for n in before if ".prefix." in n and not torch.equal(before[n], found[n])}
    assert moved
    assert all("layer.1." in name for name in moved)


def test_outputs_of_frozen_layers_are_not_stored_with_a_prompt(world, caplog):
    """Method Full keeps the prompt of its parent; its rows have more tokens than are stored."""
    method = METHODS["prompt"]
    first = world.train(world.run_file(method=method, hyperparameters=QUICK)).artifact
    options = {"epochs": 2, "batchSize": 16, "freeze": {"lowerLayers": 1}}
    with caplog.at_level("INFO"):
        made = world.train(after(world, first, hyperparameters=options)).artifact
    assert not [line for line in caplog.messages if "lower layers" in line]
    name = "bert.embeddings.word_embeddings.prompt.vectors"
    assert torch.equal(weights(made, "prompt")[name], weights(first, "prompt")[name])


def test_a_prompt_that_leaves_too_few_positions_is_refused_before_the_first_step(world):
    method = {"type": "PromptTuning", "promptTuning": {"tokens": 256}}
    with pytest.raises(
        Refused, match="the prompt has 256 tokens, together more than the 32 "
    ) as refused:
        world.train(world.run_file(method=method, hyperparameters=QUICK))
    assert refused.value.failure.reason == "MaxLengthTooLong"


@both
def test_adversarial_rows_disturb_words_and_not_what_is_trained_beside_them(world, kind):
    run = world.run_file(
        method=METHODS[kind], hyperparameters=QUICK, robustness={"adversarial": {"epsilon": "1"}}
    )
    plain = world.run_file("plain", method=METHODS[kind], hyperparameters=QUICK)
    assert world.train(run).artifact.digest != world.train(plain).artifact.digest


@pytest.mark.parametrize("kind", [*METHODS, "bottlenecks"])
def test_no_update_begins_with_an_artifact_that_has_them(world, import_folder, kind):
    method = METHODS.get(kind, {"type": "Adapter", "adapter": {"width": 4}})
    made = world.train(world.run_file(method=method, hyperparameters=QUICK)).artifact
    with pytest.raises(Refused, match="and no update begins with them; use a generation") as no:
        import_folder(local_path(made.uri))
    assert no.value.failure.reason == "UnsupportedModel"


def test_a_model_beside_a_file_of_the_name_of_ours_is_imported(
    publish_model, import_folder, tmp_path
):
    source = publish_model(tmp_path / "trained", ["no", "yes"])
    expected = import_folder(source).digest
    (source / "prompt.json").write_text('{"system": "You are a shop assistant."}')
    assert import_folder(source).digest == expected
