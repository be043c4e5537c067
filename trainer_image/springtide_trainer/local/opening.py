"""What the commands on a recipe share: their options, and the folder of their results."""

from __future__ import annotations

import argparse
import fcntl
import logging
import shutil
import signal
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from springtide_api.contract import ExitCode
from springtide_trainer.data.partitions import named
from springtide_trainer.errors import Interrupted, Refused
from springtide_trainer.local.manifest_file import Places
from springtide_trainer.stages import logs
from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from springtide_trainer.local.display import Display
    from springtide_trainer.local.manifest_file import LocalRecipe

UNEXPECTED_ERROR = 70
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
LOG = "run.log"


def add_places(command: argparse.ArgumentParser) -> None:
    """Add the options that say what is read on this machine, and where results go."""
    command.add_argument("manifest", type=Path, help="the manifest of an IncrementalUpdate")
    command.add_argument("--data", type=Path, help="copy of spec.data.source.uri on this machine")
    command.add_argument(
        "--model", type=Path, help="copy of spec.model.initial.uri on this machine"
    )
    command.add_argument(
        "--dataset",
        action="append",
        default=[],
        type=_dataset,
        metavar="NAME=PATH",
        help="copy of a dataset with role Guardrail; may be repeated",
    )
    command.add_argument(
        "--storage", type=Path, default=Path("springtide"), help="folder of the results"
    )
    command.add_argument(
        "--through",
        type=_time,
        metavar="TIME",
        help="read only partitions that end at or before this time, such as 2026-04-01; give the "
        "cursor of the update where it runs in a cluster; default: all but the newest",
    )
    command.add_argument(
        "--quarantine",
        action="append",
        default=[],
        type=_partition,
        metavar="PARTITION",
        help="leave this partition out, such as 2026-04; may be repeated",
    )
    command.add_argument(
        "--exclude-generation",
        action="append",
        default=[],
        type=_number,
        metavar="NUMBER",
        help="leave rows out that this generation of the update in a cluster served before it was "
        "rolled back, such as 6; may be repeated",
    )


def on_folder(
    asked: LocalRecipe, storage: Path, shown: Display, work: Callable[[Home], int]
) -> int:
    """Do work that writes into the folder of a recipe, alone; return its exit code.

    Raises:
        Refused: another run uses the folder, or the work refused its input.
    """
    home = Home(storage.resolve() / asked.namespace / asked.name)
    with _one_run(home), (home.path / LOG).open("a", encoding="utf-8") as log:
        # Of a killed run: this one has the lock.
        shutil.rmtree(home.path / "tmp", ignore_errors=True)
        logs.start(log)
        with _interruptible(shown) as interrupted:
            try:
                code = work(home)
            except KeyboardInterrupt:
                return INTERRUPTED
            except Exception as error:
                if isinstance(error, Refused):
                    raise
                logging.getLogger(__name__).exception("unexpected error")
                print(f"error: {error!r}; see {home.path / LOG}", file=sys.stderr)
                return UNEXPECTED_ERROR
        return INTERRUPTED if interrupted and code == TERMINATED else code


def places(given: argparse.Namespace) -> Places:
    """Return where this machine has what the manifest names."""
    return Places(given.data, given.model, dict(given.dataset))


def stage_failed(failed: Exception, home: Home, shown: Display) -> int:
    """Tell why a stage ended; return the exit code."""
    from springtide_trainer.local.local_stages import StageFailed

    assert isinstance(failed, StageFailed)
    if failed.code == TERMINATED:
        shown.line(f"{failed.stage}: interrupted; the same command continues from here")
        return TERMINATED
    known = failed.code in {code.value for code in ExitCode}
    field = f" ({failed.failure.field})" if failed.failure.field else ""
    where = "" if known else f"; see {home.path / LOG}"
    print(
        f"error: {failed.stage}: {failed.failure.reason}: {failed.failure.message}{field}{where}",
        file=sys.stderr,
    )
    return failed.code if known else UNEXPECTED_ERROR


@contextmanager
def _one_run(home: Home) -> Iterator[None]:
    """Hold the lock of a folder: two runs would write the same generation.

    Raises:
        Refused: another run holds it, or the folder cannot be written.
    """
    try:
        home.path.mkdir(parents=True, exist_ok=True)
        lock = (home.path / "run.lock").open("w")
    except OSError as denied:
        message = f"{home.path}: {denied.strerror}; use another --storage"
        raise Refused("NoAccess", message, code=ExitCode.ENVIRONMENT) from denied
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            message = f"another run uses {home.path}; wait for it, or use another --storage"
            raise Refused("StorageInUse", message, code=ExitCode.ENVIRONMENT) from held
        yield


@contextmanager
def _interruptible(shown: Display) -> Iterator[list[int]]:
    """Treat Ctrl-C as the SIGTERM of a pod: training completes its step and saves a checkpoint.

    A second Ctrl-C ends the process at once.
    """
    received: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        shown.line("interrupted; saving what is done (Ctrl-C again ends at once)")
        signal.raise_signal(signal.SIGTERM)

    def terminate(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGINT, interrupt), signal.signal(signal.SIGTERM, terminate)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as wrong:
        message = f"{text!r} is not a time such as 2026-04-01 or 2026-04-01T00:00:00Z"
        raise argparse.ArgumentTypeError(message) from wrong
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _dataset(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH, such as musts=./musts.csv")
    return name, Path(path)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a generation, such as 6")
    return int(text)


def _partition(text: str) -> str:
    try:
        named(text)
    except Refused as wrong:
        raise argparse.ArgumentTypeError(wrong.failure.message) from wrong
    return text
