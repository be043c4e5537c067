"""A candidate learns its parent's outputs too: recorded once, for old labels, by any passes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from trainer.training.conftest import LABELS, World, freeze, imported, publish, toy_rows
from trainer.training.processes.group import Case, Found, together, train
from trainer.training.processes.test_gradients import difference, update
from trainer.training.test_multi_label import SEVERAL, labelled
from trainer.training.test_ranking import lists
from trainer.training.test_regression import REGRESSION, priced
from trainer.training.test_replay_of_tasks import RANKING, run_of, world_of

from springtide_api.update.retention import Distillation as Options
from springtide_api.update.retention import Retention
from springtide_api.update.task import CausalLMOptions
from springtide_trainer.artifact import manifest
from springtide_trainer.artifact.models import load
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.snapshots.frozen_rows import inputs, read_chunks
from springtide_trainer.errors import Refused
from springtide_trainer.processes import ALONE
from springtide_trainer.storage import Home, local_path
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.language.causal_lm import CausalLM
from springtide_trainer.tasks.language.masked_lm import MaskedLM
from springtide_trainer.tasks.task import Batch
from springtide_trainer.training.plan import _check_options
from springtide_trainer.training.retention import distillation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_api.contract import CommittedArtifact, RunFile

DISTILLED = {"distillation": {"weight": "2", "temperature": "2"}}
SGD = {"batchSize": 8, "gradientAccumulation": 4, "optimizer": "SGD", "learningRate": "0.1"}
FP32 = {**SGD, "precision": "FP32"}


class Echo(torch.nn.Module):
    """A model whose logits are its inputs."""

    def forward(self, x: torch.Tensor) -> Any:
        return type("Outputs", (), {"logits": x})()


def test_the_loss_is_that_of_the_task_plus_weight_times_the_divergence_of_old_labels():
    task = Classification(["no", "yes", "later"])
    logits = torch.tensor([[1.0, 0.0, 4.0], [0.0, 2.0, -3.0]])
    taught = torch.tensor([[0.0, 1.0], [0.0, 2.0]])  # the parent has two labels
    batch = Batch({"x": logits}, torch.tensor([2, 1]), torch.tensor([0.25, 0.75]), taught=taught)
    found = distillation.Distillation(Options(weight="2", temperature="1"), task)(Echo(), batch)

    p, q = taught[0].softmax(0), logits[0, :2].softmax(0)
    apart = 0.25 * float((p * (p / q).log()).sum())  # the other row agrees
    assert found.item() == pytest.approx(task.objective(Echo(), batch).item() + 2 * apart)


def test_an_untrained_head_teaches_nothing():
    asked = Retention(distillation=Options())
    assert distillation.wanted(asked, seeded=True) is None
    assert distillation.wanted(asked, seeded=False) == asked.distillation
    assert distillation.wanted(None, seeded=False) is None


@pytest.mark.parametrize("option", ["distillation", "ewc"])
@pytest.mark.parametrize("task", [CausalLM(CausalLMOptions()), MaskedLM()])
def test_tasks_whose_outputs_are_tokens_are_refused_before_the_first_step(world, task, option):
    block = {"distillation": {"distillation": {}}, "ewc": {"ewc": {"strength": "1"}}}[option]
    training = world.run_file(retention=block).recipe.training
    with pytest.raises(Refused, match=f"is not trained with retention.{option}"):
        _check_options(task, training, ALONE)


@pytest.fixture
def recorded(monkeypatch) -> Iterator[list[Any]]:
    """The examples with what is taught, of each training."""
    made: list[Any] = []
    taught = distillation.taught

    def kept(*given: Any, **named: Any) -> Any:
        rows = taught(*given, **named)
        made.append(rows)
        return rows

    monkeypatch.setattr(distillation, "taught", kept)
    return made


def test_what_is_taught_are_the_logits_of_the_parent_for_the_training_rows(world, recorded):
    first = world.train(world.run_file(hyperparameters={"maxSteps": 20, "learningRate": "1e-3"}))
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    world.parent = first.artifact
    more = {"earlyStopping": {"everySteps": 50}, "hyperparameters": {"maxSteps": 2}}
    world.train(world.run_file("g2-train-1", **more, retention=DISTILLED))

    (rows,) = recorded
    scorer = load(local_path(first.artifact.uri), first.artifact.digest)
    table = list(read_chunks(world.data[0], "train", ["text"]))
    expected = np.concatenate(
        [scorer.predict(scorer.preprocess.render(inputs(batch))) for batch in table]
    )
    learnt = rows.units.rows
    assert len(rows.validation) > 0
    found = torch.from_numpy(rows.examples.taught[learnt]).softmax(-1).numpy()
    np.testing.assert_allclose(found, expected[learnt], atol=1e-5)
    assert not rows.examples.taught[rows.validation].any()


def test_the_parent_reads_new_and_replayed_rows_by_its_own_template_and_length(world, recorded):
    """The recipe's length is another one: what it would read by it, it never learnt."""
    tuned = {"hyperparameters": {"maxSteps": 20, "learningRate": "1e-3"}}
    kept = {"replay": {"ratio": "0.5"}, **DISTILLED}
    first = world.train(world.run_file(**tuned, retention=kept))
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    recorded.clear()
    world.parent = first.artifact
    world.data = freeze(world.home, toy_rows(40, seed=1))
    run = world.run_file("g2-train-1", hyperparameters={"maxSteps": 2}, retention=kept)
    assert run.train is not None
    model = run.recipe.model.model_copy(update={"max_length": 6})
    run = run.model_copy(
        update={
            "recipe": run.recipe.model_copy(update={"model": model}),
            "train": run.train.model_copy(update={"buffer": first.buffer}),
        }
    )
    world.train(run)

    (rows,) = recorded
    assert rows.examples.tokens.lengths.max() == 6
    assert rows.replayed.rows == 20
    scorer = load(local_path(first.artifact.uri), first.artifact.digest)
    learnt = rows.units.rows
    assert len(learnt) == 60
    texts = [
        scorer.tokenizer.decode(
            rows.read_by_parent.batch([row])["input_ids"][0], skip_special_tokens=True
        )
        for row in learnt
    ]
    new = list(read_chunks(world.data[0], "train", ["text"]))
    known = [text for batch in new for text in batch["text"].to_pylist()]
    assert texts[:40] == known
    expected = scorer.predict([(text, None) for text in texts])
    found = torch.from_numpy(rows.examples.taught[learnt]).softmax(-1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rows_without_a_column_that_the_parent_reads_are_refused(world, tmp_path):
    folder = tmp_path / "parent"
    shutil.copytree(local_path(world.parent.uri), folder)
    before = Preprocess.read(folder).model_copy(update={"text": None, "features": ["title"]})
    before.write(folder)
    world.parent = manifest.commit(folder, world.home)
    with pytest.raises(Refused, match=r"no title, so it cannot teach rows") as refused:
        world.train(world.run_file(retention=DISTILLED))
    assert refused.value.failure.field == "spec.training.retention.distillation"


def weights(made: CommittedArtifact) -> torch.Tensor:
    values = load_file(local_path(made.uri) / "model.safetensors").values()
    return torch.cat([value.flatten() for value in values])


def test_halved_passes_give_the_same_weights_within_rounding(world):
    more = {"hyperparameters": FP32, "retention": DISTILLED}
    whole, halved = (
        weights(world.train(world.run_file(f"of-{divisor}", divisor=divisor, **more)).artifact)
        for divisor in (1, 8)
    )
    torch.testing.assert_close(halved, whole, atol=1e-5, rtol=0)
    plain = weights(world.train(world.run_file("plain", hyperparameters=FP32)).artifact)
    assert (plain - whole).abs().max() > 1e-3, "the option has an effect"


@pytest.mark.parametrize(
    "more",
    [
        {"method": {"type": "LoRA", "lora": {"rank": 4}}},
        {
            "robustness": {
                "adversarial": {"epsilon": "0.5"},
                "augmentation": {"tokenDropout": "0.1"},
            }
        },
    ],
    ids=["LoRA", "robust"],
)
def test_a_resumed_training_gives_the_same_weights(world, more):
    more |= {
        "hyperparameters": {**SGD, "dropout": "0.1"},
        "checkpoint": {"everySteps": 4},
        "retention": DISTILLED,
    }
    whole = world.train(world.run_file("whole", **more)).artifact
    (first, *later) = sorted(world.home.checkpoints(1).iterdir())
    assert first.name == "step-000000004"
    for each in later:
        shutil.rmtree(each)
    assert world.train(world.run_file("resumed", **more)).artifact.digest == whole.digest


def test_stored_outputs_of_frozen_layers_are_taught_by_the_same_logits(world):
    """What is taught is recorded before they are stored, and is one forward pass either way."""
    frozen = {**SGD, "epochs": 2, "freeze": {"lowerLayers": 1}, "precision": "FP32"}
    made = world.train(world.run_file(hyperparameters=frozen, retention=DISTILLED))
    plain = world.train(world.run_file("g1-train-2", hyperparameters=frozen))
    assert made.artifact.digest != plain.artifact.digest
    before, after = (
        load_file(local_path(each.uri) / "model.safetensors")
        for each in (world.parent, made.artifact)
    )
    lower = [name for name in before if "layer.0." in name or "embeddings" in name]
    assert all(torch.equal(before[name], after[name]) for name in lower)


def with_parent(run: RunFile, **changes: Any) -> RunFile:
    assert run.train
    return run.model_copy(update={"train": run.train.model_copy(update=changes)})


def test_answers_of_the_parent_are_kept_against_rows_that_contradict_them(world):
    learnt = {
        "maxSteps": 120,
        "batchSize": 16,
        "learningRate": "2e-3",
        "freeze": {"embeddings": False},
    }
    world.parent = world.train(world.run_file(hyperparameters=learnt)).artifact
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    rows = toy_rows(240, seed=1)
    rows["label"] = [LABELS[1 - LABELS.index(label)] for label in rows["label"]]
    world.data, before = freeze(world.home, rows), world.data

    def kept(job: str, **retention: Any) -> float:
        made = world.train(world.run_file(job, hyperparameters=learnt, **retention)).artifact
        shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
        scorer = load(local_path(made.uri), made.digest)
        (table,) = read_chunks(before[0], "train", ["text", "label"])
        scores = scorer.predict(scorer.preprocess.render(inputs(table)))
        truth = scorer.task.encode(table["label"], "rows")
        return float((scores.argmax(axis=1) == truth).mean())

    strong = {"distillation": {"weight": "20", "temperature": "2"}}
    assert kept("g2-train-1") < 0.2
    assert kept("g2-train-2", retention=strong) > 0.8


TASKS = {
    "Regression": (REGRESSION, lambda: priced(toy_rows(80))),
    "Ranking": (RANKING, lambda: lists(30)),
    "several labels": (SEVERAL, lambda: labelled(toy_rows(80), dressed=False)),
}


@pytest.mark.parametrize("name", TASKS)
def test_each_task_is_trained_with_its_parents_outputs(tmp_path, name):
    model, rows = TASKS[name]
    world = world_of(tmp_path, model, rows())
    options = {"retention": {"distillation": {"weight": "5"}}}
    first = run_of(world, "g1-train-1", training={"retention": None})
    world.parent = world.train(first).artifact
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    plain = world.train(run_of(world, "g2-train-1", training={"retention": None}))
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    made = world.train(run_of(world, "g2-train-2", training=options))
    assert made.artifact.digest != plain.artifact.digest


def test_appended_labels_are_learnt_beside_the_old_ones(world, freeze_rows, recipe_with):
    rows = {"text": ["good", "bad"] * 16, "label": ["maybe", "no"] * 16}
    rows["entity"] = [str(number) for number in range(32)]
    data, labels = freeze_rows(world.home, rows), [*LABELS, "maybe"]
    run = world.run_file(hyperparameters={"maxSteps": 4}, retention=DISTILLED)
    made = world.train(recipe_with(run, labels, data)).artifact
    assert load(local_path(made.uri), made.digest).preprocess.labels == labels


@pytest.mark.parametrize("kind", ["DDP", "FSDP"])
def test_two_processes_learn_what_one_learns(tmp_path, kind):
    home = Home(tmp_path / "models" / "shop" / "ranker")
    rows = freeze(home, toy_rows(60))
    world = World(home, imported(publish(tmp_path / "published"), home, LABELS), rows)
    steps = {"batchSize": 19, "optimizer": "SGD", "learningRate": "0.1", "precision": "FP32"}

    def case(name: str, **training: Any) -> Case:
        run = world.run_file(f"g1-{name}-1", divisor=3, hyperparameters=steps, **training)
        return Case(name, with_parent(run, checkpoints=str(tmp_path / name)))

    (tmp_path / "one").mkdir()
    one = train(case("one", retention=DISTILLED), tmp_path / "one")
    several: Found = together(
        [case("two", retention=DISTILLED, parallelism={"type": kind})], 2, tmp_path / "run"
    )["two"]
    assert difference(update(several), update(one)) < 1e-3
    assert several.measured["loss"] == pytest.approx(one.measured["loss"], rel=1e-5)
