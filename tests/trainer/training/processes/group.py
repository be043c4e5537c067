"""Processes that train together, connected as those of a pod, but started by a test."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from trainer.training.processes.spawning import spawn

from springtide_trainer.errors import Interrupted
from springtide_trainer.interruption import INTERRUPTED
from springtide_trainer.processes import ALONE, Processes
from springtide_trainer.storage import local_path
from springtide_trainer.training import fit, precision, session
from springtide_trainer.training.engine import replicas, shards
from springtide_trainer.training.optimizer import own_part
from springtide_trainer.training.precision import Precision
from springtide_trainer.training.rows import pseudo_labels
from springtide_trainer.training.training_state import capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from torch import Tensor

    from springtide_api.contract import RunFile


@dataclass(frozen=True)
class Case:
    """A training of which gradients and weights are recorded.

    Attributes:
        name: Its name.
        run: The run file.
        broken: How gradients are added up instead; None: as they are.
        momentum: SGD keeps its momentum.
        until: The step after which SIGTERM comes; None: it does not.
        half: It is FP16, which a run may be on a GPU alone.
        recorded: The gradients of each step are.
    """

    name: str
    run: RunFile
    broken: str | None = None
    momentum: bool = False
    until: int | None = None
    half: bool = False
    recorded: bool = True


@dataclass(frozen=True)
class Found:
    """What a training did. In a process that has a part of each tensor, these are the parts.

    Attributes:
        gradients: Unclipped gradients of the trained parameters, as `<step>/<name>`.
        before: Trained parameters before.
        after: Trained parameters after.
        measured: Loss of the last steps, validation metric; and `share`, the part of the tensors of
            a checkpoint that the process holds.
    """

    gradients: dict[str, Tensor]
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    measured: dict[str, float]


def train(case: Case, scratch: Path, processes: Processes = ALONE) -> Found:
    """Train in this process, from its parent or a checkpoint to the last step."""
    asked = case.run.train
    assert asked is not None
    parent, cpu = local_path(asked.parent.uri), torch.device("cpu")
    rows = pseudo_labels.load(
        local_path(asked.data.uri),
        asked.data.digest,
        case.run.recipe,
        parent=pseudo_labels.Parent(parent, asked.seeded_head, cpu),
        scratch=scratch,
        processes=processes,
    )
    resolve = precision.resolve if not case.half else lambda _, device: Precision("FP16", device)
    with patch.object(precision, "resolve", resolve):
        ready = session.prepare(
            case.run,
            rows,
            parent,
            device=cpu,
            scratch=scratch,
            processes=processes,
        )
    for group in ready.run.optimizer.param_groups:
        if "momentum" in group and not case.momentum:
            group["momentum"] = 0.0
    gradients: dict[str, Tensor] = {}
    trained = {n: p for n, p in ready.model.named_parameters() if p.requires_grad}
    before = {name: own_part(weight).detach().clone() for name, weight in trained.items()}
    take_step, taken = ready.run.precision.step, 0

    def recorded(*given: Any) -> Tensor:
        nonlocal taken
        taken += 1
        for name, weight in trained.items():
            if case.recorded and weight.grad is not None:
                gradients[f"{taken}/{name}"] = own_part(weight.grad).clone()
        return take_step(*given)

    with patch.object(ready.run.precision, "step", recorded), interrupted(case.until):
        fit.fit(ready)
    after = {name: own_part(weight).detach().clone() for name, weight in trained.items()}
    held = {"share": share(capture(ready.run, 0).tensors.values())}
    return Found(gradients, before, after, dict(ready.measured) | held)


def share(tensors: Iterable[Tensor]) -> float:
    """Return which part of some tensors is in this process; numbers do not count."""
    given = [tensor for tensor in tensors if tensor.ndim]
    own = [each.to_local() if isinstance(each, DTensor) else each for each in given]
    return sum(each.numel() for each in own) / sum(each.numel() for each in given)


@contextmanager
def interrupted(until: int | None) -> Iterator[None]:
    """Let SIGTERM come after a step, and go on when the checkpoint is saved."""
    if until is None:
        yield
        return

    @contextmanager
    def stop_on_sigterm() -> Iterator[Callable[[int], str | None]]:
        yield lambda step: INTERRUPTED if step >= until else None

    with patch.object(fit, "stop_on_sigterm", stop_on_sigterm), suppress(Interrupted):
        yield


def together(cases: list[Case], count: int, folder: Path) -> dict[str, Found]:
    """Train each case in so many processes; return what their first one found, of whole tensors."""
    folder.mkdir()
    spawn(count, folder, _train_all, cases, folder)
    return {case.name: _read(folder, case.name) for case in cases}


def _train_all(processes: Processes, cases: list[Case], folder: Path) -> None:
    for case in cases:
        scratch = folder / f"{case.name}-{processes.rank}"
        scratch.mkdir()
        with broken(case.broken):
            found = train(case, scratch, processes)
        if processes.leads or case.run.recipe.training.parallelism.type == "FSDP":
            _write(folder, f"{case.name}-{processes.rank}", found)


@contextmanager
def broken(how: str | None) -> Iterator[None]:
    """Let gradients be added up in a wrong way."""
    with ExitStack() as patches:
        if how is not None:
            patches.enter_context(patch.object(replicas, "add_up", OF_REPLICAS[how]))
            patches.enter_context(patch.object(shards, "add_up", OF_SHARDS[how]))
        yield


def _own_gradients(bucket: dist.GradBucket) -> Any:
    """Add nothing up."""
    future: Any = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


def _mean(bucket: dist.GradBucket) -> Any:
    """Average over the processes, as DDP does by itself."""
    return replicas_add_up(bucket).then(lambda done: done.value() / dist.get_world_size())


class _OwnRows:
    """Scatters the rows of the gradients, and adds nothing up."""

    def allocate(self, size: Any, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, **_: Any) -> None:
        output_tensor.copy_(input_tensor.view(group.size(), -1)[group.rank()])


def _own_rows(part: Any) -> None:
    shards_add_up(part)
    part.set_custom_reduce_scatter(_OwnRows())


def _mean_of_rows(part: Any) -> None:
    """Average over the processes, as FSDP does by itself."""
    shards_add_up(part)
    part.set_gradient_divide_factor(float(dist.get_world_size()))


replicas_add_up, shards_add_up = replicas.add_up, shards.add_up
OF_REPLICAS: dict[str, Callable[..., Any]] = {"own": _own_gradients, "mean": _mean}
OF_SHARDS: dict[str, Callable[..., Any]] = {"own": _own_rows, "mean": _mean_of_rows}


def _write(folder: Path, name: str, found: Found) -> None:
    for part in ("gradients", "before", "after"):
        save_file(
            {key: value.contiguous() for key, value in getattr(found, part).items()},
            folder / f"{name}-{part}.safetensors",
        )
    measured = {key: torch.tensor(value) for key, value in found.measured.items()}
    save_file(measured, folder / f"{name}-measured.safetensors")


def _read(folder: Path, name: str) -> Found:
    """Read what the processes wrote, and put their parts together."""

    def read(part: str) -> dict[str, Tensor]:
        found = [load_file(path) for path in sorted(folder.glob(f"{name}-?-{part}.safetensors"))]
        return {key: torch.cat([each[key] for each in found]) for key in found[0]}

    measured = load_file(folder / f"{name}-0-measured.safetensors")
    return Found(
        *(read(part) for part in ("gradients", "before", "after")),
        measured={key: float(value) for key, value in measured.items()},
    )
