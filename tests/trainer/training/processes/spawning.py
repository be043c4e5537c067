"""Processes that are connected as those of a pod; where one fails, each says where it is.

On a busy machine the clock alone does not tell slow ones from those that hang: one that waits in
vain for another one fails soon, and those that go on have much time.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from springtide_trainer.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from pathlib import Path

PRELOADED = [
    "springtide_trainer.training.fit",
    "springtide_trainer.training.engine.shards",
    "peft",
    "transformers.models.bert.modeling_bert",
]
WAIT = 300.0
"""Seconds that a process waits for another one. What takes longer hangs."""
SECONDS = 1200.0
"""Until processes that go on are ended."""
LEFT_SECONDS = 10.0
"""The same, after one has failed."""


@dataclass(frozen=True)
class Meeting:
    """Where processes meet.

    Attributes:
        folder: The folder of their files.
        count: How many they are.
        seconds: Until one that waits for another one fails.
    """

    folder: Path
    count: int
    seconds: float

    def join(self, rank: int) -> Processes:
        """Connect a process with the others."""
        store = dist.FileStore(str(self.folder / f"store-of-{self.count}"), self.count)
        limit = timedelta(seconds=self.seconds)
        dist.init_process_group(
            "gloo", store=store, rank=rank, world_size=self.count, timeout=limit
        )
        return Processes(rank, self.count)

    def trace(self, rank: int) -> Path:
        """Return the file in which a process says where it is."""
        return self.folder / f"process-{rank}-of-{self.count}.txt"


def spawn(
    count: int, folder: Path, work: Callable[..., None], *given: Any, seconds: float = WAIT
) -> None:
    """Run a function of a module in so many processes, which all must succeed.

    Args:
        count: Number of processes.
        folder: A folder for their first meeting.
        work: Called with the process among all, and what is given.
        given: Its arguments.
        seconds: Until one that waits for another one fails.
    """
    starting = multiprocessing.get_context("forkserver")
    starting.set_forkserver_preload(PRELOADED)
    meeting = Meeting(folder, count, seconds)
    started = [
        starting.Process(target=_run, args=(rank, meeting, work, given), daemon=True)
        for rank in range(count)
    ]
    for process in started:
        process.start()
    try:
        _await_end(started)
        assert [each.exitcode for each in started] == [0] * count, _report(started, meeting)
    finally:
        for process in started:
            process.kill()


def _await_end(started: list[BaseProcess]) -> None:
    """Wait until all have ended; where one has failed, not long for those that it leaves."""
    until = time.monotonic() + SECONDS
    while running := [each.sentinel for each in started if each.exitcode is None]:
        if not wait(running, until - time.monotonic()):
            return
        if any(each.exitcode for each in started):
            until = min(until, time.monotonic() + LEFT_SECONDS)


def _report(started: list[BaseProcess], meeting: Meeting) -> str:
    """Return of each process how it ended, and where it is or was."""
    codes = [each.exitcode for each in started]
    for process in started:
        if process.exitcode is None and process.pid is not None:
            os.kill(process.pid, signal.SIGUSR1)
    time.sleep(1)  # they write it now
    lines = []
    for rank, code in enumerate(codes):
        lines.append(f"process {rank} of {meeting.count}, exit code {code}:")
        with suppress(FileNotFoundError):
            lines.append(meeting.trace(rank).read_text())
    return "\n".join(lines)


def _run(rank: int, meeting: Meeting, work: Callable[..., None], given: Any) -> None:
    with meeting.trace(rank).open("w") as trace:
        faulthandler.register(signal.SIGUSR1, trace)
        try:
            os.environ["GLOO_SOCKET_IFNAME"] = "lo"
            torch.set_num_threads(1)
            processes = meeting.join(rank)
            work(processes, *given)
            processes.leave()
        except BaseException:
            traceback.print_exc(file=trace)
            raise
