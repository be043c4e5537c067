"""Pseudo-labels: which rows the parent labels, what they count, and where they never are."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from trainer.training.conftest import World, freeze, toy_rows

from springtide_trainer.artifact.models import load as load_model
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.snapshots import replay_buffer
from springtide_trainer.data.snapshots.frozen_rows import read_rows
from springtide_trainer.errors import Refused
from springtide_trainer.processes import ALONE
from springtide_trainer.stages.train import held_rows
from springtide_trainer.storage import Home, local_path, uri_of
from springtide_trainer.tasks.table import task_of
from springtide_trainer.training import fit, session
from springtide_trainer.training.plan import _check_options
from springtide_trainer.training.rows import pseudo_labels
from springtide_trainer.training.rows.pseudo_labels import Parent
from springtide_trainer.training.rows.source_rows import UNKNOWN

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from springtide_api.contract import CommittedArtifact, RunFile
    from springtide_trainer.training.rows.training_rows import TrainingRows

CPU = torch.device("cpu")
LEARNT = {"maxSteps": 50, "batchSize": 16, "learningRate": "5e-3", "freeze": {"embeddings": False}}
FAST = {"maxSteps": 9, "batchSize": 8, "learningRate": "1e-3"}


def scarce(count: int = 160, seed: int = 1) -> dict[str, list[Any]]:
    """Rows of which three of four have no label; four rows are of one shopper."""
    rows = toy_rows(count, seed)
    rows["label"] = [label if number % 4 == 0 else "" for number, label in enumerate(rows["label"])]
    return rows


@dataclass
class Taught(World):
    """A world whose parent has learnt something; it is sure of about half of the scarce rows."""

    threshold: str = "0.9"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, prepared: World) -> Taught:
    home = Home(tmp_path_factory.mktemp("teacher") / "home")
    shutil.copytree(prepared.home.path, home.path)
    digest = prepared.data[1]
    world = World(home, prepared.parent, (home.data(digest), digest))
    parent = world.train(world.run_file("g0", hyperparameters=LEARNT)).artifact
    shutil.rmtree(home.checkpoints(1), ignore_errors=True)
    without = np.array([label == "" for label in scarce()["label"]])
    median = np.median(confidences(parent)[without])
    return Taught(home, parent, world.data, threshold=f"{median:.6f}")


@pytest.fixture
def taught(tmp_path: Path, teacher: Taught) -> Taught:
    home = Home(tmp_path / "models" / "shop" / "ranker")
    shutil.copytree(teacher.home.path, home.path)
    artifact = local_path(teacher.parent.uri).relative_to(teacher.home.path)
    parent = teacher.parent.model_copy(update={"uri": uri_of(home.path / artifact)})
    return Taught(home, parent, freeze(home, scarce()), threshold=teacher.threshold)


def scores_of(parent: CommittedArtifact) -> NDArray[np.float32]:
    scorer = load_model(local_path(parent.uri), parent.digest)
    return scorer.predict([(text, None) for text in scarce()["text"]])


def confidences(parent: CommittedArtifact) -> NDArray[np.float32]:
    return scores_of(parent).max(axis=1)


def run_of(world: World, job: str = "g1-train-1", **training: Any) -> RunFile:
    threshold = world.threshold if isinstance(world, Taught) else "0.9"
    labelling = {"pseudoLabels": {"threshold": threshold, "weight": "0.25"}}
    return world.run_file(job, **{"hyperparameters": FAST, "unlabelled": labelling, **training})


def rows_of(world: World, run: RunFile, tmp_path: Path, *, seeded: bool = False) -> TrainingRows:
    asked = run.train
    assert asked is not None
    return pseudo_labels.load(
        *world.data,
        run.recipe,
        parent=Parent(local_path(world.parent.uri), seeded, CPU, asked.batch_divisor),
        scratch=tmp_path,
        held=held_rows(run.recipe, asked),
    )


def test_rows_that_the_parent_is_sure_of_have_its_label_and_a_part_of_their_weight(
    taught, tmp_path
):
    """The label of the largest probability, if that is at least the threshold (Lee 2013)."""
    table = {**scarce(), "weight": [1.0 + number % 3 for number in range(160)]}
    taught.data = freeze(taught.home, table)
    found = rows_of(taught, run_of(taught), tmp_path)
    scores = scores_of(taught.parent)
    without = np.array([label == "" for label in table["label"]])
    sure = without & (scores.max(axis=1) >= np.float32(taught.threshold))
    assert 50 < sure.sum() < 70, "some are left out"
    assert {*found.units.rows} == {*np.flatnonzero(~without | sure)}
    np.testing.assert_array_equal(found.examples.labels[sure], scores[sure].argmax(axis=1))
    expected = np.array(table["weight"]) * np.where(sure, 0.25, 1)
    used = found.units.rows
    np.testing.assert_array_equal(found.examples.weights[used], expected[used])
    true = np.array([["no", "yes"].index(label or "no") for label in table["label"]])
    np.testing.assert_array_equal(found.examples.labels[~without], true[~without])

    report = found.pseudo_labels
    counts = np.bincount(scores[sure].argmax(axis=1), minlength=2).tolist()
    assert (report.offered, report.used) == (120, int(sure.sum()))
    assert report.classes == {"no": counts[0], "yes": counts[1]}
    made = taught.train(run_of(taught))
    assert made.pseudo_labels == report
    assert made.rows == len(used)


def test_an_untrained_head_labels_no_row(world, tmp_path):
    world.data = freeze(world.home, scarce())
    run = run_of(world, unlabelled={"pseudoLabels": {"threshold": "0.01"}})
    assert world.parent.head == "Seeded"
    asked = run.train.model_copy(update={"seeded_head": True})
    made = world.train(run.model_copy(update={"train": asked}))
    assert (made.pseudo_labels.offered, made.pseudo_labels.used, made.rows) == (120, 0, 40)
    assert made.pseudo_labels.message == pseudo_labels.UNTRAINED
    assert rows_of(world, run, tmp_path).pseudo_labels.used == 120


def test_rows_longer_than_the_parent_can_read_are_refused(world):
    """As without the option, after the parent read as much of each as it can."""
    rows = scarce()
    rows["text"][1] = " ".join(["good"] * 50)
    world.data, run = freeze(world.home, rows), run_of(world)
    model = run.recipe.model.model_copy(update={"max_length": 40})
    run = run.model_copy(update={"recipe": run.recipe.model_copy(update={"model": model})})
    with pytest.raises(Refused, match="maxLength is 40, the model's limit 32 tokens"):
        world.train(run)


def test_the_parent_reads_the_rows_by_its_own_template_and_length(taught, tmp_path):
    """The recipe's are other ones: what it would read by them, it never learnt."""
    scores = scores_of(taught.parent)
    run = run_of(taught)
    model = run.recipe.model.model_copy(update={"max_length": 8})
    run = run.model_copy(update={"recipe": run.recipe.model_copy(update={"model": model})})
    found = rows_of(taught, run, tmp_path)
    assert found.examples.tokens.lengths.max() == 8
    without = np.array([label == "" for label in scarce()["label"]])
    sure = without & (scores.max(axis=1) >= np.float32(taught.threshold))
    assert {*found.units.rows} == {*np.flatnonzero(~without | sure)}
    np.testing.assert_array_equal(found.examples.labels[sure], scores[sure].argmax(axis=1))


def test_rows_without_a_column_that_the_parent_reads_are_refused(taught, tmp_path):
    folder = tmp_path / "parent"
    shutil.copytree(local_path(taught.parent.uri), folder)
    before = Preprocess.read(folder).model_copy(update={"text": None, "features": ["title"]})
    before.write(folder)
    run = run_of(taught)
    with pytest.raises(Refused, match=r"the parent reads \['title'\] and the rows have no title"):
        pseudo_labels.load(
            *taught.data,
            run.recipe,
            parent=Parent(folder, False, CPU),
            scratch=tmp_path,
        )


def test_probabilities_of_few_rows_are_in_memory_at_a_time(taught, tmp_path, monkeypatch):
    """And after memory ran out, of fewer rows in a pass."""
    whole = rows_of(taught, run_of(taught), tmp_path)
    asked: list[tuple[int, int]] = []
    predict = pseudo_labels.predict

    def recorded(*given: Any, **options: Any) -> NDArray[np.float32]:
        asked.append((len(options["rows"]), options["batch_size"]))
        return predict(*given, **options)

    monkeypatch.setattr(pseudo_labels, "predict", recorded)
    monkeypatch.setattr(pseudo_labels, "CHUNK", 50)
    run = run_of(taught)
    assert run.train is not None
    halved = run.model_copy(update={"train": run.train.model_copy(update={"batch_divisor": 4})})
    made = rows_of(taught, halved, tmp_path)
    assert asked == [(50, 2), (50, 2), (20, 2)]
    assert made.pseudo_labels == whole.pseudo_labels
    assert pseudo_labels.digest(made) == pseudo_labels.digest(whole)


def test_no_such_row_is_in_the_validation_split_nor_of_an_entity_in_it(taught, tmp_path):
    shoppers = np.array(scarce()["entity"])
    run = run_of(taught, earlyStopping={"validationFraction": "0.3", "everySteps": 4})
    found = rows_of(taught, run, tmp_path)
    assert len(found.validation) == 12
    assert (found.validation % 4 == 0).all(), "rows with a label"
    assert not {*shoppers[found.validation]} & {*shoppers[found.units.rows]}
    assert found.pseudo_labels.offered == 120 - 3 * 12
    assert found.pseudo_labels.used > 0
    assert "validation" in taught.train(run).metrics


def test_no_such_row_is_in_the_replay_buffer(taught):
    retention = {"replay": {"ratio": "0.5", "rowsPerClass": 30, "bufferRows": 100}}
    run = run_of(taught, retention=retention)
    made = taught.train(run)
    assert made.pseudo_labels.used > 0
    held = replay_buffer.read(made.buffer, run.recipe, [])
    texts = {text for text, label in zip(scarce()["text"], scarce()["label"], strict=True) if label}
    assert 0 < len(held.table) <= 40
    assert {*held.table["label"].to_pylist()} == {"no", "yes"}
    assert {*held.table["text"].to_pylist()} <= texts

    taught.data = freeze(taught.home, scarce(80, 2))
    again = run_of(taught, "g2-train-1", retention=retention)
    asked = again.train.model_copy(update={"buffer": made.buffer})
    second = taught.train(again.model_copy(update={"train": asked}))
    assert second.replay.rows > 0
    assert second.rows == 20 + second.replay.rows + second.pseudo_labels.used


def test_class_weights_count_rows_with_pseudo_labels_by_their_part(taught, tmp_path):
    taught.model = {"labels": ["no", "yes"], "classification": {"classWeights": "Balanced"}}
    found = rows_of(taught, run_of(taught), tmp_path)
    used = found.units.rows
    sums = np.bincount(found.examples.labels[used], found.examples.weights[used])
    assert sums[0] == pytest.approx(sums[1])
    labelled = found.examples.weights[used][used % 4 == 0]
    pseudo = found.examples.weights[used][used % 4 > 0]
    assert pseudo.mean() == pytest.approx(labelled.mean() / 4, rel=0.2)


def test_labels_that_the_parent_does_not_have_are_never_pseudo_labels(taught, tmp_path):
    rows = scarce()
    rows["label"][0] = "maybe"
    taught.data, taught.model = freeze(taught.home, rows), {"labels": ["no", "yes", "maybe"]}
    found = rows_of(taught, run_of(taught), tmp_path)
    assert list(found.pseudo_labels.classes) == ["no", "yes"]
    assert found.examples.labels[0] == 2
    assert not (found.examples.labels[found.unlabelled] == 2).any()
    left_out = np.setdiff1d(found.unlabelled, found.units.rows)
    assert (found.examples.labels[left_out] == UNKNOWN).all()
    assert taught.train(run_of(taught)).pseudo_labels == found.pseudo_labels


def weights(made: Any) -> dict[str, torch.Tensor]:
    return load_file(local_path(made.artifact.uri) / "model.safetensors")


def test_a_resumed_training_gives_the_same_weights(taught, caplog):
    options = {
        "checkpoint": {"everySteps": 4, "keep": 9},
        "hyperparameters": {**FAST, "dropout": "0.1"},
    }
    whole = taught.train(run_of(taught, "whole", **options))
    (first, *later) = sorted(taught.home.checkpoints(1).iterdir())
    assert first.name == "step-000000004"
    for each in later:
        shutil.rmtree(each)
    with caplog.at_level("INFO"):
        resumed = taught.train(run_of(taught, "resumed", **options))
    assert "resumed" in caplog.messages
    assert resumed.artifact.digest == whole.artifact.digest
    assert resumed.pseudo_labels == whole.pseudo_labels
    others = {"unlabelled": {"pseudoLabels": {"threshold": taught.threshold, "weight": "0.3"}}}
    other = taught.train(run_of(taught, "other", **options | others))
    assert other.artifact.digest != whole.artifact.digest


def with_another_label(rows: TrainingRows) -> TrainingRows:
    labels = rows.examples.labels.copy()
    used = np.intersect1d(rows.unlabelled, rows.units.rows)
    labels[used[0]] = 1 - labels[used[0]]
    return replace(rows, examples=replace(rows.examples, labels=labels))


def test_other_pseudo_labels_are_another_run_which_saves_its_own_checkpoints(
    taught, tmp_path, caplog
):
    """As a GPU of another kind may find them, where the parent is as good as sure of a row."""
    found = rows_of(taught, run_of(taught), tmp_path)
    other = with_another_label(found)
    assert pseudo_labels.digest(other) != pseudo_labels.digest(found) != ""
    assert pseudo_labels.digest(replace(found, pseudo_labels=None)) == ""
    options = {"checkpoint": {"everySteps": 4, "keep": 1}}

    def prepared_of(rows: TrainingRows, job: str) -> session.Session:
        folder = tmp_path / job
        folder.mkdir(exist_ok=True)
        run = run_of(taught, job, **options)
        parent = local_path(taught.parent.uri)
        return session.prepare(run, rows, parent, device=CPU, scratch=folder)

    fit.fit(prepared_of(found, "one"))
    (left,) = taught.home.checkpoints(1).iterdir()
    assert left.name == "step-000000008"
    with caplog.at_level("INFO"):
        fit.fit(prepared_of(other, "two"))
    assert "resumed" not in caplog.messages
    assert "checkpoint belongs to another run and was removed" in caplog.messages
    newest = prepared_of(other, "three").checkpoints.newest()
    assert newest is not None
    assert newest.step == 8
    assert prepared_of(found, "four").checkpoints.newest() is None


def test_the_ratio_of_replay_counts_the_rows_that_the_parent_labelled(taught, tmp_path):
    """And replayed rows have their mean weight: each source counts by its number of rows."""
    retention = {"replay": {"ratio": "0.5", "rowsPerClass": 0, "bufferRows": 100}}
    first = taught.train(run_of(taught, retention=retention))
    taught.data = freeze(taught.home, scarce(60, 2))
    run = run_of(taught, "g2-train-1", retention=retention)
    assert run.train is not None
    asked = run.train.model_copy(update={"buffer": first.buffer})
    found = rows_of(taught, run.model_copy(update={"train": asked}), tmp_path)
    new = found.units.rows[found.units.rows < found.first_replayed]
    again = found.units.rows[found.units.rows >= found.first_replayed]
    assert len(new) == 15 + found.pseudo_labels.used > 15
    assert len(again) == found.replayed.rows == len(new) // 2
    weights = found.examples.weights
    np.testing.assert_allclose(weights[again], weights[new].mean(dtype=np.float64), rtol=1e-6)


def test_halved_passes_give_the_same_weights_within_rounding(taught):
    tuned = {"maxSteps": 6, "batchSize": 8, "gradientAccumulation": 2, "precision": "FP32"}
    tuned |= {"optimizer": "SGD", "learningRate": "0.1"}
    made = []
    for of in (1, 8):
        run = run_of(taught, f"of-{of}", hyperparameters=tuned)
        asked = run.train.model_copy(update={"batch_divisor": of})
        made.append(weights(taught.train(run.model_copy(update={"train": asked}))))
    for name in made[0]:
        torch.testing.assert_close(made[1][name], made[0][name], atol=1e-5, rtol=0)


def test_several_labels_of_a_row_are_refused(world):
    world.model = {"labels": ["no", "yes"], "classification": {"multiLabel": True}}
    task, run = task_of(run_of(world).recipe.model), run_of(world)
    with pytest.raises(Refused, match="task MultiLabel is not trained with unlabelled"):
        _check_options(task, run.recipe.training, ALONE)


def test_rows_that_all_have_labels_are_trained_on_as_without_the_option(world):
    plain = world.train(world.run_file("plain", hyperparameters=FAST))
    made = world.train(run_of(world, "option"))
    assert (made.pseudo_labels.offered, made.pseudo_labels.used) == (0, 0)
    assert plain.pseudo_labels is None
    assert made.artifact.digest == plain.artifact.digest
    assert len(read_rows(world.data[0], "train")) == made.rows
