"""A small ranker: import, training by each loss, early stopping, resume, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from trainer.training.conftest import BAD, GOOD, PLAIN, World, freeze, publish, recipe
from trainer.training.interrupting import whole_and_resumed

from springtide_api.contract import RunFile
from springtide_trainer.artifact.models import load
from springtide_trainer.errors import Refused
from springtide_trainer.stages.import_model import import_model
from springtide_trainer.storage import Home, local_path
from springtide_trainer.tasks.metrics.statistic import EncodedRows, whole
from springtide_trainer.tasks.ranking_losses import LOSSES
from springtide_trainer.training.rows import training_rows

if TYPE_CHECKING:
    from pathlib import Path

GAINS = {"irrelevant": "0", "partial": "1", "exact": "3"}
FAST = {"epochs": 8, "learningRate": "3e-3", "batchSize": 8, "precision": "FP32"}


def lists(count: int, seed: int = 0) -> dict[str, list[Any]]:
    """Queries with 3 to 7 items each; a good word makes an item exact, none makes it partial."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {name: [] for name in ("text", "text_pair", "label", "group")}
    for number in range(count):
        query = " ".join(rng.choice(PLAIN, 2))
        for _ in range(int(rng.integers(3, 8))):
            label = str(rng.choice(list(GAINS), p=[0.6, 0.2, 0.2]))
            word = {"irrelevant": BAD, "partial": PLAIN, "exact": GOOD}[label]
            rows["text"].append(query)
            rows["text_pair"].append(f"{rng.choice(PLAIN)} {rng.choice(word)}")
            rows["label"].append(label)
            rows["group"].append(f"q{number}")
    return rows | {"entity": rows["group"]}


class Ranker(World):
    """A storage with an imported ranker and frozen lists."""

    ranking: dict[str, Any]

    def run_file(self, job: str = "g1-train-1", *, divisor: int = 1, **training: Any) -> RunFile:
        run = super().run_file(job, divisor=divisor, **training)
        return ranking_run(run, self.ranking)


def ranking_run(run: RunFile, options: dict[str, Any]) -> RunFile:
    plain = run.model_dump(mode="json", by_alias=True, exclude_none=True)
    model = plain["recipe"]["model"]
    del model["labels"]
    model |= {"task": "Ranking", "ranking": {"gains": GAINS, **options}}
    columns = plain["recipe"]["data"]["source"]["columns"]
    columns |= {"textPair": "item", "group": "query", "entity": "query"}
    return RunFile.model_validate(plain)


@pytest.fixture
def ranker(tmp_path: Path, published: Path):
    """Return a function that makes a ranker with these options and rows."""

    def of(rows: dict[str, list[Any]] | None = None, **options: Any) -> Ranker:
        home = Home(tmp_path / "models" / "shop" / "ranker")
        run = {
            "stage": "import",
            "namespace": "shop",
            "update": "ranker",
            "number": 0,
            "job": "g0-import-1",
            "home": str(home.path),
            "recipe": recipe(),
            "import": {"uri": published.as_uri()},
        }
        importing = ranking_run(RunFile.model_validate(run), options)
        with home.tmp(importing.job, "pod") as tmp:
            parent = import_model(importing, home, tmp)
        made = Ranker(home, parent, freeze(home, rows or lists(60)))
        made.ranking = options
        return made

    return of


def quality(uri: str, digest: str, metric: str = "ndcg@10") -> tuple[float, float]:
    """Return a metric of a model on other lists, and that of a random order."""
    scorer, rows = load(local_path(uri), digest), lists(80, seed=9)
    scores = scorer.predict(list(zip(rows["text"], rows["text_pair"], strict=True)))
    group = np.unique(rows["group"], return_inverse=True)[1]
    gains = np.array([float(GAINS[label]) for label in rows["label"]])
    encoded = EncodedRows(gains, group, group)
    found = whole(scorer.task.statistic(metric, encoded, scores), encoded)
    return found, scorer.task.trivial_baseline(metric, encoded)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_model_learns_to_rank_above_a_random_order_by_each_loss(ranker, loss):
    world = ranker(loss=loss)
    made = world.train(world.run_file(hyperparameters=FAST))
    found, by_chance = quality(made.artifact.uri, made.artifact.digest)
    assert by_chance + 0.15 < found <= 1


def test_a_model_without_a_head_gets_one_seeded_output(ranker):
    world = ranker()
    scorer = load(local_path(world.parent.uri), world.parent.digest)
    assert (world.parent.head, scorer.model.config.num_labels) == ("Seeded", 1)
    assert scorer.model.config.id2label == {0: "score"}
    assert scorer.predict([("red", "lamp"), ("red", "good lamp")]).shape == (2, 1)


def test_a_model_with_one_output_keeps_its_trained_head(tmp_path, ranker, monkeypatch):
    head = publish(tmp_path / "cross-encoder", ["LABEL_0"])
    home = Home(tmp_path / "with-head")
    run = {
        "stage": "import",
        "namespace": "shop",
        "update": "ranker",
        "number": 0,
        "job": "g0-import-1",
        "home": str(home.path),
        "recipe": recipe(),
        "import": {"uri": head.as_uri()},
    }
    importing = ranking_run(RunFile.model_validate(run), {})
    with home.tmp(importing.job, "pod") as tmp:
        assert import_model(importing, home, tmp).head == "Trained"


@pytest.mark.parametrize("metric", ["ndcg@10", "mrr", "loss"])
def test_early_stopping_keeps_the_best_weights_by_a_metric_of_groups(ranker, metric):
    world = ranker()
    stopping = {"metric": metric, "everySteps": 4, "patience": 9, "validationFraction": "0.3"}
    made = world.train(world.run_file(hyperparameters=FAST, earlyStopping=stopping))
    assert made.metrics["best_step"] > 0
    assert np.isfinite(made.metrics["validation"])
    assert made.rows < len(lists(60)["text"])


def test_smaller_passes_give_the_same_loss_and_weights_within_tolerance(ranker):
    world = ranker()
    made = [
        world.train(world.run_file(f"by-{divisor}", divisor=divisor, hyperparameters=FAST))
        for divisor in (1, 16)
    ]
    rows = lists(10, seed=7)
    pairs = list(zip(rows["text"], rows["text_pair"], strict=True))
    whole_, parts = (
        load(local_path(each.artifact.uri), each.artifact.digest).predict(pairs) for each in made
    )
    # The loss of a list is the same after a shift of all scores: rounding decides the shift.
    assert np.ptp(whole_) > 1
    np.testing.assert_allclose(whole_ - whole_.mean(), parts - parts.mean(), rtol=0, atol=0.02)
    assert made[0].metrics["loss"] == pytest.approx(made[1].metrics["loss"], rel=1e-3)


def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(ranker, monkeypatch):
    options = {
        "hyperparameters": FAST | {"dropout": "0.1"},
        "earlyStopping": {"metric": "ndcg@10", "everySteps": 5, "patience": 50},
        "checkpoint": {"everySteps": 3},
    }
    world = ranker()
    undisturbed, resumed = whole_and_resumed(world, options, monkeypatch)
    assert resumed.artifact.digest == undisturbed.artifact.digest


def uniform(count: int) -> dict[str, list[Any]]:
    """Lists whose rows all have one gain."""
    return {
        "text": ["red"] * count,
        "text_pair": ["lamp"] * count,
        "label": ["exact"] * count,
        "group": [f"u{row // 2}" for row in range(count)],
        "entity": [f"u{row // 2}" for row in range(count)],
    }


@pytest.mark.parametrize(("loss", "dropped"), [("Pairwise", 5), ("Listwise", 5), ("Pointwise", 0)])
def test_groups_of_one_gain_are_dropped_and_counted_where_the_loss_compares(ranker, loss, dropped):
    mixed = {name: [*values, *uniform(10)[name]] for name, values in lists(20).items()}
    ordered = lists(20)
    known = {
        group
        for group in ordered["group"]
        if len({ordered["label"][row] for row, own in enumerate(ordered["group"]) if own == group})
        < 2
    }
    world = ranker(mixed, loss=loss)
    made = world.train(world.run_file(hyperparameters=FAST | {"epochs": 1}))
    assert made.metrics["groups_without_loss"] == (dropped and dropped + len(known))


def test_training_without_a_group_of_two_gains_is_refused(ranker):
    world = ranker(uniform(8))
    with pytest.raises(Refused, match="0 of 4 training groups have rows of different gains"):
        world.train(world.run_file())


def test_a_group_larger_than_a_pass_is_refused_with_number_and_bound(ranker):
    world = ranker(maxGroupRows=4)
    with pytest.raises(Refused, match=r"training groups have more than 4 rows; the largest"):
        world.train(world.run_file())


def test_a_row_of_weight_0_stays_in_its_group_and_a_group_of_weight_0_is_skipped(ranker):
    rows = lists(20)
    weights = [0.0 if group == "q1" else 1.0 for group in rows["group"]]
    weights[rows["group"].index("q0")] = 0.0
    world = ranker(rows | {"weight": weights}, loss="Pointwise")
    parent = local_path(world.parent.uri)
    scratch = world.home.path / "tmp"
    run = world.run_file()
    read = training_rows.load(*world.data, run.recipe, parent=parent, scratch=scratch)
    trained = {rows["group"][row] for row in read.units.rows}
    assert trained == set(rows["group"]) - {"q1"}
    assert (read.examples.weights[read.units.rows] == 0).sum() == 1


def test_gains_of_the_recipe_are_those_of_the_artifact(ranker):
    world = ranker(loss="Pairwise", maxGroupRows=9)
    scorer = load(local_path(world.parent.uri), world.parent.digest)
    assert scorer.task.gains == {"irrelevant": 0.0, "partial": 1.0, "exact": 3.0}
    assert replace(scorer.task, loss="Listwise").grouping.max_rows == 9


def test_frozen_labels_are_the_names_and_their_hash_is_that_of_texts(ranker):
    world = ranker()
    table = pq.read_table(world.data[0] / "train.parquet")
    assert str(table["label"].type) == "string"


def test_a_ranker_trained_with_adapters_is_served_by_its_artifact_alone(ranker):
    world = ranker()
    method = {"type": "LoRA", "lora": {"rank": 4}}
    made = world.train(
        world.run_file(method=method, hyperparameters=FAST | {"learningRate": "1e-2"})
    )
    found, by_chance = quality(made.artifact.uri, made.artifact.digest)
    assert by_chance + 0.15 < found <= 1
    files = [
        {path.name for path in local_path(each.uri).iterdir()}
        for each in (world.parent, made.artifact)
    ]
    assert files[0] == files[1]
