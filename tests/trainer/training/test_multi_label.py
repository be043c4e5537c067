"""Rows with several labels, trained, evaluated against a live model, and a label appended."""

from __future__ import annotations

import json
import logging
import shutil
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from trainer.training.conftest import World, freeze, imported, publish, toy_rows

from springtide_trainer.artifact.models import load
from springtide_trainer.data.snapshots.frozen_rows import inputs
from springtide_trainer.storage import Home, local_path

SEVERAL: dict[str, Any] = {"classification": {"multiLabel": True}, "labels": ["kind", "coloured"]}
FAST = {
    "epochs": 20,
    "learningRate": "1e-3",
    "batchSize": 16,
    "freeze": {"embeddings": False},
}


def labelled(rows: dict[str, list[Any]], *, dressed: bool) -> dict[str, list[Any]]:
    """Mark texts with a kind word, with a colour and, if asked, with a dress."""

    def mark(text: str, yes: str) -> str:
        words = set(text.split())
        has = [yes == "yes", bool(words & {"red", "blue"}), "dress" in words]
        return "".join(str(int(one)) for one in has[: 3 if dressed else 2])

    marks = [mark(text, yes) for text, yes in zip(rows["text"], rows["label"], strict=True)]
    return rows | {"label": marks}


def scored(artifact: Any, data: Any) -> tuple[np.ndarray, np.ndarray]:
    table = pq.read_table(data[0] / "train.parquet")
    scorer = load(local_path(artifact.uri), artifact.digest)
    found = scorer.predict(scorer.preprocess.render(inputs(table)))
    return found, scorer.task.encode(table["label"], "rows")


def hits(artifact: Any, data: Any) -> np.ndarray:
    scores, truth = scored(artifact, data)
    return np.asarray(((scores >= 0.5) == truth).mean(axis=0))


def test_each_label_is_learnt_and_a_label_is_appended_later(tmp_path):
    home = Home(tmp_path / "models" / "shop" / "topics")
    parent = imported(publish(tmp_path / "published"), home, model=SEVERAL)
    world = World(home, parent, freeze(home, labelled(toy_rows(240), dressed=False)), SEVERAL)
    first = world.train(
        world.run_file(hyperparameters=FAST, earlyStopping={"metric": "macro_f1", "patience": 9})
    )
    assert hits(first.artifact, world.data).min() > 0.85
    config = json.loads((local_path(first.artifact.uri) / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification", "plain transformers reads it"

    world.parent = first.artifact
    world.model = SEVERAL | {"labels": ["kind", "coloured", "dressed"]}
    world.data = freeze(home, labelled(toy_rows(240, seed=1), dressed=True))
    second = world.train(world.run_file("g2-train-1", hyperparameters=FAST))
    assert hits(second.artifact, world.data)[:2].min() > 0.85
    scores, truth = scored(second.artifact, world.data)
    dressed = truth[:, 2] == 1
    assert scores.shape == (240, 3)
    assert scores[dressed, 2].mean() > scores[~dressed, 2].mean()


def test_a_training_resumed_from_a_checkpoint_gives_the_same_artifact(tmp_path, caplog):
    home = Home(tmp_path / "models" / "shop" / "topics")
    parent = imported(publish(tmp_path / "published"), home, model=SEVERAL)
    world = World(home, parent, freeze(home, labelled(toy_rows(120), dressed=False)), SEVERAL)
    options = {
        "hyperparameters": {"maxSteps": 20, "batchSize": 16, "dropout": "0.1"},
        "earlyStopping": {"everySteps": 7, "patience": 9},
        "checkpoint": {"everySteps": 5, "keep": 10},
    }
    whole = world.train(world.run_file(**options))
    caplog.set_level(logging.INFO, "springtide_trainer")
    for newest in sorted(home.checkpoints(1).iterdir())[1:]:
        shutil.rmtree(newest)
    resumed = world.train(world.run_file("g1-train-2", **options))
    assert "resumed" in caplog.messages
    assert resumed.artifact.digest == whole.artifact.digest
