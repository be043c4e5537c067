"""Several processes read shards that pods before them, or the first process, have tokenized."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.training.conftest import World, freeze, toy_rows
from trainer.training.sharded_rows import tokenizing, with_shards

from springtide_api.contract import ExitCode
from springtide_trainer.stages import runner
from springtide_trainer.stages.launcher import Nodes

if TYPE_CHECKING:
    import pytest

    from springtide_api.contract import RunFile

SHORT = {"maxSteps": 4, "batchSize": 16, "learningRate": "1e-3", "precision": "FP32"}


def run_file(world: World, name: str, size: int | None) -> RunFile:
    return with_shards(world.run_file(f"{name}-g1-train-1", hyperparameters=SHORT), size)


def trained(world: World, run: RunFile) -> Any:
    outcome = runner.run_stage(run, world.home, "pod", processes=2)
    assert outcome.code == ExitCode.DONE, outcome.result
    assert outcome.result.train is not None
    return outcome.result.train.artifact.digest


def test_two_processes_learn_the_same_from_shards_as_from_one_cache(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    world.data = freeze(world.home, toy_rows(2100))
    expected = trained(world, run_file(world, "whole", None))
    run = run_file(world, "shards", 1000)
    runner.run_stage(tokenizing(run, 3), world.home, "pod-1", nodes=Nodes(1, 3))
    (kept,) = world.home.checkpoints(1).iterdir()
    assert kept.name.startswith("tokens-")
    assert trained(world, run) == expected
    assert not world.home.checkpoints(1).exists()
    assert len([*world.data[0].glob("tokens-*")]) == 1
