"""Pods that train in several processes: their ends, and how the next attempt goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from springtide_api.contract import ExitCode, Result
from springtide_trainer.stages.launcher import PROCESSES
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from springtide_api.contract import CommittedArtifact, RunFile

    Pod = subprocess.Popen[bytes]

SHORT = {
    "hyperparameters": {
        "maxSteps": 12,
        "batchSize": 16,
        "optimizer": "SGD",
        "learningRate": "0.1",
        "precision": "FP32",
    },
    "checkpoint": {"everySteps": 6},
}
KINDS = ["DDP", "FSDP"]
LONG = {
    "hyperparameters": {
        "maxSteps": 240,
        "batchSize": 16,
        "learningRate": "1e-3",
        "dropout": "0.1",
        "gradientAccumulation": 2,
    },
    "earlyStopping": {"everySteps": 25, "patience": 90},
    "checkpoint": {"everySteps": 10},
}


@pytest.fixture
def start_pod(tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    """Start a pod with a number of processes; running ones are killed at the end of the test."""
    started: list[Pod] = []

    def start(run: RunFile, count: int, module: str = "springtide_trainer") -> Pod:
        path = tmp_path / f"{run.job}.json"
        path.write_text(run.model_dump_json(by_alias=True, exclude_none=True))
        environ = {
            **os.environ,
            "SPRINGTIDE_RUN_FILE": str(path),
            "SPRINGTIDE_TERMINATION_LOG": str(tmp_path / f"{run.job}.termination"),
            "OMP_NUM_THREADS": str(count),
            PROCESSES: str(count),
        }
        command = [sys.executable, "-m", module]
        started.append(subprocess.Popen(command, env=environ))
        return started[-1]

    yield start
    for pod in started:
        for process in [*processes_of(pod).values(), pod.pid]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        pod.wait()


def processes_of(pod: Pod) -> dict[int, int]:
    """Return the pids of the training processes of a pod, by their numbers."""
    found = {}
    for task in Path(f"/proc/{pod.pid}/task").glob("*/children"):
        for pid in task.read_text().split():
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            known = dict(each.partition(b"=")[::2] for each in environ)
            if b"RANK" in known:
                found[int(known[b"RANK"])] = int(pid)
    return found


def message(tmp_path: Path, job: str) -> Result:
    written = (tmp_path / f"{job}.termination").read_bytes()
    assert len(written) <= 4096
    return Result.model_validate_json(written)


def weights(made: CommittedArtifact) -> torch.Tensor:
    tensors = load_file(local_path(made.uri) / "model.safetensors")
    return torch.cat([tensor.double().flatten() for _, tensor in sorted(tensors.items())])


def files_of(made: CommittedArtifact) -> dict[str, list[str]]:
    """Return the files of an artifact, with the names of the tensors in those of weights."""
    folder = local_path(made.uri)
    return {
        path.name: sorted(load_file(path)) if path.suffix == ".safetensors" else []
        for path in folder.iterdir()
    }


def apart(
    found: CommittedArtifact, expected: CommittedArtifact, parent: CommittedArtifact
) -> float:
    """Return the norm of the difference, as a share of the norm of the update."""
    of = weights(expected)
    return float((weights(found) - of).norm() / (of - weights(parent)).norm())


def environment_of(checkpoint: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((checkpoint / "state.json").read_bytes())["environment"]
    return found


def wait_for_a_checkpoint(folder: Path, pod: Pod, step: int = 1) -> None:
    while not (folder.is_dir() and any(int(each.name[5:]) >= step for each in folder.iterdir())):
        assert pod.poll() is None, "the pod ended before its first checkpoint"
        time.sleep(0.001)


@pytest.mark.parametrize("kind", [pytest.param("DDP", marks=pytest.mark.faults), "FSDP"])
def test_two_processes_make_the_artifact_of_one_but_rounding(world, tmp_path, start_pod, kind):
    one = world.train(world.run_file("g1-train-1", **SHORT)).artifact
    newest = world.home.checkpoints(1) / "step-000000012"
    assert "processes" not in environment_of(newest)
    world.home.checkpoints(1).rename(tmp_path / "of-one")

    pod = start_pod(world.run_file("g1-train-2", **SHORT | {"parallelism": {"type": kind}}), 2)
    assert pod.wait() == 0

    result = message(tmp_path, "g1-train-2")
    assert result.ok
    assert result.train.steps == 12
    assert result.train.rows == 240
    assert apart(result.train.artifact, one, world.parent) < 1e-3
    assert files_of(result.train.artifact) == files_of(one)
    assert world.home.result("g1-train-2").exists()
    assert not list((world.home.path / "tmp").iterdir())


@pytest.mark.faults
@pytest.mark.survives(
    "Jobs and pods",
    "one of several processes of a training is killed at any step",
    "the next attempt resumes from the last checkpoint, with the weights of an undisturbed run",
)
@pytest.mark.parametrize(
    ("kind", "rank", "seed"),
    [("DDP", 0, 1), ("DDP", 1, 2), ("DDP", 1, 3), ("FSDP", 0, 4), ("FSDP", 1, 5), ("FSDP", 1, 6)],
)
def test_a_killed_process_ends_its_pod_and_the_next_attempt_resumes(
    world, tmp_path, start_pod, kind, rank, seed
):
    chance, long = random.Random(seed), {**LONG, "parallelism": {"type": kind}}
    pod = start_pod(world.run_file("g1-train-1", **long), 2)
    wait_for_a_checkpoint(world.home.checkpoints(1), pod, chance.randrange(10, 200, 10))
    time.sleep(chance.random() / 10)
    os.kill(processes_of(pod)[rank], signal.SIGKILL)
    assert pod.wait() == 128 + signal.SIGKILL
    failure = message(tmp_path, "g1-train-1").failure
    assert failure.message.startswith(f"process {rank} of 2 was ended by signal 9")
    saved = sorted(path.name for path in world.home.checkpoints(1).iterdir())
    assert "step-000000000" < saved[-1] < "step-000000240"
    environment = environment_of(world.home.checkpoints(1) / saved[-1])
    assert (environment["processes"], environment["threads"]) == (2, 1)

    resumed = start_pod(world.run_file("g1-train-2", **long), 2)
    assert resumed.wait() == 0
    undisturbed = start_pod(world.run_file("g1-train-3", **long), 2)
    assert undisturbed.wait() == 0
    results = [message(tmp_path, f"g1-train-{attempt}").train for attempt in (2, 3)]
    assert results[0].artifact.digest == results[1].artifact.digest
    assert results[0].steps == results[1].steps == 240


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_saves_one_checkpoint_of_one_step_and_the_next_attempt_resumes(
    world, tmp_path, start_pod, kind
):
    rare = {**LONG, "checkpoint": {"everySteps": 100}, "parallelism": {"type": kind}}
    pod = start_pod(world.run_file("g1-train-1", **rare), 4)
    wait_for_a_checkpoint(world.home.checkpoints(1), pod)
    pod.terminate()
    assert pod.wait() == 143
    assert not (tmp_path / "g1-train-1.termination").exists()
    *_, saved = sorted(path.name for path in world.home.checkpoints(1).iterdir())
    assert "step-000000100" <= saved < "step-000000240"

    resumed = start_pod(world.run_file("g1-train-2", **rare), 4)
    assert resumed.wait() == 0
    undisturbed = start_pod(world.run_file("g1-train-3", **rare), 4)
    assert undisturbed.wait() == 0
    results = [message(tmp_path, f"g1-train-{attempt}").train for attempt in (2, 3)]
    assert results[0].artifact.digest == results[1].artifact.digest


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_four_processes_is_resumed_by_two(world, tmp_path, start_pod, capfd, kind):
    plain = {
        "hyperparameters": {**SHORT["hyperparameters"], "maxSteps": 240},
        "checkpoint": {"everySteps": 20},
        "parallelism": {"type": kind},
    }
    one = world.train(world.run_file("g1-train-1", **plain)).artifact
    world.home.checkpoints(1).rename(tmp_path / "of-one")
    pod = start_pod(world.run_file("g1-train-2", **plain), 4)
    wait_for_a_checkpoint(world.home.checkpoints(1), pod)
    pod.terminate()
    assert pod.wait() == 143

    resumed = start_pod(world.run_file("g1-train-3", **plain), 2)
    assert resumed.wait() == 0
    assert "checkpoint was saved in another environment" in capfd.readouterr().err
    assert apart(message(tmp_path, "g1-train-3").train.artifact, one, world.parent) < 1e-2


ODD = """
import os, signal, sys
from datetime import timedelta
from springtide_trainer import processes
from springtide_trainer.stages import launcher, rank
from springtide_trainer.tasks.classification import Classification
if __name__ == "__main__":
    if "RANK" in os.environ:
        {setting}
        def objective(self, model, batch):
            {does}
        if os.environ["RANK"] == "1":
            Classification.objective = objective
        code = rank.main(sys.argv[1:])
        os._exit(code)
    launcher.RANK = "odd"
    from springtide_trainer.__main__ import main
    sys.exit(main())
"""
"""A trainer whose second process does something else in a pass."""


@pytest.fixture
def start_odd_pod(tmp_path, monkeypatch, start_pod) -> Callable[..., Pod]:
    """Start a pod of two processes, of which the second one does something else."""

    def start(run: RunFile, does: str, setting: str = "pass") -> Pod:
        (tmp_path / "odd.py").write_text(ODD.format(does=does, setting=setting))
        known = os.environ.get("PYTHONPATH", "")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{known}")
        return start_pod(run, 2, module="odd")

    return start


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_memory_that_runs_out_in_one_process_ends_the_pod_with_its_exit_code(
    world, tmp_path, start_pod, start_odd_pod, kind
):
    short = SHORT | {"parallelism": {"type": kind}}
    pod = start_odd_pod(world.run_file("g1-train-1", **short), "raise MemoryError")
    assert pod.wait() == 42
    assert message(tmp_path, "g1-train-1").failure.reason == "OutOfMemory"

    halved = start_pod(world.run_file("g1-train-2", divisor=2, **short), 2)
    assert halved.wait() == 0
    assert message(tmp_path, "g1-train-2").train.steps == 12


@pytest.mark.survives(
    "Jobs and pods",
    "one of several processes of a training hangs",
    "the others wait for it for 30 minutes and end; the attempt fails with ProcessHangs, and the "
    "next one resumes from the last checkpoint",
)
def test_a_process_that_hangs_ends_the_attempt(world, tmp_path, start_odd_pod):
    run = world.run_file("g1-train-1", **SHORT)
    hangs = "signal.signal(signal.SIGTERM, signal.SIG_DFL); signal.pause()"
    pod = start_odd_pod(run, hangs, "processes.STEP_WAIT = timedelta(seconds=3)")
    assert pod.wait() == ExitCode.ENVIRONMENT
    failure = message(tmp_path, "g1-train-1").failure
    assert failure.reason == "ProcessHangs"
    assert "waited 0.05 minutes for another one" in failure.message
