"""Runs the steps of the set-up and prints what each does and how many seconds it took.

A step that fails ends the set-up with one sentence that names what is missing; the output of the
failed command is in a log.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_cluster.places import CACHE

LOGS = CACHE / "log"
NO_NETWORK = (
    "Temporary failure",
    "Could not resolve",
    "Network is unreachable",
    "no such host",
    "dial tcp",
    "dns error",
    "Connection refused",
    "Name or service not known",
    "NewConnectionError",
)


class SetupError(RuntimeError):
    """Something is missing that the set-up cannot install; the message is one sentence."""


@dataclass(frozen=True)
class Step:
    """One part: `missing` returns what has to be done (empty: nothing), `make` does it."""

    name: str
    missing: Callable[[], str]
    make: Callable[[], None]

    def run(self) -> None:
        if not (what := self.missing()):
            say(f"{self.name}: installed")
            return
        say(f"{self.name}: {what}")
        started = time.monotonic()
        self.make()
        say(f"{self.name}: {time.monotonic() - started:.0f} s")


def run_lanes(lanes: Sequence[Sequence[Step]]) -> None:
    """Run lanes of steps side by side: one computes while the other waits for the network.

    Raises:
        SetupError: the first step that failed; the other lanes end after their current step.
    """
    errors: list[Exception] = []
    threads = [threading.Thread(target=_run_lane, args=(lane, errors)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def execute(
    what: str, argv: Sequence[str | Path], *, env: dict[str, str] | None = None, cwd: Path = CACHE
) -> None:
    """Run a command of a step; its output goes to the log `what`.

    Raises:
        SetupError: it failed.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{what.replace(' ', '-')}.log"
    with log.open("w") as output:
        ran = subprocess.run(
            [str(word) for word in argv],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=env,
            cwd=cwd,
            check=False,
        )
    if ran.returncode:
        text = log.read_text(errors="replace")
        if any(sign in text for sign in NO_NETWORK):
            raise SetupError(f"{what} needs the network, which does not answer; see {log}")
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "no output")
        raise SetupError(f"{what} failed ({last.strip()}); see {log}")


def say(line: str) -> None:
    """One line of progress."""
    print(f"setup: {line}", file=sys.stderr, flush=True)


def _run_lane(lane: Sequence[Step], errors: list[Exception]) -> None:
    try:
        for step in lane:
            if not errors:
                step.run()
    except Exception as error:
        errors.append(error)
