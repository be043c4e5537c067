"""Runs one stage of a generation, from run file to result: dispatch, failures, exit code.

A committed result is final: another attempt at the same work returns it without repeating the
work. Failures are not committed, because another attempt may succeed. Nor is that of the stage
tokenize, whose pods each have work of their own: its run file names the result of the training, and
once that is there, nothing is tokenized.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import signal
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pydantic import ValidationError

from springtide_api.contract import TERMINATION_MESSAGE, ExitCode, Failure, Result, RunFile
from springtide_api.names import RUN_FILE
from springtide_trainer.errors import Interrupted, Refused
from springtide_trainer.interruption import raise_on_sigterm
from springtide_trainer.libraries import import_libraries
from springtide_trainer.objects.mirror import Mirror
from springtide_trainer.objects.store import is_object_uri
from springtide_trainer.panics import panics_as_errors
from springtide_trainer.stages import launcher, logs, termination_message
from springtide_trainer.storage import (
    Home,
    commit_file,
    forget,
    kept_by,
    read_committed,
    remote_of,
    uri_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

UNEXPECTED_ERROR = 1
"""Exit code of an unexpected error."""
SIGTERM_EXIT_CODE = 128 + signal.SIGTERM
DAY = 86_400.0
"""Longer than a probe can run: two probes may run at once."""


@dataclass(frozen=True)
class StageOutcome:
    """The result and the exit code of a pod."""

    result: Result
    code: int


def run_pod(environ: Mapping[str, str]) -> int:
    """Run the stage of the pod's run file; return the exit code."""
    logs.start()
    path = Path(environ.get("SPRINGTIDE_RUN_FILE", RUN_FILE))
    try:
        run = RunFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as wrong:
        log.error("run file cannot be read", extra={"path": str(path), "error": str(wrong)})
        return ExitCode.INVALID_INPUT
    pod_uid = environ.get("SPRINGTIDE_POD_UID", "pod")
    try:
        with opened(run, pod_uid) as home:
            processes, nodes = launcher.processes_of(run, environ), launcher.nodes_of(run, environ)
            outcome = run_stage(run, home, pod_uid, processes=processes, nodes=nodes)
            outcome = with_uris(outcome, home)
    except Refused as refused:
        outcome = failed(run, refused.failure, refused.code)
    if outcome.code != SIGTERM_EXIT_CODE:
        message = environ.get("SPRINGTIDE_TERMINATION_LOG", TERMINATION_MESSAGE)
        termination_message.write(outcome.result, message)
    log.info("stage ended", extra={"job": run.job, "exitCode": int(outcome.code)})
    return outcome.code


def run_stage(
    run: RunFile,
    home: Home,
    pod_uid: str,
    *,
    processes: int = 1,
    nodes: launcher.Nodes = launcher.ONE_NODE,
) -> StageOutcome:
    """Run a stage, or return the result that another pod committed; handle every error.

    Args:
        run: The run file.
        home: The storage.
        pod_uid: Uid of the pod.
        processes: Number of processes of a training in this pod.
        nodes: This pod among those that tokenize, train or score together; the first one alone
            commits.
    """
    final = home.result(run.result or run.job)
    try:
        if committed := _committed(final, run):
            log.info("result is already committed", extra={"job": run.job})
            _clean_up_late(run, home)
            return StageOutcome(committed, ExitCode.DONE)
        with raise_on_sigterm(), panics_as_errors(), home.tmp(run.job, pod_uid) as tmp:
            if run.stage == "train" and (processes > 1 or nodes.count > 1):
                result = launcher.train(
                    run, home, tmp, pod_uid=pod_uid, processes=processes, nodes=nodes
                )
            else:
                result = dispatch(run, home, tmp, nodes.rank)
            if run.stage == "tokenize" or not nodes.leads:
                if _committed(final, run):
                    _clean_up_late(run, home)
                return StageOutcome(result, ExitCode.DONE)
            result = commit(result, final, tmp / "result.json")
        _clean_up(run, home)
        return StageOutcome(result, ExitCode.DONE)
    except Interrupted as interrupted:
        return ended_by(interrupted, run, home)
    except Exception as error:
        away = isinstance(error, Refused) and error.code == ExitCode.ENVIRONMENT
        if not away and (committed := _committed_meanwhile(final, run, error)):
            _clean_up_late(run, home)
            return StageOutcome(committed, ExitCode.DONE)
        return ended_by(error, run, home)


def ended_by(error: Exception, run: RunFile, home: Home) -> StageOutcome:
    """Return the outcome of a stage that an error ended."""
    if isinstance(error, Interrupted):
        return failed(run, Failure(reason="Interrupted", message="SIGTERM"), SIGTERM_EXIT_CODE)
    if isinstance(error, Refused):
        return failed(run, error.failure, error.code)
    return _unexpected(run, home, error)


@contextmanager
def opened(run: RunFile, pod_uid: str) -> Iterator[Home]:
    """Return the storage of a run: its folder on a claim, or copies of it and an object store.

    Raises:
        Refused: the URI of the storage is not one.
    """
    if not is_object_uri(run.home):
        home = Home(Path(run.home))
        with kept_by(mirror(run, home, pod_uid)):
            yield home
        return
    with TemporaryDirectory(prefix="springtide-") as scratch:
        home = Home(Path(scratch, "home"))
        with kept_by(mirror(run, home, pod_uid)):
            yield home


def mirror(run: RunFile, home: Home, pod_uid: str) -> Mirror:
    """Return the copies of this pod: those of a storage in an object store are beside `home`."""
    if not is_object_uri(run.home):
        return Mirror(home.scratch(run.job, pod_uid) / "copies", root=home.path)
    copies, writer = home.path.with_name("copies"), f"{run.job}-{pod_uid}"
    return Mirror(copies, root=home.path, home=run.home, writer=writer)


def with_uris(outcome: StageOutcome, home: Home) -> StageOutcome:
    """Name what is in an object store by URI in the message of a failure, not by its copy."""
    failure = outcome.result.failure
    if failure is None or remote_of(home.path) is None:
        return outcome
    message = failure.message.replace(str(home.path), uri_of(home.path))
    failure = failure.model_copy(update={"message": message})
    return StageOutcome(outcome.result.model_copy(update={"failure": failure}), outcome.code)


def dispatch(run: RunFile, home: Home, tmp: Path, rank: int = 0) -> Result:
    """Run the function of a stage. Each stage imports the libraries that it needs.

    Args:
        run: The run file.
        home: The storage.
        tmp: The scratch folder of this pod.
        rank: The number of this pod among those that tokenize or score together.

    Raises:
        Refused: the input is not acceptable.
    """
    done = _done(run)
    match run.stage:
        case "import":
            import_libraries()
            from springtide_trainer.stages.import_model import import_model

            return done.model_copy(update={"imported": import_model(run, home, tmp)})
        case "probe":
            from springtide_trainer.stages.probe import probe

            return done.model_copy(update={"probe": probe(run, home, tmp)})
        case "tokenize":
            import_libraries()
            from springtide_trainer.stages.tokenize import tokenize

            tokenize(run, home, tmp, rank)
            return done
        case "train":
            import_libraries()
            from springtide_trainer.stages.train import train

            return done.model_copy(update={"train": train(run, home, tmp)})
        case "evaluate":
            import_libraries()
            from springtide_trainer.evaluation.sharing import score_share
            from springtide_trainer.stages.evaluate import evaluate

            if rank:
                score_share(run, home, tmp, rank)
                return done
            return done.model_copy(update={"evaluate": evaluate(run, home, tmp)})
        case "collect":
            from springtide_trainer.stages.collect import collect

            collect(run, home)
            return done


def _done(run: RunFile) -> Result:
    """Return the result of a stage without an output."""
    return Result(job=run.job, stage=run.stage, number=run.number, ok=True)


def _committed(path: Path, run: RunFile) -> Result | None:
    """Read a committed result and set its Job to the current one."""
    try:
        found = Result.model_validate_json(read_committed(path))
    except FileNotFoundError:
        return None
    if run.stage == "tokenize":  # it is that of the training
        return _done(run)
    return found.model_copy(update={"job": run.job})


def _committed_meanwhile(path: Path, run: RunFile, error: Exception) -> Result | None:
    """Read the result that another pod committed while this one worked, and then failed.

    The pod that commits removes the scratch folders of the other attempts, which may still run.
    """
    try:
        committed = _committed(path, run)
    except (OSError, ValidationError, Refused):
        return None
    if committed is not None:
        log.warning(
            "failed after another pod committed the result",
            extra={"job": run.job, "error": str(error)},
        )
    return committed


def commit(result: Result, final: Path, tmp: Path) -> Result:
    """Commit a result, or return the one that another process committed first."""
    tmp.write_text(json.dumps(result.plain(), indent=1), encoding="utf-8")
    if commit_file(tmp, final):
        return result
    first = Result.model_validate_json(read_committed(final))
    return first.model_copy(update={"job": result.job})


def _clean_up(run: RunFile, home: Home) -> None:
    """Remove scratch folders of killed attempts, and what they kept for a completed stage."""
    home.sweep(run.job, spare=DAY if run.stage == "probe" else 0.0)
    if run.number is None:
        return
    if run.stage == "train":
        home.sweep_tokenizing(run.number)
    if run.stage in {"train", "evaluate"}:
        forget(home.checkpoints(run.number))
        shutil.rmtree(home.checkpoints(run.number), ignore_errors=True)
    if run.stage == "tokenize":
        home.discard_tokens(run.number)


def _clean_up_late(run: RunFile, home: Home) -> None:
    """Remove what a pod kept for others after the one that committed the result had cleaned up."""
    if run.stage in {"tokenize", "evaluate"}:
        _clean_up(run, home)


def failed(run: RunFile, failure: Failure, code: int) -> StageOutcome:
    """Return the outcome of a stage that failed."""
    log.error("stage failed", extra={"job": run.job, "failure": failure.plain()})
    result = Result(job=run.job, stage=run.stage, number=run.number, ok=False, failure=failure)
    return StageOutcome(result, code)


_LESS_MEMORY = {
    "import": "raise training.compute.importMemory",
    "probe": "a probe has 2 GiB: write Parquet files with smaller row groups, or lower "
    "data.window.maxRows",
    "evaluate": "lower model.maxLength, or raise training.compute.resources.memory",
    "train": "lower training.hyperparameters.batchSize or model.maxLength, or raise "
    "training.compute.resources.memory",
}


def _unexpected(run: RunFile, home: Home, error: Exception) -> StageOutcome:
    """Return the outcome of out of memory, a full disk, denied access or an unexpected error."""
    if _out_of_memory(error):
        hint = _LESS_MEMORY.get(run.stage, _LESS_MEMORY["train"])
        failure = Failure(reason="OutOfMemory", message=f"out of memory; {hint}")
        return failed(run, failure, ExitCode.OUT_OF_MEMORY)
    if _disk_full(error):
        return failed(run, _full(home, error), ExitCode.ENVIRONMENT)
    if isinstance(error, PermissionError):
        message = (
            f"{error.filename}: permission denied; the pods run as user 65532: give it read access "
            "to the models and write access to the storage"
        )
        return failed(run, Failure(reason="NoAccess", message=message), ExitCode.ENVIRONMENT)
    log.exception("unexpected error", extra={"job": run.job})
    message = f"{type(error).__name__}: unexpected error; see the traceback in the log of the pod"
    return failed(run, Failure(reason="Error", message=message), UNEXPECTED_ERROR)


def _out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out. PyTorch's errors are matched by name, without importing it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(name in str(error) for name in ("DefaultCPUAllocator", "STATUS_ALLOC_FAILED"))


def _disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return True
    return "No space left on device" in str(error)


def _full(home: Home, error: Exception) -> Failure:
    """Return the failure of a full disk, with its free space. Quotas are not included."""
    copies = remote_of(home.path) is not None
    text = "no space left on the disk of the pod" if copies else "no space left on the storage"
    with suppress(OSError):
        disk = shutil.disk_usage(home.path)
        text += f", {disk.free:,} of {disk.total:,} bytes are free"
    if copies:
        hint = "the pod copies model and rows to /tmp: use nodes with larger disks"
        return Failure(reason="DiskFull", message=f"{text} ({error}); {hint}")
    return Failure(
        reason="DiskFull",
        message=f"{text} ({error}); enlarge the claim or delete files in it",
        field="storage.volume.claimName",
    )
