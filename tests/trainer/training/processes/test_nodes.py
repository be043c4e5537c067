"""Pods that train together as those of a JobSet do: the first one commits, for all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from springtide_api.contract import Result
from springtide_trainer.processes import Processes
from springtide_trainer.stages.launcher import INDEX, NODES, RENDEZVOUS
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact, RunFile

    Pod = subprocess.Popen[bytes]

SHORT = {
    "hyperparameters": {
        "maxSteps": 8,
        "batchSize": 16,
        "optimizer": "SGD",
        "learningRate": "0.1",
        "precision": "FP32",
    },
    "checkpoint": {"everySteps": 4},
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def start_pods(tmp_path: Path) -> Iterator[Callable[[RunFile], list[Pod]]]:
    """Start the pods of two nodes, each with one process; kill them at the end of the test."""
    started: list[Pod] = []

    def start(run: RunFile) -> list[Pod]:
        path, port = tmp_path / f"{run.job}.json", free_port()
        path.write_text(run.model_dump_json(by_alias=True, exclude_none=True))
        for rank in range(2):
            environ = {
                **os.environ,
                "SPRINGTIDE_RUN_FILE": str(path),
                "SPRINGTIDE_POD_UID": f"pod-{rank}",
                "SPRINGTIDE_TERMINATION_LOG": str(tmp_path / f"{run.job}.{rank}"),
                "OMP_NUM_THREADS": "1",
                "GLOO_SOCKET_IFNAME": "lo",
                NODES: "2",
                INDEX: str(rank),
                RENDEZVOUS: f"localhost:{port}",
            }
            command = [sys.executable, "-m", "springtide_trainer"]
            started.append(subprocess.Popen(command, env=environ))
        return started[-2:]

    yield start
    for pod in started:
        pod.kill()
        pod.wait()


def message(tmp_path: Path, job: str, rank: int) -> Result:
    return Result.model_validate_json((tmp_path / f"{job}.{rank}").read_bytes())


def weights(made: CommittedArtifact) -> dict[str, torch.Tensor]:
    return load_file(local_path(made.uri) / "model.safetensors")


@pytest.mark.parametrize("kind", ["DDP", pytest.param("FSDP", marks=pytest.mark.faults)])
def test_the_first_of_two_pods_commits_the_model_of_one_but_for_rounding(
    world, tmp_path, start_pods, kind
):
    one = world.train(world.run_file("g1-train-1", **SHORT)).artifact
    world.home.checkpoints(1).rename(tmp_path / "of-one")

    pods = start_pods(world.run_file("g1-train-2", **SHORT | {"parallelism": {"type": kind}}))
    assert [pod.wait() for pod in pods] == [0, 0]

    made = message(tmp_path, "g1-train-2", 0)
    assert (made.ok, made.train.steps, made.train.rows) == (True, 8, 240)
    assert message(tmp_path, "g1-train-2", 1).train is None
    expected = weights(one)
    for name, found in weights(made.train.artifact).items():
        assert torch.allclose(found, expected[name], atol=1e-5), name
    assert world.home.result("g1-train-2").exists()
    assert not list((world.home.path / "tmp").iterdir())


@pytest.mark.faults
@pytest.mark.survives(
    "Several nodes",
    "one of two pods that train together gets SIGTERM, as in an eviction",
    "both end after the same step with one checkpoint, from which the next attempt resumes",
)
@pytest.mark.parametrize("kind", ["DDP", "FSDP"])
def test_sigterm_of_one_pod_saves_one_checkpoint_for_both(world, tmp_path, start_pods, kind):
    long = {"maxSteps": 400, "batchSize": 16, "learningRate": "1e-3"}
    run = {"hyperparameters": long, "parallelism": {"type": kind}, "checkpoint": {"everySteps": 50}}
    pods = start_pods(world.run_file("g1-train-1", **run))
    folder = world.home.checkpoints(1)
    while not (folder.is_dir() and list(folder.iterdir())):
        assert all(pod.poll() is None for pod in pods)
        time.sleep(0.01)
    pods[1].terminate()
    assert [pod.wait() for pod in pods] == [143, 143]
    *_, saved = sorted(path.name for path in folder.iterdir())
    assert "step-000000050" <= saved < "step-000000400"

    again = start_pods(world.run_file("g1-train-2", **run))
    assert [pod.wait() for pod in again] == [0, 0]
    assert message(tmp_path, "g1-train-2", 0).train.steps == 400


def test_what_one_pod_leaves_on_its_disk_another_makes_itself():
    """The first process goes first, then that of each other pod, then all others."""
    order, waiting = [], threading.Barrier(6)

    class Six(Processes):
        def wait(self) -> None:
            waiting.wait(10)

    def enter(rank: int) -> None:
        with Six(rank, 6, 3).first_alone():
            order.append(rank)

    threads = [threading.Thread(target=enter, args=(rank,)) for rank in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[0] == 0
    assert set(order[1:3]) == {2, 4}
    assert set(order[3:]) == {1, 3, 5}
