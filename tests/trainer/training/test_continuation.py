"""Generations that train one adapter, each from the artifacts of the one before it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from trainer.training.conftest import World, freeze, toy_rows
from transformers import AutoModelForSequenceClassification

from springtide_api.contract import AdapterInput, ArtifactRef, RunFile
from springtide_trainer.artifact.models import load
from springtide_trainer.errors import Refused
from springtide_trainer.methods import adapter
from springtide_trainer.stages import train as stage
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import TrainOutput

QUICK = {"epochs": 1, "batchSize": 16, "learningRate": "1e-2"}


def continuing(**options: object) -> dict[str, Any]:
    return {"type": "LoRA", "lora": {"rank": 4, "continuation": "Continue", **options}}


def later(world: World, seed: int = 1) -> tuple[Path, str]:
    rows = toy_rows(120, seed)
    rows["entity"] = [f"later-{seed}-{name}" for name in rows["entity"]]
    return freeze(world.home, rows)


def run_of(
    world: World,
    number: int,
    before: TrainOutput | None = None,
    *,
    method: dict[str, Any] | None = None,
    attempt: int = 1,
    **training: Any,
) -> RunFile:
    """Return the run file of a generation that continues from the one before it."""
    options = {"method": method or continuing(), "hyperparameters": QUICK, **training}
    run = world.run_file(f"g{number}-train-{attempt}", **options)
    given = run.train
    changes: dict[str, Any] = {"checkpoints": str(world.home.checkpoints(number))}
    if before is not None:
        folder, digest = later(world, number)
        artifact, left = before.artifact, before.adapter
        changes["parent"] = ArtifactRef(uri=artifact.uri, digest=artifact.digest)
        changes["data"] = ArtifactRef(uri=folder.as_uri(), digest=digest)
        if left is not None:
            base = ArtifactRef(uri=world.home.artifact(left.base).as_uri(), digest=left.base)
            changes["adapter"] = AdapterInput(uri=left.uri, digest=left.digest, base=base)
    return run.model_copy(update={"number": number, "train": given.model_copy(update=changes)})


def trained(world: World, number: int, before: TrainOutput | None = None, **options: Any):
    made = world.train(run_of(world, number, before, **options))
    shutil.rmtree(world.home.checkpoints(number), ignore_errors=True)
    return made


def weights(made) -> dict[str, torch.Tensor]:
    return load_file(local_path(made.uri) / "model.safetensors")


def matrices(made) -> dict[str, torch.Tensor]:
    return load_file(local_path(made.uri) / adapter.WEIGHTS)


def test_a_generation_leaves_its_adapter_and_the_next_one_trains_it_further(world):
    first = trained(world, 1)
    second = trained(world, 2, first)
    third = trained(world, 3, second)

    assert [made.adapter.base for made in (first, second, third)] == [world.parent.digest] * 3
    assert [made.adapter.continued for made in (first, second, third)] == [False, True, True]
    assert len({made.adapter.digest for made in (first, second, third)}) == 3
    one, two = matrices(first.adapter), matrices(second.adapter)
    assert one.keys() == two.keys()
    assert all(not torch.equal(one[name], two[name]) for name in one)


def test_training_starts_from_the_matrices_of_the_parent_on_the_weights_of_the_base(world):
    first = trained(world, 1)
    still = {**QUICK, "learningRate": "1e-30", "weightDecay": "0"}
    second = trained(world, 2, first, hyperparameters=still)

    assert matrices(second.adapter).keys() == matrices(first.adapter).keys()
    for name, matrix in matrices(first.adapter).items():
        assert torch.equal(matrices(second.adapter)[name], matrix), name
    # Base and matrices are the same, so the merged weights are, and the head is the parent's.
    assert second.artifact.digest == first.artifact.digest


@pytest.mark.parametrize("options", [{}, {"quantization": "NF4"}], ids=["FP32", "4 bits"])
def test_merged_weights_are_those_of_the_base_with_the_whole_adapter(world, options):
    method = continuing(**options)
    second = trained(world, 2, trained(world, 1, method=method), method=method)
    assert second.adapter.continued
    base, merged = weights(world.parent), weights(second.artifact)
    for name, matrix in matrices(second.adapter).items():
        path, _, part = name.removeprefix(adapter.PREFIX).rpartition(".lora_A.")
        if part != "weight":
            continue
        other = matrices(second.adapter)[name.replace("lora_A", "lora_B")]
        target = f"bert.{path}.weight"
        torch.testing.assert_close(merged[target], base[target] + 16 / 4 * other @ matrix)


def test_the_merged_artifact_is_loaded_by_plain_transformers_and_scores_as_ours(world):
    second = trained(world, 2, trained(world, 1))
    folder = local_path(second.artifact.uri)
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    scorer = load(folder, second.artifact.digest)
    inputs = scorer.tokenizer(["the good shoe"], return_tensors="pt")
    with torch.no_grad():
        expected = plain(**inputs).logits.softmax(-1).numpy()
    assert scorer.predict([("the good shoe", None)]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"dora": True}, {"dropout": "0.2"}])
def test_a_resumed_run_that_continues_an_adapter_gives_equal_weights(world, monkeypatch, options):
    method = continuing(**options)
    first = trained(world, 1, method=method)
    training = {
        "method": method,
        "hyperparameters": {**QUICK, "dropout": "0.1", "epochs": 2},
        "checkpoint": {"everySteps": 5},
        "earlyStopping": {"everySteps": 4, "patience": 9},
    }
    whole = trained(world, 2, first, **training)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage, "check_tensors", die)
        with pytest.raises(KeyboardInterrupt):
            world.train(run_of(world, 2, first, attempt=2, **training))
    for checkpoint in sorted(world.home.checkpoints(2).iterdir())[1:]:
        shutil.rmtree(checkpoint)
    resumed = world.train(run_of(world, 2, first, attempt=3, **training))

    assert resumed.artifact.digest == whole.artifact.digest
    assert resumed.adapter == whole.adapter


def test_a_checkpoint_of_another_adapter_is_not_used(world, caplog):
    first = trained(world, 1)
    options = {"checkpoint": {"everySteps": 2}}
    world.train(run_of(world, 2, first, **options))
    fresh = run_of(world, 2, first, attempt=2, **options)
    fresh = fresh.model_copy(update={"train": fresh.train.model_copy(update={"adapter": None})})
    with caplog.at_level("INFO"):
        made = world.train(fresh)
    assert "checkpoint belongs to another run" in caplog.text
    assert "resumed" not in [record.message for record in caplog.records]
    assert (made.adapter.base, made.adapter.continued) == (first.artifact.digest, False)


def test_early_stopping_without_a_gain_leaves_weights_and_adapter_of_the_parent(world):
    first = trained(world, 1)
    options = {"everySteps": 2, "patience": 1, "minDelta": "1000"}
    second = trained(world, 2, first, earlyStopping=options)
    assert second.artifact.digest == first.artifact.digest
    assert second.adapter.digest == first.adapter.digest


def test_appended_labels_extend_the_head_of_a_continued_adapter(world, freeze_rows, recipe_with):
    first = trained(world, 1)
    rows = {"text": ["good", "bad"] * 8, "label": ["maybe", "no"] * 8}
    rows["entity"] = [str(number) for number in range(16)]
    run = run_of(world, 2, first, hyperparameters={"batchSize": 4, "learningRate": "1e-30"})
    run = recipe_with(run, ["no", "yes", "maybe"], freeze_rows(world.home, rows))
    made = world.train(run)
    head = weights(made.artifact)["classifier.weight"]
    assert head.shape[0] == 3
    torch.testing.assert_close(head[:2], weights(first.artifact)["classifier.weight"])
    assert made.adapter.base == world.parent.digest


def test_without_continuation_no_adapter_is_left_and_the_weights_are_the_same(world):
    fresh = {"type": "LoRA", "lora": {"rank": 4}}
    plain, leaving = trained(world, 1, method=fresh), trained(world, 1, attempt=2)
    assert plain.adapter is None
    assert leaving.adapter is not None
    assert leaving.artifact.digest == plain.artifact.digest


def test_a_full_update_of_merged_weights_leaves_no_adapter(world):
    second = trained(world, 2, trained(world, 1))
    run = run_of(world, 3, second, method={"type": "Full"})
    run = run.model_copy(update={"train": run.train.model_copy(update={"adapter": None})})
    made = world.train(run)
    assert made.adapter is None
    before, after = weights(second.artifact), weights(made.artifact)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_an_adapter_of_another_base_ends_the_run_before_its_first_step(world):
    first = trained(world, 1)
    run = run_of(world, 2, first)
    wrong = ArtifactRef(uri=first.artifact.uri, digest=first.artifact.digest)
    other = run.train.adapter.model_copy(update={"base": wrong})
    run = run.model_copy(update={"train": run.train.model_copy(update={"adapter": other})})
    with pytest.raises(Refused, match="belongs to the weights") as refused:
        world.train(run)
    assert refused.value.failure.reason == "AdapterMismatch"
    assert not world.home.checkpoints(2).exists()


@pytest.mark.survives(
    "Model",
    "a pod ends between the commits of adapter, weights and result",
    "the next attempt commits the same digests; nothing is left twice",
)
@pytest.mark.parametrize("when", ["before the weights", "before the adapter", "after both"])
def test_an_attempt_after_a_crash_leaves_the_same_artifacts(world, monkeypatch, when):
    first = trained(world, 1)
    whole = trained(world, 2, first)
    for made in (whole.artifact, whole.adapter):
        shutil.rmtree(local_path(made.uri))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    places = {
        "before the weights": (stage, "_commit"),
        "before the adapter": (adapter.Written, "commit"),
        "after both": (stage, "TrainOutput"),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*places[when], die)
        with pytest.raises(KeyboardInterrupt):
            world.train(run_of(world, 2, first, attempt=2))
    again = world.train(run_of(world, 2, first, attempt=3))

    assert (again.artifact, again.adapter) == (whole.artifact, whole.adapter)
    folders = {path.name for path in (world.home.path / "artifacts").iterdir()}
    kept = {world.parent.digest, first.artifact.digest, first.adapter.digest}
    kept |= {whole.artifact.digest, whole.adapter.digest}
    assert folders == {digest.replace(":", "-") for digest in kept}
