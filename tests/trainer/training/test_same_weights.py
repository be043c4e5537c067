"""Equal recipe, rows, parent and hardware give equal weights, also for resumed runs."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from forks import Fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from springtide_api.contract import RunFile

LONG = {
    "hyperparameters": {
        "maxSteps": 100,
        "batchSize": 16,
        "learningRate": "1e-3",
        "dropout": "0.1",
        "gradientAccumulation": 2,
    },
    "earlyStopping": {"everySteps": 25, "patience": 90},
    "checkpoint": {"everySteps": 10},
}


@pytest.fixture
def start_pod(tmp_path: Path) -> Iterator[Callable[[RunFile], Fork]]:
    """Start trainers like pods, as forks; running ones are killed at the end of the test."""
    started: list[Fork] = []

    def start(run: RunFile) -> Fork:
        path = tmp_path / f"{run.job}.json"
        path.write_text(run.model_dump_json(by_alias=True, exclude_none=True))
        environ = {
            **os.environ,
            "SPRINGTIDE_RUN_FILE": str(path),
            "SPRINGTIDE_TERMINATION_LOG": str(tmp_path / f"{run.job}.termination"),
            "OMP_NUM_THREADS": "1",
        }
        log = tmp_path / f"{run.job}.log"
        started.append(Fork("springtide_trainer.__main__", environ, log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for_a_checkpoint(folder: Path, process: Fork) -> None:
    while not (folder.is_dir() and any(folder.iterdir())):
        assert process.poll() is None, "the trainer ended before its first checkpoint"
        time.sleep(0.001)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(world):
    def digest(job: str, seed: int) -> str:
        options = {"epochs": 1, "batchSize": 16, "learningRate": "1e-3", "dropout": "0.1"}
        run = world.run_file(job, hyperparameters={**options, "seed": seed})
        return world.train(run).artifact.digest

    assert digest("first", 17) == digest("second", 17)
    assert digest("third", 18) != digest("first", 17)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_and_resumed_training_gives_the_weights_of_an_uninterrupted_one(
    world, tmp_path, caplog, start_pod, end
):
    run = world.run_file("g1-train-1", **LONG)
    pod = start_pod(run)
    wait_for_a_checkpoint(world.home.checkpoints(1), pod)
    pod.send_signal(end)
    assert pod.wait() == (-signal.SIGKILL if end == signal.SIGKILL else 143)
    assert not world.home.result(run.job).exists()
    saved = sorted(path.name for path in world.home.checkpoints(1).iterdir())
    assert saved[-1] < "step-000000100"

    caplog.set_level(logging.INFO, "springtide_trainer")
    resumed = world.train(world.run_file("g1-train-2", **LONG))
    assert "resumed" in caplog.messages

    for path in list(world.home.checkpoints(1).iterdir()):
        path.rename(tmp_path / path.name)
    undisturbed = world.train(world.run_file("g1-train-3", **LONG))
    assert resumed.artifact.digest == undisturbed.artifact.digest
    assert resumed.steps == undisturbed.steps == 100


def test_halving_the_batches_does_not_change_the_rows_of_a_step(world):
    whole = world.run_file("whole", hyperparameters={"batchSize": 16, "precision": "FP32"})
    halved = world.run_file(
        "half", divisor=4, hyperparameters=whole.recipe.training.hyperparameters
    )
    assert world.train(whole).metrics["loss"] == pytest.approx(world.train(halved).metrics["loss"])


def test_a_committed_result_is_returned_without_work(world, tmp_path, start_pod):
    run = world.run_file("g1-train-1", hyperparameters={"batchSize": 64})
    first = start_pod(run)
    assert first.wait() == 0
    message = (tmp_path / "g1-train-1.termination").read_bytes()
    assert len(message) <= 4096

    (world.data[0] / "train.parquet").unlink()
    second = start_pod(run)
    assert second.wait() == 0
    assert (tmp_path / "g1-train-1.termination").read_bytes() == message
