"""One stage of one generation, from run file to result: dispatch, failures, exit code.

A result that was committed is final: whoever starts the same work again is given it without doing
it. Failures are not committed: another attempt may meet another world.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from springtide_api.contract import TERMINATION_MESSAGE, ExitCode, Failure, Result, RunFile
from springtide_api.names import RUN_FILE
from springtide_trainer.errors import Interrupted, Refused
from springtide_trainer.interruption import raise_on_sigterm
from springtide_trainer.stages import logs, termination_message
from springtide_trainer.storage import Home, commit_file

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

DEFECT = 1
"""Exit code of an error that nobody foresaw."""
SIGTERMED = 128 + signal.SIGTERM
DAY = 86_400.0
"""Two looks for data may run at once, and none so long."""


@dataclass(frozen=True)
class Ending:
    """What a pod says, and how it exits."""

    result: Result
    code: int


def run_pod(environ: Mapping[str, str]) -> int:
    """Do the stage that the pod's run file asks for; return the exit code."""
    logs.start()
    path = Path(environ.get("SPRINGTIDE_RUN_FILE", RUN_FILE))
    try:
        run = RunFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as wrong:
        log.error("run file is not readable", extra={"path": str(path), "error": str(wrong)})
        return ExitCode.INVALID_INPUT
    ending = conclude(run, Home(Path(run.home)), environ.get("SPRINGTIDE_POD_UID", "pod"))
    if ending.code != SIGTERMED:
        place = environ.get("SPRINGTIDE_TERMINATION_LOG", TERMINATION_MESSAGE)
        termination_message.write(ending.result, place)
    log.info("stage ended", extra={"job": run.job, "exitCode": int(ending.code)})
    return ending.code


def conclude(run: RunFile, home: Home, pod_uid: str) -> Ending:
    """Do a stage, or find what another pod committed; turn every error into an ending."""
    final = home.result(run.result or run.job)
    try:
        if committed := _committed(final, run):
            log.info("result was committed before", extra={"job": run.job})
            return Ending(committed, ExitCode.DONE)
        with raise_on_sigterm(), home.tmp(run.job, pod_uid) as tmp:
            result = _commit(perform(run, home, tmp), final, tmp / "result.json")
        _tidy(run, home)
        return Ending(result, ExitCode.DONE)
    except Refused as refused:
        return _failed(run, refused.failure, refused.code)
    except Interrupted:
        return _failed(run, Failure(reason="Interrupted", message="SIGTERM"), SIGTERMED)
    except Exception as error:
        return _unexpected(run, home, error)


def perform(run: RunFile, home: Home, tmp: Path) -> Result:
    """Do the work of a stage. Libraries are imported by the stage that needs them.

    Raises:
        Refused: the input is not acceptable.
    """
    done = Result(job=run.job, stage=run.stage, number=run.number, ok=True)
    match run.stage:
        case "import":
            from springtide_trainer.stages.import_model import import_model

            return done.model_copy(update={"imported": import_model(run, home, tmp)})
        case "probe":
            from springtide_trainer.stages.probe import probe

            return done.model_copy(update={"probe": probe(run, home, tmp)})
        case "train":
            from springtide_trainer.stages.train import train

            return done.model_copy(update={"train": train(run, home, tmp)})
        case "evaluate":
            from springtide_trainer.stages.evaluate import evaluate

            return done.model_copy(update={"evaluate": evaluate(run, home, tmp)})
        case "collect":
            from springtide_trainer.stages.collect import collect

            collect(run, home)
            return done


def _committed(path: Path, run: RunFile) -> Result | None:
    """Read a committed result and sign it with the Job that gives it again."""
    try:
        found = Result.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    return found.model_copy(update={"job": run.job})


def _commit(result: Result, final: Path, tmp: Path) -> Result:
    """Commit a result. The first one counts: where another pod was faster, its words are said."""
    tmp.write_text(json.dumps(result.plain(), indent=1), encoding="utf-8")
    if commit_file(tmp, final):
        return result
    first = Result.model_validate_json(final.read_bytes())
    return first.model_copy(update={"job": result.job})


def _tidy(run: RunFile, home: Home) -> None:
    """Remove what a committed result makes useless: scratch of killed attempts, checkpoints."""
    home.sweep(run.job, spare=DAY if run.stage == "probe" else 0.0)
    if run.stage == "train" and run.number is not None:
        shutil.rmtree(home.checkpoints(run.number), ignore_errors=True)


def _failed(run: RunFile, failure: Failure, code: int) -> Ending:
    log.error("stage failed", extra={"job": run.job, "failure": failure.plain()})
    result = Result(job=run.job, stage=run.stage, number=run.number, ok=False, failure=failure)
    return Ending(result, code)


def _unexpected(run: RunFile, home: Home, error: Exception) -> Ending:
    """Tell a lack of memory, space or access from a defect."""
    if _out_of_memory(error):
        hint = (
            "raise training.compute.importMemory"
            if run.stage == "import"
            else "lower training.hyperparameters.batchSize or model.maxLength, or raise "
            "training.compute.resources.memory"
        )
        failure = Failure(reason="OutOfMemory", message=f"out of memory; {hint}")
        return _failed(run, failure, ExitCode.OUT_OF_MEMORY)
    if _disk_full(error):
        message = f"{_space(home)} ({error}); enlarge the claim or delete what is not needed"
        failure = Failure(reason="DiskFull", message=message, field="storage.volume.claimName")
        return _failed(run, failure, ExitCode.ENVIRONMENT)
    if isinstance(error, PermissionError):
        message = (
            f"{error.filename}: permission denied; our pods run without root, as user 65532: let "
            "it read the models and write to the storage"
        )
        return _failed(run, Failure(reason="NoAccess", message=message), ExitCode.ENVIRONMENT)
    log.exception("unexpected error", extra={"job": run.job})
    message = f"{type(error).__name__}; the traceback is in the log of the pod"
    return _failed(run, Failure(reason="Error", message=message), DEFECT)


def _out_of_memory(error: BaseException) -> bool:
    """Tell memory that ran out, without importing PyTorch: its errors are known by their names."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(name in str(error) for name in ("DefaultCPUAllocator", "STATUS_ALLOC_FAILED"))


def _disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return True
    return "No space left on device" in str(error)


def _space(home: Home) -> str:
    """Say how full the storage is, as far as it can be told: quotas are not seen here."""
    try:
        disk = shutil.disk_usage(home.path)
    except OSError:
        return "no space left in the storage"
    return f"no space left in the storage, {disk.free:,} of {disk.total:,} bytes are free"
