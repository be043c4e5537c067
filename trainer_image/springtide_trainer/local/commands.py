"""The command line `springtide-trainer`: `run` tries a recipe, `init` writes one.

Exit codes: 0 accepted, 1 rejected or inconclusive, 2 wrong arguments, 3 to 75 as the pods of the
stages (`ExitCode`), 70 an unexpected error, 130 and 143 interrupted.
"""

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
from springtide_trainer.local import gate_table, starter
from springtide_trainer.local.display import display
from springtide_trainer.local.lineage import Generations
from springtide_trainer.local.manifest_file import InvalidManifest, Places, read
from springtide_trainer.local.validation import cel
from springtide_trainer.stages import logs
from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from springtide_trainer.local.display import Display
    from springtide_trainer.local.manifest_file import LocalRecipe

NOT_ACCEPTED = 1
UNEXPECTED_ERROR = 70
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
LOG = "run.log"


def main(arguments: Sequence[str]) -> int:
    """Run a command; return its exit code."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.command(given))
    except InvalidManifest as invalid:
        print(invalid, file=sys.stderr)
        return ExitCode.INVALID_INPUT
    except Refused as refused:
        print(f"error: {refused}", file=sys.stderr)
        return refused.code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="springtide-trainer",
        description="Try the recipe of an IncrementalUpdate, or write one.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="import, probe, train, evaluate and judge on this machine"
    )
    run.set_defaults(command=_run)
    run.add_argument("manifest", type=Path, help="the manifest of an IncrementalUpdate")
    run.add_argument("--data", type=Path, help="copy of spec.data.source.uri on this machine")
    run.add_argument("--model", type=Path, help="copy of spec.model.initial.uri on this machine")
    run.add_argument(
        "--dataset",
        action="append",
        default=[],
        type=_dataset,
        metavar="NAME=PATH",
        help="copy of a dataset with role Guardrail; may be repeated",
    )
    run.add_argument(
        "--storage", type=Path, default=Path("springtide"), help="folder of the results"
    )
    run.add_argument(
        "--through",
        type=_time,
        metavar="TIME",
        help="read only partitions that end at or before this time, such as 2026-04-01; give the "
        "cursor of the update where it runs in a cluster; default: all but the newest",
    )
    run.add_argument(
        "--quarantine",
        action="append",
        default=[],
        type=_partition,
        metavar="PARTITION",
        help="leave this partition out, such as 2026-04; may be repeated",
    )
    starter.add_command(commands)
    return parser


def _run(given: argparse.Namespace) -> int:
    """Take a recipe to a verdict on this machine."""
    places = Places(given.data, given.model, dict(given.dataset))
    asked = read(given.manifest, places)
    home = Home(given.storage.resolve() / asked.namespace / asked.name)
    shown = display()
    if cel is None:
        shown.line("rules between fields are not checked: pip install 'springtide[trainer,cli]'")
    with _one_run(home), (home.path / LOG).open("a", encoding="utf-8") as log:
        shutil.rmtree(
            home.path / "tmp", ignore_errors=True
        )  # of a killed run: this one has the lock
        logs.start(log)
        with _interruptible(shown) as interrupted:
            try:
                code = _take_window(given, asked, home, shown)
            except KeyboardInterrupt:
                return INTERRUPTED
            except Exception as error:
                if isinstance(error, Refused):
                    raise
                logging.getLogger(__name__).exception("unexpected error")
                print(f"error: {error!r}; see {home.path / LOG}", file=sys.stderr)
                return UNEXPECTED_ERROR
        return INTERRUPTED if interrupted and code == TERMINATED else code


def _take_window(given: argparse.Namespace, asked: LocalRecipe, home: Home, shown: Display) -> int:
    from springtide_trainer.local.local_stages import StageFailed
    from springtide_trainer.local.run import LocalRun, NoRun, Request

    request = Request(given.through, tuple(given.quarantine))
    local = LocalRun(asked, home, shown, request, Generations.read(home.path))
    try:
        generation, repeated = local.run()
    except NoRun as none:
        left = (
            "; the newest partitions are left to the next run of the cluster (--through reads them)"
        )
        held = "" if given.through else left
        shown.line(f"no run, {none.reason}: {none}{held}")
        return ExitCode.TOO_LITTLE_DATA
    except StageFailed as failed:
        return _failed(failed, home, shown)
    except Interrupted:
        shown.line("interrupted; the same command continues")
        return TERMINATED
    gate_table.show(generation, shown, repeated=repeated)
    return 0 if generation.verdict == "Accepted" else NOT_ACCEPTED


def _failed(failed: Exception, home: Home, shown: Display) -> int:
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


def _partition(text: str) -> str:
    try:
        named(text)
    except Refused as wrong:
        raise argparse.ArgumentTypeError(wrong.failure.message) from wrong
    return text
