"""Sends requests for predictions and counts the failures; runs inside the cluster.

Waits until a first generation is served, then sends RATE requests a second and never more, however
long answers take, each over a connection of its own so that every pod gets its share. A request
fails when it is not answered with 200 and a probability within PATIENCE; none is repeated.
The totals are in the file TOTALS, rewritten every second: among them the number of answers of each
generation, the time of its last one and, for the last hour, the answers of every two seconds.
A share LONG of the requests is from customers with a long history: the purchases of many visits,
where a row of the data has those of one. Only the standard library is needed.
"""

from __future__ import annotations

import csv
import gzip
import http.client
import json
import os
import random
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

HOST = os.environ.get("HOST", "recommender.shop.svc")
PORT = int(os.environ.get("PORT", "80"))
MODEL = os.environ.get("MODEL", "recommender")
RATE = float(os.environ.get("RATE", "20"))
DATA = Path(os.environ.get("DATA", "/data"))
TOTALS = Path(os.environ.get("TOTALS", "/tmp/totals.json"))
PATIENCE = float(os.environ.get("PATIENCE", "10"))
LONG = float(os.environ.get("LONG", "0"))
KEPT_FAILURES = 20
PERIOD = 2
"""Seconds of one entry of the timeline."""
KEPT_PERIODS = 1800
VISITS = 30
"""Visits in a long history: more than 512 tokens."""


class Totals:
    """Counts of the requests so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: list[str] = []
        self._generations: Counter[str] = Counter()
        self._last: dict[str, float] = {}
        self._seconds: list[float] = []
        self._timeline: deque[dict[str, Any]] = deque(maxlen=KEPT_PERIODS)
        self.sent = 0

    def answered(self, generation: str, seconds: float) -> None:
        """Count an answer."""
        with self._lock:
            self._generations[generation] += 1
            self._last[generation] = time.time()
            self._seconds.append(seconds)
            answers = self._period()["answers"]
            answers[generation] = answers.get(generation, 0) + 1

    def failed(self, why: str) -> None:
        """Count a failure and keep the first ones with their time."""
        with self._lock:
            self._failures.append(f"{time.strftime('%H:%M:%S', time.gmtime())} {why}")
            self._period()["failed"] += 1

    def _period(self) -> dict[str, Any]:
        """Return the entry of the timeline that counts now."""
        at = int(time.time()) // PERIOD * PERIOD
        if not self._timeline or self._timeline[-1]["at"] < at:
            self._timeline.append({"at": at, "answers": {}, "failed": 0})
        return self._timeline[-1]

    def write(self, file: Path) -> None:
        """Replace the file by the totals as they stand."""
        with self._lock:
            latest = sorted(self._seconds[-6000:])
            totals = {
                "sent": self.sent,
                "answered": sum(self._generations.values()),
                "failed": len(self._failures),
                "failures": self._failures[:KEPT_FAILURES],
                "generations": dict(self._generations),
                "last": dict(self._last),
                "timeline": [one | {"answers": dict(one["answers"])} for one in self._timeline],
                "p50": latest[len(latest) // 2] if latest else None,
                "p99": latest[int(len(latest) * 0.99)] if latest else None,
            }
        new = file.with_suffix(".new")
        new.write_text(json.dumps(totals))
        new.replace(file)


def _ask(method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, PORT, timeout=PATIENCE)
    try:
        headers = {"Connection": "close", "Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _predict(body: str, tally: Totals) -> None:
    begun = time.monotonic()
    try:
        status, content = _ask("POST", f"/v2/models/{MODEL}/infer", body)
        if status != 200:
            return tally.failed(f"{status}: {content[:200]!r}")
        answer = json.loads(content)
        probability = answer["outputs"][0]["data"][1]
        if not 0.0 <= probability <= 1.0:
            return tally.failed(f"probability {probability}")
    except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
        return tally.failed(f"{type(error).__name__}: {error}")
    return tally.answered(answer.get("model_version", "?"), time.monotonic() - begun)


def _bodies(visits: int) -> list[str]:
    """Return requests of one row each, from the first month, with the purchases of some visits."""
    file = min(DATA.glob("[0-9]*.csv.gz"))  # no hidden ones: those are still being copied
    with gzip.open(file, "rt", newline="", encoding="utf-8") as text:
        rows = list(islice(csv.DictReader(text), 400))
    earlier = [row["query"] for row in rows]
    for place, row in enumerate(rows):
        row["query"] = "; ".join((earlier[place:] + earlier)[:visits])
    return [
        json.dumps(
            {
                "inputs": [
                    {"name": name, "shape": [1], "datatype": "BYTES", "data": [row[column]]}
                    for name, column in (("text", "query"), ("text_pair", "item"))
                ]
            }
        )
        for row in rows
    ]


def _served() -> bool:
    try:
        return _ask("GET", f"/v2/models/{MODEL}/ready")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def main() -> None:
    """Send requests until the pod is deleted."""
    tally = Totals()
    while not _served():
        tally.write(TOTALS)
        time.sleep(0.5)
    usual, long = _bodies(1), _bodies(VISITS)
    rng = random.Random(7)  # not every third: a gateway that takes turns could send all one way
    due = time.monotonic()
    with ThreadPoolExecutor(max_workers=256) as pool:
        while True:
            # Requests that a busy machine delayed are not sent later: that would be a burst.
            due = max(due + 1 / RATE, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            requests = long if rng.random() < LONG else usual
            pool.submit(_predict, requests[tally.sent % len(requests)], tally)
            tally.sent += 1
            if tally.sent % max(1, int(RATE)) == 0:
                tally.write(TOTALS)


if __name__ == "__main__":
    main()
