"""Several processes label rows together, and prune the same weights of their equal models."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from trainer.training.conftest import World, freeze, imported, publish, toy_rows
from trainer.training.processes.group import Case, together, train

from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(600)  # on a busy machine

TRAINING = {
    "hyperparameters": {
        "maxSteps": 8,
        "batchSize": 16,
        "optimizer": "SGD",
        "learningRate": "0.1",
        "precision": "FP32",
        "weightDecay": "0",
    },
    "unlabelled": {"pseudoLabels": {"threshold": "0.5"}},
    "pruning": {"sparsity": "0.5"},
}


def test_two_processes_learn_from_the_rows_and_have_the_zeros_of_one(tmp_path: Path) -> None:
    rows = toy_rows(90)
    rows["label"] = [label if number % 3 == 0 else "" for number, label in enumerate(rows["label"])]
    home = Home(tmp_path / "models" / "shop" / "ranker")
    world = World(home, imported(publish(tmp_path / "published"), home), freeze(home, rows))
    run = world.run_file(**TRAINING)
    assert run.train is not None
    alone = run.train.model_copy(update={"checkpoints": str(tmp_path / "alone")})
    case = Case("both", run, recorded=False)
    (tmp_path / "scratch").mkdir()
    one = train(replace(case, run=run.model_copy(update={"train": alone})), tmp_path / "scratch")
    two = together([case], 2, tmp_path / "two")["both"]
    assert two.measured["sparsity"] == one.measured["sparsity"] == pytest.approx(0.5, abs=0.01)
    for name, weight in one.after.items():
        torch.testing.assert_close(two.after[name], weight, atol=1e-5, rtol=0)
        assert not torch.equal(weight, one.before[name]) or "embeddings" in name
