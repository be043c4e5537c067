"""Nothing that is not finite is kept, although losses are not read at each step."""

from __future__ import annotations

import math
import os
import signal
from typing import TYPE_CHECKING

import pytest
import torch

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Diverged
from springtide_trainer.storage import folder_name, local_path
from springtide_trainer.training import fit, session
from springtide_trainer.training.engine.finite_checks import (
    ON_GPU,
    FiniteChecks,
    check_tensors,
)
from springtide_trainer.training.rows.training_rows import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Change = Callable[[torch.Tensor], torch.Tensor]

CPU = torch.device("cpu")
ONE = torch.ones(())


def added(checks: FiniteChecks, losses: list[float]) -> FiniteChecks:
    for step, loss in enumerate(losses, 1):
        checks.add(step, torch.tensor(loss), ONE)
    return checks


@pytest.fixture(params=[1, ON_GPU])
def every(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Read losses as often as on a CPU, and as often as on a GPU."""
    monkeypatch.setattr(FiniteChecks, "on", lambda *_: FiniteChecks(request.param))
    return int(request.param)


def ready(world, tmp_path: Path, **options) -> session.Session:
    chosen = {"maxSteps": 30, "batchSize": 16, "learningRate": "1e-3"}
    run = world.run_file(hyperparameters=chosen, **options)
    parent = local_path(world.parent.uri)
    rows = load(*world.data, run.recipe, parent=parent, scratch=tmp_path)
    return session.prepare(run, rows, parent, device=CPU, scratch=tmp_path / "scratch")


def at_step(model: torch.nn.Module, step: int, change: Change) -> None:
    """Change the gradient of the head in one step."""
    passes = 0

    def changed(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal passes
        passes += 1
        return change(gradient) if passes == step else gradient

    model.get_parameter("classifier.weight").register_hook(changed)


def test_losses_are_read_every_few_steps():
    checks = added(FiniteChecks(every=4), [1.0, 2.0, 3.0])
    assert math.isnan(checks.loss)
    checks.add(4, torch.tensor(4.0), ONE)
    assert checks.loss == 4.0
    assert list(checks.recent) == [1.0, 2.0, 3.0, 4.0]


def test_a_cpu_reads_each_step_and_a_gpu_every_twenty():
    assert added(FiniteChecks.on(CPU), [1.0]).loss == 1.0
    on_gpu = FiniteChecks.on(torch.device("cuda"))
    assert math.isnan(added(on_gpu, [1.0] * 19).loss)
    on_gpu.add(20, torch.tensor(2.0), ONE)
    assert on_gpu.loss == 2.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_step_that_is_not_finite_is_named_when_it_is_read_later(bad):
    checks = added(FiniteChecks(every=9), [1.0, 0.5, bad, math.nan, 1.0])
    with pytest.raises(Diverged, match=f"loss is {bad} at step 3; lower") as diverged:
        checks.read()
    assert diverged.value.code == ExitCode.DIVERGED


def test_a_gradient_norm_that_is_not_finite_is_named():
    checks = FiniteChecks(every=9)
    checks.add(1_200, ONE, torch.tensor(math.inf))
    with pytest.raises(Diverged, match="gradient norm is inf at step 1,200; lower"):
        checks.read()


def test_tensors_that_are_not_finite_are_named_and_integers_are_skipped():
    fine = {"a": torch.ones(3), "steps": torch.tensor(7), "none": torch.empty(0)}
    check_tensors(fine, 5)
    bad = torch.tensor([1.0, math.nan])
    with pytest.raises(Diverged, match="weights/b is not finite at step 5"):
        check_tensors({**fine, "weights/b": bad}, 5)


@pytest.mark.survives(
    "Model",
    "a gradient that is no longer a number, between two checks",
    "ends as diverged with its step; checkpoints and best weights are those of before",
)
@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_no_checkpoint_and_no_best_weights_are_kept_after_a_bad_step(
    world, tmp_path, every, factor
):
    stopping = {"everySteps": 6, "patience": 50}
    made = ready(world, tmp_path, checkpoint={"everySteps": 5}, earlyStopping=stopping)
    at_step(made.model, 8, lambda gradient: gradient * factor)
    with pytest.raises(Diverged, match=r"gradient norm is (nan|inf) at step 8"):
        fit.fit(made)
    assert [path.name for path in world.home.checkpoints(1).iterdir()] == ["step-000000005"]
    assert made.run.early_stopping is not None
    check_tensors(made.run.early_stopping.best, 30)


def test_a_bad_step_before_sigterm_leaves_no_checkpoint(world, tmp_path, every):
    def terminated(gradient: torch.Tensor) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGTERM)
        return gradient

    made = ready(world, tmp_path)
    at_step(made.model, 3, lambda gradient: gradient * math.nan)
    at_step(made.model, 4, terminated)
    with pytest.raises(Diverged, match="at step 3"):
        fit.fit(made)
    assert not world.home.checkpoints(1).exists()


def test_weights_that_overflow_in_the_last_step_are_diverged(world, every):
    wild = {"maxSteps": 1, "optimizer": "SGD", "learningRate": "9e99", "batchSize": 16}
    run = world.run_file(hyperparameters={**wild, "schedule": "Constant"})
    with pytest.raises(Diverged, match=r"[a-z.]+ is not finite at step 1; lower"):
        world.train(run)
    kept = [path.name for path in (world.home.path / "artifacts").iterdir()]
    assert kept == [folder_name(world.parent.digest)]


def test_how_often_losses_are_read_changes_no_weight(world, monkeypatch):
    def digest(job: str, every: int) -> str:
        monkeypatch.setattr(FiniteChecks, "on", lambda *_: FiniteChecks(every))
        return world.train(world.run_file(job, hyperparameters={"batchSize": 16})).artifact.digest

    assert digest("each", 1) == digest("few", 7)


def test_a_learning_rate_of_1e3_is_diverged_with_its_step(world, every):
    run = world.run_file(hyperparameters={"learningRate": "1e3", "batchSize": 16})
    with pytest.raises(
        Diverged, match=r" at step \d+; lower training.hyperparameters.learningRate"
    ):
        world.train(run)
    kept = [path.name for path in (world.home.path / "artifacts").iterdir()]
    assert kept == [folder_name(world.parent.digest)]
