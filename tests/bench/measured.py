"""The operator and the stand-ins as processes, with their CPU time and memory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.error import URLError
from urllib.request import urlopen

from local_cluster.ports import free_ports

if TYPE_CHECKING:
    from local_cluster.apiserver import ApiServer

HERE = Path(__file__).parent
TESTS = HERE.parent
PORTS = ("PROGRESS", "HEALTH", "METRICS")
TICKS = os.sysconf("SC_CLK_TCK")
QUIET_CPU = 0.1
"""Seconds of CPU in one second: an operator that uses less is at rest."""
ALWAYS = 0.9
"""Seconds used or waited for in one second: one that wants a core all the time is not at rest."""


def cpu_seconds(pid: int) -> float:
    """Return the seconds of CPU of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class _Process:
    def __init__(self, command: list[str], environment: dict[str, str], log: Path | None) -> None:
        self.running: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **environment, "NO_PROXY": "127.0.0.1"},
            stdout=subprocess.PIPE if log is None else None,
            stderr=log.open("a") if log else subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.terminate()
        try:
            self.running.wait(20)
        except subprocess.TimeoutExpired:
            self.running.kill()
            self.running.wait()

    def ended(self) -> bool:
        return self.running.poll() is not None


class StandInProcess(_Process):
    """Ends Jobs and rolls Deployments, see `flooding.py`."""

    def __init__(self, server: ApiServer) -> None:
        path = f"{TESTS.parent / 'operator'}:{TESTS}"
        command = [str(HERE / "flooding.py"), str(server.kubeconfig)]
        super().__init__(command, {"PYTHONPATH": path}, None)
        self._live: int | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def wait_ready(self) -> None:
        while self._live is None and not self.ended():
            time.sleep(0.1)

    def live(self) -> int:
        """Return how many updates have a live generation."""
        return self._live or 0

    def _read(self) -> None:
        assert self.running.stdout is not None
        for line in self.running.stdout:
            self._live = json.loads(line)["live"]


class Measured(_Process):
    """The operator of a checkout."""

    def __init__(
        self, server: ApiServer, checkout: Path, folder: Path, *, selector: str = ""
    ) -> None:
        self._report = folder / "blocks.jsonl"
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self._metrics = ports["METRICS"]
        settings = {
            **{f"SPRINGTIDE_{name}_PORT": str(port) for name, port in ports.items()},
            "PYTHONPATH": f"{checkout / 'operator'}",
            "KUBECONFIG": str(server.kubeconfig),
            "SPRINGTIDE_TRAINER_IMAGE": "trainer",
            "SPRINGTIDE_PROGRESS_URL": "http://operator:8080",
            "SPRINGTIDE_NAMESPACE_SELECTOR": selector,
        }
        command = [str(HERE / "operator_process.py"), str(self._report)]
        super().__init__(command, settings, folder / "log")

    def ready(self) -> tuple[float, float]:
        """Wait until it is loaded; return the time, and the CPU that it took."""
        while not self.ended():
            try:
                urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=1).read()
                break
            except (URLError, OSError):
                time.sleep(0.05)
        return time.monotonic(), self.cpu()

    def wait_idle(self, began: float, quiet: float) -> float:
        """Wait until it has been at rest for so long; return the seconds until the rest started."""
        since, used, wanted = time.monotonic(), self.cpu(), self._wanted()
        while time.monotonic() - since < quiet:
            time.sleep(1)
            now, more = self.cpu(), self._wanted()
            if now - used > QUIET_CPU or more - wanted > ALWAYS:
                since = time.monotonic()
            used, wanted = now, more
        return since - began

    def cpu(self) -> float:
        """Return the seconds of CPU so far."""
        return cpu_seconds(self.running.pid)

    def _wanted(self) -> float:
        """Return the seconds of CPU so far, and those that its main thread waited for a core.

        On a machine that others use, too, an operator that gets no CPU is not at rest.
        """
        waited = Path(f"/proc/{self.running.pid}/schedstat").read_text().split()[1]
        return self.cpu() + int(waited) / 1e9

    def megabytes(self) -> float:
        """Return the memory that it holds now."""
        status = Path(f"/proc/{self.running.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def longest_block(self) -> float:
        """Return the longest block of the event loop since the last call."""
        known = self._lines()
        self.running.send_signal(signal.SIGUSR1)
        while len(self._lines()) == len(known) and not self.ended():
            time.sleep(0.05)
        return float(json.loads(self._lines()[-1])["seconds"])

    def _lines(self) -> list[str]:
        return self._report.read_text().splitlines() if self._report.exists() else []
