"""Processes that train together, connected as those of a pod, but started by a test."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from springtide_trainer.processes import ALONE, Processes
from springtide_trainer.storage import local_path
from springtide_trainer.training import fit, session
from springtide_trainer.training.engine import replicas
from springtide_trainer.training.rows.training_rows import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from springtide_api.contract import RunFile

PRELOADED = ["springtide_trainer.training.fit", "peft", "transformers.models.bert.modeling_bert"]
SECONDS = 240


@dataclass(frozen=True)
class Case:
    """A training whose gradients are recorded.

    Attributes:
        name: Its name.
        run: The run file.
        broken: How gradients are added up instead; None: as they are.
    """

    name: str
    run: RunFile
    broken: str | None = None


@dataclass(frozen=True)
class Found:
    """What a training did.

    Attributes:
        gradients: Unclipped gradients of the trained parameters, as `<step>/<name>`.
        before: Trained parameters before.
        after: Trained parameters after.
        measured: Loss of the last steps, validation metric.
    """

    gradients: dict[str, Tensor]
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    measured: dict[str, float]


def train(case: Case, scratch: Path, processes: Processes = ALONE) -> Found:
    """Train in this process, from its parent to the last step; SGD has no momentum."""
    asked = case.run.train
    assert asked is not None
    parent, recipe = local_path(asked.parent.uri), case.run.recipe
    with processes.first_alone():
        rows = load(
            local_path(asked.data.uri), asked.data.digest, recipe, parent=parent, scratch=scratch
        )
    ready = session.prepare(
        case.run,
        rows,
        parent,
        device=torch.device("cpu"),
        scratch=scratch / case.name,
        processes=processes,
    )
    for group in ready.run.optimizer.param_groups:
        if "momentum" in group:
            group["momentum"] = 0.0
    gradients: dict[str, Tensor] = {}
    trained = {n: p for n, p in ready.model.named_parameters() if p.requires_grad}
    before = {name: weight.detach().clone() for name, weight in trained.items()}
    take_step, taken = ready.run.precision.step, 0

    def recorded(*given: Any) -> Tensor:
        nonlocal taken
        taken += 1
        for name, weight in trained.items():
            if weight.grad is not None:
                gradients[f"{taken}/{name}"] = weight.grad.clone()
        return take_step(*given)

    with patch.object(ready.run.precision, "step", recorded):
        fit.fit(ready)
    after = {name: weight.detach().clone() for name, weight in trained.items()}
    return Found(gradients, before, after, dict(ready.measured))


def together(cases: list[Case], count: int, folder: Path) -> dict[str, Found]:
    """Train each case in so many processes; return what their first one found."""
    starting = multiprocessing.get_context("forkserver")
    starting.set_forkserver_preload(PRELOADED)
    folder.mkdir()
    started = [
        starting.Process(target=_run, args=(rank, count, cases, folder), daemon=True)
        for rank in range(count)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(SECONDS)
    ended = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert ended == [0] * count, f"exit codes {ended}, see what the processes printed"
    return {case.name: _read(folder, case.name) for case in cases}


def _run(rank: int, count: int, cases: list[Case], folder: Path) -> None:
    try:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.set_num_threads(1)
        store = dist.FileStore(str(folder / "store"), count)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
        processes = Processes(rank, count)
        for case in cases:
            scratch = folder / f"{case.name}-{rank}"
            scratch.mkdir()
            with patch.object(replicas, "add_up", BROKEN[case.broken]):
                found = train(case, scratch, processes)
            if processes.leads:
                _write(folder, case.name, found)
        processes.leave()
    except BaseException:
        traceback.print_exc()
        raise


def _own_gradients(bucket: dist.GradBucket) -> Any:
    """Add nothing up."""
    future: Any = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


def _mean(bucket: dist.GradBucket) -> Any:
    """Average over the processes, as DDP does by itself."""
    return replicas_add_up(bucket).then(lambda done: done.value() / dist.get_world_size())


replicas_add_up = replicas.add_up
BROKEN: dict[str | None, Callable[..., Any]] = {
    None: replicas.add_up,
    "own": _own_gradients,
    "mean": _mean,
}


def _write(folder: Path, name: str, found: Found) -> None:
    for part in ("gradients", "before", "after"):
        save_file(
            {key: value.contiguous() for key, value in getattr(found, part).items()},
            folder / f"{name}-{part}.safetensors",
        )
    measured = {key: torch.tensor(value) for key, value in found.measured.items()}
    save_file(measured, folder / f"{name}-measured.safetensors")


def _read(folder: Path, name: str) -> Found:
    parts = [
        load_file(folder / f"{name}-{part}.safetensors")
        for part in ("gradients", "before", "after", "measured")
    ]
    *tensors, measured = parts
    return Found(*tensors, measured={key: float(value) for key, value in measured.items()})
