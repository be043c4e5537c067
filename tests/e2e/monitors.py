"""Monitors that run during a fault: a client that sends requests, and values of a field."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.cluster import EXAMPLES
from demo.example import UPDATE
from e2e.small_example import SmallExample

RATE = 5
PATIENCE = 60
"""Seconds for an answer: on a busy machine a slow answer is no failure."""


@dataclass(frozen=True)
class Client:
    """The load generator of `examples/`, run in the cluster's network."""

    file: Path

    def totals(self) -> dict[str, Any]:
        """Return the newest totals; they are written every second."""
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    def summary(self) -> str:
        """Return how many requests were answered, in which time, and how many failed."""
        totals = self.totals()
        if not (timeline := totals.get("timeline")):
            return "no request was answered"
        seconds = timeline[-1]["at"] - timeline[0]["at"] or 1
        return (
            f"{totals['answered']} requests answered in {seconds} s, {totals['failed']} failed: "
            f"{totals['answered'] / seconds:.1f} a second"
        )

    def wait_for(self, *, more: int, seconds: float = 60.0) -> dict[str, Any]:
        """Return the totals once so many more requests were answered."""
        wanted = self.totals().get("answered", 0) + more
        ends = time.monotonic() + seconds
        while (seen := self.totals()).get("answered", 0) < wanted:
            assert time.monotonic() < ends, f"{seen} after {seconds:g} s; wanted {wanted} answers"
            time.sleep(0.3)
        return seen

    def answered_only_by(self, number: int, *, of: int, limit: float = 300.0) -> dict[str, Any]:
        """Return the totals once so many answers in a row are of one generation.

        Pods that were replaced answer until the node's rules follow, which takes its time on a
        busy machine.
        """
        ends = time.monotonic() + limit
        while True:
            before = self.totals().get("generations", {})
            totals = self.wait_for(more=of)
            now = totals["generations"]
            others = {name for name in now if now[name] != before.get(name, 0)} - {str(number)}
            if not others:
                return totals
            assert time.monotonic() < ends, f"generations {others} answer after {limit:g} s"


@contextmanager
def sending_requests(
    example: SmallExample, rate: int = RATE, through: tuple[str, int] | None = None
) -> Iterator[Client]:
    """Send so many requests a second to the server, from its first ready pod on.

    Args:
        example: whose server.
        rate: requests a second.
        through: address and port of a gateway; None: the Service.
    """
    with tempfile.TemporaryDirectory() as folder:
        client = Client(Path(folder) / "totals.json")
        settings = {
            "MODEL": UPDATE,
            "RATE": str(rate),
            "PATIENCE": str(PATIENCE),
            "DATA": str(example.folder("data")),
            "TOTALS": str(client.file),
        }
        if through:
            settings |= {"HOST": through[0], "PORT": str(through[1])}
        with _running(example, EXAMPLES / "load-generator" / "load_generator.py", settings):
            yield client
        print(client.summary())


@contextmanager
def sending_refused_requests(
    example: SmallExample, rate: int, *, service: str = UPDATE
) -> Iterator[None]:
    """Send at most so many requests a second to a Service, which its servers refuse."""
    script = Path(__file__).with_name("refused_requests.py")
    host = example.get(f"service/{service}")["spec"]["clusterIP"]
    with _running(example, script, {"HOST": host, "RATE": str(rate)}):
        yield


@contextmanager
def _running(example: SmallExample, script: Path, settings: dict[str, str]) -> Iterator[None]:
    """Run a client in the cluster's network, with the server's address as HOST."""
    service = example.get(f"service/{UPDATE}")["spec"]["clusterIP"]
    settings = {"HOST": service, **settings}
    given = [f"{name}={value}" for name, value in settings.items()]
    command = ["env", *given, sys.executable, str(script)]
    process = subprocess.Popen(example.node.in_namespace(command))
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def recording(example: SmallExample, what: str, path: str) -> Iterator[Callable[[], list[str]]]:
    """Record a field of an object now and at each change; yields a function that returns them.

    Args:
        example: where.
        what: the object, such as deployment/recommender.
        path: of the field, such as .status.availableReplicas.
    """
    place = f"--namespace={example.namespace}"
    shown = f"--output=jsonpath={{{path}}}{{'\\n'}}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "seen"
        with file.open("w") as out:
            command = [*example.kubectl.argv, place, "get", what, "--watch", shown]
            process = subprocess.Popen(command, stdout=out)
            try:
                yield lambda: file.read_text().splitlines()
            finally:
                process.terminate()
                process.wait()
