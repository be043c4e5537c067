"""Responses that several processes share count by all tokens of the step."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from trainer import decoders
from trainer.training.conftest import World, freeze, imported
from trainer.training.processes.group import Case, together, train
from trainer.training.processes.test_gradients import UNCHANGED, differences
from trainer.training.test_causal_lm import MODEL, WORDS, dialogues

from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from pathlib import Path


def test_two_processes_learn_what_one_learns(tmp_path: Path):
    home = Home(tmp_path / "models" / "shop" / "ranker")
    parent = imported(decoders.publish(tmp_path / "decoder", WORDS), home, model=MODEL)
    world = World(home, parent, freeze(home, dialogues(100)), MODEL)
    stopping = {"everySteps": 2, "patience": 9}
    hyperparameters = UNCHANGED | {"batchSize": 33}
    run = world.run_file(divisor=6, hyperparameters=hyperparameters, earlyStopping=stopping)
    case = Case("responses", run)
    (tmp_path / case.name).mkdir()
    torch.set_num_threads(1)
    one = train(case, tmp_path / case.name)
    shutil.rmtree(home.checkpoints(1), ignore_errors=True)

    several = together([case], 2, tmp_path / "run")[case.name]

    found = differences(several, one)
    assert len(found) >= 3
    assert max(found.values()) < 1e-5
    assert several.measured["validation"] == pytest.approx(one.measured["validation"], rel=1e-4)
