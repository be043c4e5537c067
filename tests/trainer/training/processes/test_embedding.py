"""Queries that several processes share are compared with the documents of the whole step."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from trainer.training.conftest import freeze, publish
from trainer.training.processes.group import Case, together, train
from trainer.training.processes.test_gradients import UNCHANGED, differences
from trainer.training.test_embedding import Retriever, imported, searches

from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from pathlib import Path


def test_two_processes_learn_from_the_negatives_that_one_learns_from(tmp_path: Path):
    home = Home(tmp_path / "models" / "shop" / "ranker")
    parent = imported(publish(tmp_path / "published"), home, {})
    world = Retriever(home, parent, freeze(home, searches(100)))
    world.options = {}
    stopping = {"everySteps": 2, "patience": 9}
    hyperparameters = UNCHANGED | {"batchSize": 33}
    run = world.run_file(divisor=6, hyperparameters=hyperparameters, earlyStopping=stopping)
    case = Case("queries", run)
    (tmp_path / case.name).mkdir()
    torch.set_num_threads(1)
    one = train(case, tmp_path / case.name)
    shutil.rmtree(home.checkpoints(1), ignore_errors=True)

    several = together([case], 2, tmp_path / "run")[case.name]

    found = differences(several, one)
    assert len(found) >= 3
    assert max(found.values()) < 1e-5
    assert several.measured["validation"] == pytest.approx(one.measured["validation"], rel=1e-4)
