"""Trains in several processes, one for each GPU, started by PyTorch's elastic launcher.

They are all in this pod, or in those of several nodes, each of which starts its own. The processes
run `rank`. A process that fails ends all of them: nothing is restarted here, because the next
attempt resumes from the last checkpoint. This process trains nothing; it reports the end of the one
that failed first, under its exit code.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from springtide_api.contract import ExitCode, Failure, Result
from springtide_trainer.errors import Interrupted, Refused
from springtide_trainer.processes import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from springtide_api.contract import RunFile
    from springtide_trainer.storage import Home

NODES, RENDEZVOUS, INDEX = "SPRINGTIDE_NODES", "SPRINGTIDE_RENDEZVOUS", "JOB_COMPLETION_INDEX"
"""Variables of a pod among several: their number, host and port of the first, which this one is.

The number of this one is set by Kubernetes in each pod of an Indexed Job."""
PROCESSES = "SPRINGTIDE_PROCESSES"
"""Variable that sets the number of processes of a pod, also without GPUs."""
SHUTDOWN_SECONDS = 50
"""Time for a checkpoint after SIGTERM: the grace period of a pod, less some seconds to end."""
SECONDS_TO_END = 10
"""A process that is killed later than the first one ended was killed because of it."""
RANK = "springtide_trainer.stages.rank"

_EXPLAINED = frozenset(ExitCode) - {ExitCode.DONE}
"""Exit codes by which a process names its own failure. One that lost another ends differently."""


@dataclass(frozen=True)
class Nodes:
    """The pods that tokenize, train or score together: the number of this one, and all."""

    rank: int = 0
    count: int = 1
    rendezvous: str = ""
    """Host and port of the first pod."""

    @property
    def leads(self) -> bool:
        """Whether this is the first pod, the only one that commits a result."""
        return self.rank == 0


ONE_NODE = Nodes()
"""A pod that works alone."""


def nodes_of(run: RunFile, environ: Mapping[str, str]) -> Nodes:
    """Return the place of this pod among those that tokenize, train or score together.

    Raises:
        Refused: the variables are not those of a pod of a JobSet, or of an Indexed Job.
    """
    rank = environ.get(INDEX, "")
    shared = run.evaluate if run.stage == "evaluate" else run.tokenize
    if shared and shared.pods > 1:
        if not rank.isdecimal() or int(rank) >= shared.pods:
            message = f"{INDEX} is {rank!r} in one of {shared.pods} pods of stage {run.stage}"
            raise Refused("InvalidRunFile", message)
        return Nodes(int(rank), shared.pods)
    count = environ.get(NODES)
    if not count:
        return ONE_NODE
    rendezvous = environ.get(RENDEZVOUS, "")
    if not (count.isdecimal() and rank.isdecimal() and int(rank) < int(count) and rendezvous):
        found = ", ".join(f"{name}={environ.get(name)}" for name in (NODES, INDEX, RENDEZVOUS))
        message = f"the variables of a pod on several nodes do not fit together: {found}"
        raise Refused("InvalidRunFile", message)
    return Nodes(int(rank), int(count), rendezvous)


def processes_of(run: RunFile, environ: Mapping[str, str]) -> int:
    """Return the number of processes of a stage: for a training, one for each GPU.

    Raises:
        Refused: the variable `SPRINGTIDE_PROCESSES` is no number, or the pod has too few GPUs.
    """
    wanted = max(1, run.recipe.training.compute.gpus_per_node)
    if run.stage != "train":
        return 1
    if given := environ.get(PROCESSES):
        if not given.isdecimal() or int(given) < 1:
            raise Refused("InvalidRunFile", f"{PROCESSES} is {given!r}; set a number from 1")
        return int(given)
    if wanted > 1 and (found := _gpus()) < wanted:
        raise Refused(
            "NoGpu",
            f"training.compute.gpusPerNode is {wanted} and this pod sees {found}; look at the "
            "device plugin and the driver of the node",
            "spec.training.compute.gpusPerNode",
            ExitCode.ENVIRONMENT,
        )
    return wanted


def train(
    run: RunFile,
    home: Home,
    tmp: Path,
    *,
    pod_uid: str,
    processes: int,
    nodes: Nodes = ONE_NODE,
) -> Result:
    """Train in several processes and return the result, which the first of them has committed.

    In another pod than the first one it says only that all went well.

    Args:
        run: The run file; its stage is train.
        home: The storage.
        tmp: The scratch folder of this pod.
        pod_uid: Uid of the pod.
        processes: Their number in this pod.
        nodes: This pod among those that train together.

    Raises:
        Refused: a process failed, or another pod ended.
        Interrupted: SIGTERM was received; a checkpoint is saved.
    """
    # Imported here, because a stage of one process does not need it.
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with TemporaryDirectory(prefix="springtide-") as made, _environment(processes, nodes):
        ends, first = Path(made), nodes.rank * processes
        (ends / "run.json").write_text(
            run.model_dump_json(by_alias=True, exclude_none=True), encoding="utf-8"
        )
        config = LaunchConfig(
            min_nodes=nodes.count,
            max_nodes=nodes.count,
            nproc_per_node=processes,
            run_id=run.job,
            **_rendezvous(nodes),
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=made),
            signals_to_handle="SIGTERM",
            shutdown_timeout=SHUTDOWN_SECONDS,
            virtual_local_rank=_gpus() >= processes,
        )
        try:
            elastic_launch(config, sys.executable)("-m", RANK, made, home.path, tmp, pod_uid)
        except ChildFailedError as failed:
            times = {rank: each.timestamp for rank, each in failed.failures.items()}
            codes = {rank: each.exitcode for rank, each in failed.failures.items()}
            raise _cause(codes, times, ends, processes * nodes.count) from failed
        except SignalException as received:
            done = end_of(ends, first)
            if done is None or not done.ok:
                raise Interrupted from received
        except DistError as lost:
            message = f"pod {nodes.rank} of {nodes.count} lost the others: {lost}"
            raise Refused("OtherPodLost", message[:900], code=1) from lost
        done = end_of(ends, first)
        if done is None:
            raise Refused("Error", f"process {first} left no result", code=1)
        return done


def _rendezvous(nodes: Nodes) -> dict[str, Any]:
    """Return how the launchers find each other; the first pod is the first node by its number."""
    if nodes.count == 1:
        return {
            "rdzv_backend": "c10d",
            "rdzv_endpoint": "localhost:0",
            "local_addr": "localhost",
        }
    # The others may wait long for a node; then the limits of the operator end them.
    waits = {"rank": nodes.rank, "timeout": int(LONGEST_WAIT.total_seconds())}
    return {
        "rdzv_backend": "static",
        "rdzv_endpoint": nodes.rendezvous,
        "rdzv_configs": waits,
    }


def end_of(ends: Path, rank: int) -> Result | None:
    """Read how a process says that it ended; None if it was killed."""
    try:
        return Result.model_validate_json((ends / f"{rank}.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _cause(
    codes: Mapping[int, int], times: Mapping[int, int], ends: Path, processes: int
) -> Refused:
    """Return the failure of the process that failed first.

    The others fail because of it: without it a sum of gradients fails, or they are ended, by
    SIGTERM and after 30 seconds by SIGKILL. So a process that names its failure comes before them,
    and one that was killed at once.
    """
    first = min(times.values())

    def order(rank: int) -> tuple[bool, bool, bool, int, int]:
        code, later = codes[rank], times[rank] - first
        ended = code in {-signal.SIGTERM, 128 + signal.SIGTERM}
        killed = code < 0 and not ended and later < SECONDS_TO_END
        return code not in _EXPLAINED, not killed, ended, later, rank

    rank = min(codes, key=order)
    code = codes[rank] if codes[rank] > 0 else 128 - codes[rank]
    end = end_of(ends, rank)
    if end is not None and end.failure is not None:
        failure = end.failure
    else:
        how = f"exit code {codes[rank]}" if codes[rank] > 0 else f"signal {-codes[rank]}"
        failure = Failure(
            reason="ProcessEnded",
            message=f"process {rank} of {processes} was ended by {how}; see the log of the pod",
        )
    return Refused(failure.reason, failure.message, failure.field, code)


@contextmanager
def _environment(processes: int, nodes: Nodes) -> Iterator[None]:
    """Set what the processes read, and keep this one's handler of SIGTERM, in this block.

    They share the cores of the pod. On one node all connections are inside of it, so no network is
    needed; between several, gloo and NCCL choose the interface of the pod.
    """
    inside = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    changed = {
        **(inside if nodes.count == 1 else {}),
        # Its warnings are not JSON, and one is that a model uses all its parameters.
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
    }
    if threads := os.environ.get("OMP_NUM_THREADS"):
        changed["OMP_NUM_THREADS"] = str(max(1, int(threads) // processes))
    if _gpus() < processes:
        changed["CUDA_VISIBLE_DEVICES"] = ""
    before = {name: os.environ.get(name) for name in changed}
    handler = signal.getsignal(signal.SIGTERM)
    os.environ.update(changed)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
