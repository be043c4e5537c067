"""What one process learns from shared rows, two learn, too."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from trainer.training.processes.group import Case, together, train
from trainer.training.processes.test_gradients import UNCHANGED, differences

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.training.conftest import World


def assert_two_learn_as_one(world: World, name: str, folder: Path) -> None:
    """Compare gradients and validation of two processes with those of one."""
    stopping = {"everySteps": 2, "patience": 9}
    hyperparameters = UNCHANGED | {"batchSize": 33}
    run = world.run_file(divisor=6, hyperparameters=hyperparameters, earlyStopping=stopping)
    case = Case(name, run)
    (folder / case.name).mkdir()
    torch.set_num_threads(1)
    one = train(case, folder / case.name)
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)

    several = together([case], 2, folder / "run")[case.name]

    found = differences(several, one)
    assert len(found) >= 3
    assert max(found.values()) < 1e-5
    assert several.measured["validation"] == pytest.approx(one.measured["validation"], rel=1e-4)
