"""One stage of one generation, from run file to result: dispatch, failures, exit code.

A committed result is final: whoever starts the same Job again is given it without work. A failure
that another try may not meet (no memory, a full disk, a defect) is reported but not committed.
"""

from __future__ import annotations

import errno
import json
import logging
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from springtide_api.contract import TERMINATION_MESSAGE, ExitCode, Failure, Result, RunFile
from springtide_api.names import RUN_FILE
from springtide_trainer import logs, termination
from springtide_trainer.errors import Interrupted, Refused
from springtide_trainer.storage import Home, commit_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

SIGTERMED = 128 + signal.SIGTERM


class CommittedResult(Result):
    """A result as it lies in the storage: with the exit code, for whoever comes again."""

    exit_code: int = ExitCode.DONE


def run_pod(environ: Mapping[str, str]) -> int:
    """Do the stage that the pod's run file asks for; return the exit code."""
    logs.start()
    path = Path(environ.get("SPRINGTIDE_RUN_FILE", RUN_FILE))
    try:
        run = RunFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as wrong:
        log.error("run file is not readable", extra={"path": str(path), "error": str(wrong)})
        return ExitCode.INVALID_INPUT
    result = conclude(run, Home(Path(run.home)), environ.get("SPRINGTIDE_POD_UID", "pod"))
    if result.exit_code != SIGTERMED:
        termination.write(result, environ.get("SPRINGTIDE_TERMINATION_LOG", TERMINATION_MESSAGE))
    log.info("stage ended", extra={"job": run.job, "exitCode": int(result.exit_code)})
    return result.exit_code


def conclude(run: RunFile, home: Home, pod_uid: str) -> CommittedResult:
    """Do a stage, or find what another pod of the same Job committed."""
    try:
        if committed := _committed(home.result(run.job)):
            log.info("result was committed before", extra={"job": run.job})
            return committed
        with _interruptible(), home.tmp(run.job, pod_uid) as tmp:
            try:
                result = perform(run, home, tmp)
            except Refused as refused:
                result = _failed(run, refused.failure, refused.code)
            return _commit(result, home.result(run.job), tmp / "result.json")
    except Interrupted:
        return _failed(run, Failure(reason="Interrupted", message="SIGTERM"), SIGTERMED)
    except Exception as error:
        return _unexpected(run, error)


def perform(run: RunFile, home: Home, tmp: Path) -> CommittedResult:
    """Do the work of a stage. Libraries are imported by the stage that needs them.

    Raises:
        Refused: the input is not acceptable.
    """
    done = CommittedResult(job=run.job, stage=run.stage, number=run.number, ok=True)
    match run.stage:
        case "import":
            from springtide_trainer.import_model import import_model

            return done.model_copy(update={"imported": import_model(run, home, tmp)})
        case "probe":
            from springtide_trainer.probe import probe

            return done.model_copy(update={"probe": probe(run, home, tmp)})
        case "train":
            from springtide_trainer.train import train

            return done.model_copy(update={"train": train(run, home, tmp)})
        case "evaluate":
            from springtide_trainer.evaluate import evaluate

            return done.model_copy(update={"evaluate": evaluate(run, home, tmp)})
        case "collect":
            from springtide_trainer.collect import collect

            collect(run, home)
            return done


def _committed(path: Path) -> CommittedResult | None:
    try:
        return CommittedResult.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None


def _commit(result: CommittedResult, final: Path, tmp: Path) -> CommittedResult:
    """Commit a result; the first one counts."""
    tmp.write_text(json.dumps(result.plain(), indent=1), encoding="utf-8")
    if commit_file(tmp, final):
        return result
    return _committed(final) or result


def _failed(run: RunFile, failure: Failure, code: int) -> CommittedResult:
    log.error("stage failed", extra={"job": run.job, "failure": failure.plain()})
    return CommittedResult(
        job=run.job,
        stage=run.stage,
        number=run.number,
        ok=False,
        failure=failure,
        exit_code=code,
    )


def _unexpected(run: RunFile, error: Exception) -> CommittedResult:
    """Name a failure that another try may not meet; it is not committed."""
    if _out_of_memory(error):
        message = (
            "out of memory; lower training.hyperparameters.batchSize or model.maxLength, "
            "or raise training.compute.resources.memory"
        )
        failure = Failure(reason="OutOfMemory", message=message)
        return _failed(run, failure, ExitCode.OUT_OF_MEMORY)
    if _disk_full(error):
        message = f"no space left in the storage ({error}); enlarge the claim of storage.volume"
        return _failed(run, Failure(reason="DiskFull", message=message), ExitCode.INVALID_INPUT)
    log.exception("unexpected error", extra={"job": run.job})
    message = f"{type(error).__name__}; the traceback is in the log of the pod"
    return _failed(run, Failure(reason="Error", message=message), 1)


def _out_of_memory(error: BaseException) -> bool:
    """Tell memory that ran out, without importing PyTorch: its error is known by its name."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return True
    return "No space left on device" in str(error)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the stage in order: as process 1 it would be ignored otherwise."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
