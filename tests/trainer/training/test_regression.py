"""Prices that are a formula of the words of a text, learnt, continued and predicted."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from trainer.training.conftest import World, freeze, imported, publish, tokenizer, toy_rows
from transformers import BertForSequenceClassification

from springtide_trainer.artifact.models import load
from springtide_trainer.data.snapshots.frozen_rows import inputs
from springtide_trainer.errors import Refused
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_trainer.artifact.models import Scorer

REGRESSION: dict[str, Any] = {"task": "Regression"}
PRICES = {"good": 90.0, "great": 70.0, "lovely": 60.0, "fine": 50.0}
FAST = {
    "epochs": 12,
    "learningRate": "3e-3",
    "batchSize": 16,
    "freeze": {"embeddings": False},
}


def priced(rows: dict[str, list[Any]], *, more: float = 0.0) -> dict[str, list[Any]]:
    """Replace the labels by a price: that of the one word, plus 1 for each other word."""

    def price(text: str) -> float:
        words = text.split()
        return 200 + more + sum(PRICES.get(word, 1.0) for word in words)

    return rows | {"label": [price(text) for text in rows["text"]]}


@pytest.fixture
def pricing(tmp_path: Path) -> World:
    home = Home(tmp_path / "models" / "shop" / "pricing")
    parent = imported(publish(tmp_path / "published"), home, model=REGRESSION)
    return World(home, parent, freeze(home, priced(toy_rows(240))), REGRESSION)


def scorer(artifact: Any) -> Scorer:
    return load(local_path(artifact.uri), artifact.digest)


def predictions(artifact: Any, data: tuple[Path, str]) -> tuple[np.ndarray, np.ndarray]:
    table = pq.read_table(data[0] / "train.parquet")
    model = scorer(artifact)
    return model.predict(model.preprocess.render(inputs(table)))[:, 0], table["label"].to_numpy()


def test_prices_far_from_0_are_learnt_and_later_generations_keep_the_scale(pricing):
    first = pricing.train(pricing.run_file(hyperparameters=FAST))
    found, prices = predictions(first.artifact, pricing.data)
    assert np.abs(found - prices).mean() < 0.5 * np.abs(np.median(prices) - prices).mean()
    options = scorer(first.artifact).preprocess.regression
    assert float(options.location) == pytest.approx(prices.mean())
    assert float(options.spread) == pytest.approx(prices.std())

    pricing.parent = first.artifact
    pricing.data = freeze(pricing.home, priced(toy_rows(240, seed=1), more=30.0))
    second = pricing.train(pricing.run_file("g2-train-1", hyperparameters=FAST))
    found, prices = predictions(second.artifact, pricing.data)
    assert np.abs(found - prices).mean() < 0.5 * np.abs(np.median(prices) - prices).mean()
    assert scorer(second.artifact).preprocess.regression == options


def test_the_same_rows_give_the_same_artifact_with_early_stopping_and_huber(pricing):
    pricing.model = REGRESSION | {
        "regression": {"loss": {"type": "Huber", "huber": {"delta": "0.5"}}}
    }
    options = {
        "hyperparameters": {"epochs": 2, "learningRate": "3e-3", "batchSize": 16},
        "earlyStopping": {"everySteps": 5, "patience": 9},
    }
    made = [pricing.train(pricing.run_file(f"g1-train-{n}", **options)) for n in (1, 2)]
    assert made[0].artifact.digest == made[1].artifact.digest
    assert 0 < made[0].metrics["validation"] < 40, "the default metric is the RMSE, in prices"
    pricing.model = REGRESSION
    assert pricing.train(pricing.run_file("g1-train-3", **options)).artifact != made[0].artifact


def test_row_weights_count_like_repeated_rows_in_what_is_learnt(pricing):
    rows = priced(toy_rows(64))
    wrong = {name: [*values, *values] for name, values in rows.items()}
    wrong["label"] = [*rows["label"], *(price + 500 for price in rows["label"])]
    wrong["weight"] = [1.0] * 64 + [0.0] * 64
    pricing.data = freeze(pricing.home, wrong)
    made = pricing.train(pricing.run_file(hyperparameters=FAST))
    found, _ = predictions(made.artifact, pricing.data)
    assert found.max() < 400


def trained_head(folder: Path) -> BertForSequenceClassification:
    publish(folder, ["value"])
    return BertForSequenceClassification.from_pretrained(folder, num_labels=1).eval()


def natural(model: BertForSequenceClassification, texts: list[str]) -> list[float]:
    words = tokenizer()(texts, padding=True, return_tensors="pt")
    words.pop("token_type_ids", None)
    with torch.no_grad():
        return model(**words).logits[:, 0].tolist()


@pytest.mark.parametrize(
    "scale", [{}, {"location": "250", "spread": "40"}], ids=["as it is", "declared"]
)
def test_a_trained_head_predicts_the_same_after_the_import(tmp_path, scale):
    texts = ["a good lamp", "the broken dress"]
    expected = natural(trained_head(tmp_path / "published"), texts)
    home = Home(tmp_path / "models" / "shop" / "pricing")
    model = REGRESSION | ({"regression": scale} if scale else {})
    made = imported(tmp_path / "published", home, model=model)
    served = scorer(made)
    assert made.head == "Trained"
    kept = served.preprocess.regression
    assert (kept.location, kept.spread) == (
        (scale or {"location": "0"})["location"],
        (scale or {"spread": "1"})["spread"],
    )
    assert served.predict([(text, None) for text in texts])[:, 0].tolist() == pytest.approx(
        expected, abs=1e-4
    )


def test_a_parent_with_two_outputs_is_refused(world):
    world.model = REGRESSION
    world.data = freeze(world.home, priced(toy_rows(40)))
    with pytest.raises(Refused, match=r"the parent has 2 outputs, Regression has 1") as refused:
        world.train(world.run_file(hyperparameters=FAST))
    assert refused.value.failure.field == "spec.model.task"


def test_a_training_resumed_from_any_checkpoint_gives_the_same_artifact(pricing, caplog):
    options = {
        "hyperparameters": {"maxSteps": 40, "batchSize": 16, "dropout": "0.1"},
        "earlyStopping": {"everySteps": 7, "patience": 9, "metric": "mae"},
        "checkpoint": {"everySteps": 10, "keep": 10},
    }
    whole = pricing.train(pricing.run_file(**options))
    caplog.set_level(logging.INFO, "springtide_trainer")
    for newest in sorted(pricing.home.checkpoints(1).iterdir())[1:]:
        shutil.rmtree(newest)
    resumed = pricing.train(pricing.run_file("g1-train-2", **options))
    assert "resumed" in caplog.messages
    assert resumed.artifact.digest == whole.artifact.digest
