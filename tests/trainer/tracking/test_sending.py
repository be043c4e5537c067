"""Deliveries to a tracker: tried again, never in the way of the training, without secrets."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading

import pytest

from springtide_trainer.tracking.sending import Sending, without_secrets
from springtide_trainer.tracking.tracker import Point


def point(step: int) -> Point:
    return Point(step, "train/loss", 0.5, 100.0)


class Notebook:
    """A tracker that fails as often as a test asks for."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.steps: list[int] = []
        self.ended: list[str] = []

    def log(self, points):
        if self.failures:
            raise self.failures.pop(0)
        self.steps += [each.step for each in points]

    def close(self, ending):
        self.ended.append(ending)


def sent(tracker: Notebook, *, steps: int = 3, connect=None) -> Sending:
    """Send some points, then end and wait."""
    sending = Sending("MLflow", connect or (lambda: tracker), interval=0.01)
    sending.start()
    for step in range(1, steps + 1):
        sending.add([point(step)])
    sending.end("finished")
    sending.wait(30)
    return sending


def test_all_points_arrive_once_and_in_order():
    tracker = Notebook()
    sending = sent(tracker, steps=40)
    assert tracker.steps == [*range(1, 41)]
    assert (tracker.ended, sending.warning) == (["finished"], "")


def test_a_server_that_is_away_for_a_while_gets_everything_later_and_no_warning_is_left(caplog):
    tracker = Notebook(ConnectionError("refused"), ConnectionError("refused"))
    sending = Sending("MLflow", lambda: tracker, interval=0.01)
    sending.add([point(1), point(2)])
    sending.start()
    while tracker.failures:
        threading.Event().wait(0.01)
    sending.end("finished")
    sending.wait(30)
    assert tracker.steps == [1, 2]
    assert sending.warning == ""
    assert caplog.messages == ["tracking failed"]  # once, not once for each try


@pytest.mark.survives(
    "Jobs and pods",
    "an experiment tracker is away, its disk is full or its package is missing",
    "a warning in log and result; the run goes on with the same weights",
)
@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ConnectionError("no route to host"), "MLflow: ConnectionError: no route to host"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "MLflow: OSError: [Errno 28] No space left on device",
        ),
        (SystemExit(3), "MLflow: SystemExit: 3"),
    ],
)
def test_what_fails_to_the_end_is_a_warning(error, shown):
    sending = sent(Notebook(*[error] * 1000))
    assert sending.warning == shown


def test_a_missing_package_is_named_and_not_tried_again():
    tries = []

    def connect():
        tries.append(1)
        raise ModuleNotFoundError("No module named 'wandb'", name="wandb")

    sending = sent(Notebook(), connect=connect)
    assert sending.warning == "MLflow: the trainer image has no package wandb"
    assert tries == [1]


def test_a_server_that_never_answers_does_not_hold_the_end_of_the_run():
    answer = threading.Event()

    def connect():
        answer.wait(60)
        return Notebook()

    sending = Sending("WandB", connect)
    sending.start()
    sending.end("finished")
    sending.wait(0.05)
    assert sending.warning == "WandB: no answer in time; the run goes on without it"
    answer.set()


def test_a_process_does_not_wait_for_a_package_that_hangs():
    """As that of Weights & Biases, which waits for its own process at exit."""
    code = (
        "import atexit, sys, threading, time\n"
        "from springtide_trainer import __main__ as entry\n"
        "from springtide_trainer.tracking.sending import Sending\n"
        "atexit.register(time.sleep, 120)\n"
        "sending = Sending('WandB', threading.Event().wait)\n"
        "sending.start()\n"
        "sending.end('failed')\n"
        "sending.wait(0.01)\n"
        "print('the end')\n"
        "sys.exit(entry._ended(3))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "the end\n")


def test_a_thread_that_cannot_be_started_is_a_warning(monkeypatch):
    def full(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    assert sent(Notebook()).warning == "MLflow: can't start new thread"


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "MLFLOW_TRACKING_AUTH", "storage_connection"])
def test_a_warning_has_no_credentials(monkeypatch, name):
    monkeypatch.setenv(name, "0123456789abcdef")
    text = "401 for https://ana:hunter2@mlflow.example/api with key 0123456789abcdef\nsecond line"
    sending = sent(Notebook(*[ValueError(text)] * 1000))
    assert sending.warning == (
        "MLflow: ValueError: 401 for https://***@mlflow.example/api with key ***"
    )


def test_a_warning_fits_a_termination_message():
    sending = sent(Notebook(*[ValueError("x" * 5000)] * 1000))
    assert len(sending.warning) == 200
    assert without_secrets("", {}) == ""
