"""FP16 searches a loss scale with finite gradients; without one the run has diverged.

The kernels of FP16 on a CPU are slow but there, so that this needs no GPU.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Diverged, NoStepTaken
from springtide_trainer.storage import local_path
from springtide_trainer.training import fit, session
from springtide_trainer.training.precision import Precision
from springtide_trainer.training.rows.training_rows import load
from springtide_trainer.training.training_state import capture, restore

CPU = torch.device("cpu")


def ready(world, tmp_path, *, steps: int, head: float) -> session.Session:
    """An FP16 run with a head scaled up, so that its gradients overflow FP16."""
    run = world.run_file(hyperparameters={"maxSteps": steps, "batchSize": 16})
    parent = local_path(world.parent.uri)
    rows = load(*world.data, run.recipe, parent=parent, scratch=tmp_path)
    made = session.prepare(run, rows, parent, device=CPU, scratch=tmp_path / "scratch")
    with torch.no_grad():
        made.model.get_parameter("classifier.weight").mul_(head)
    return replace(made, run=replace(made.run, precision=Precision("FP16", CPU)))


def test_a_run_that_skipped_every_step_is_diverged(world, tmp_path):
    with pytest.raises(NoStepTaken, match="skipped every step up to step 3") as diverged:
        fit.fit(ready(world, tmp_path, steps=3, head=1e4))
    assert diverged.value.code == ExitCode.DIVERGED
    assert diverged.value.failure.field == "spec.training.hyperparameters.precision"


def test_a_run_continues_when_its_loss_scale_is_small_enough(world, tmp_path):
    run = ready(world, tmp_path, steps=20, head=1e4)
    assert fit.fit(run).step == 20
    assert run.run.precision.stepped
    assert 1 < run.run.precision.scaler.get_scale() < 65536


def test_a_gradient_that_is_infinite_at_every_scale_is_diverged_before_the_last_step(
    world, tmp_path
):
    run = ready(world, tmp_path, steps=100, head=1.0)
    weight = run.model.get_parameter("classifier.weight")
    weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(Diverged, match="at step 17"):
        fit.fit(run)


def test_a_checkpoint_stores_whether_a_step_was_taken(world, tmp_path):
    run = ready(world, tmp_path, steps=2, head=1.0).run
    run.precision.stepped = True
    again = replace(run, precision=Precision("FP16", CPU))
    restore(again, capture(run, 1))
    assert again.precision.stepped
