"""Compares the server with a transformers pipeline behind FastAPI, on the same cores.

    PYTHONPATH=tests python tests/bench/server_against_fastapi.py [--requests 1200] [--rounds 5]

MiniLM-L6 in FP32 on both sides, one text of 44 tokens on average in each request, 32 clients, each
with a connection of its own. The pipeline is served as its documentation does it: one process, one
call for each request, in the threads of FastAPI; and once more in as many processes of one thread
as there are cores. The sides take turns, so only the ratios mean something: the median of
the rounds must be 4 times that of the plain side, at no higher 99th percentile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import httpx
from bench.relevance import MAX_LENGTH, texts, weights
from bench.server_batching import free_port, load, server
from trainer.training.conftest import imported

from springtide_trainer.artifact.models import load_tokenizer
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_LEAST = 4.0
PLAIN = "pipeline behind FastAPI"
CORES = len(os.sched_getaffinity(0))

APPLICATION = f"""
import os

from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

classify = pipeline("text-classification", model=os.environ["MODEL"], device="cpu", top_k=None)
app = FastAPI()


class Texts(BaseModel):
    texts: list[str]


@app.post("/predict")
def predict(asked: Texts):
    return classify(asked.texts, truncation=True, max_length={MAX_LENGTH})


@app.get("/ready")
def ready():
    return True
"""


@dataclass(frozen=True)
class Side:
    """A server, and how it is asked for the score of one text."""

    name: str
    url: str
    bodies: list[bytes]


@contextmanager
def pipeline(folder: Path, application: Path, *, workers: int, threads: int) -> Iterator[str]:
    """Serve a pipeline in so many processes; yields its address once it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "application:app", "--port", str(port)]
    command += ["--workers", str(workers), "--no-access-log", "--log-level", "warning"]
    env = {**os.environ, "MODEL": str(folder), "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, env=env, cwd=application.parent)
    address = f"http://127.0.0.1:{port}"
    try:
        while not _ready(address):
            if process.poll() is not None:
                sys.exit(f"FastAPI ended with {process.returncode}; is the package installed?")
            time.sleep(0.2)
        time.sleep(5 if workers > 1 else 0)  # the others load, too: one alone may have answered
        yield address
    finally:
        process.terminate()
        process.wait()


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/ready").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def sides(folder: Path, some: list[str]) -> Iterator[list[Side]]:
    """Start all servers."""
    made = imported(weights(), Home(folder / "home"))
    parent = local_path(made.uri)
    application = folder / "application.py"
    application.write_text(APPLICATION)
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES"}
    ours = [json.dumps({"inputs": [{**tensor, "data": [each]}]}).encode() for each in some]
    theirs = [json.dumps({"texts": [each]}).encode() for each in some]
    with ExitStack() as open_now:
        address = open_now.enter_context(server(made.uri, made.digest, OMP_NUM_THREADS=str(CORES)))
        plain = open_now.enter_context(pipeline(parent, application, workers=1, threads=CORES))
        tuned = open_now.enter_context(pipeline(parent, application, workers=CORES, threads=1))
        yield [
            Side("Springtide", f"{address}/v2/models/model/infer", ours),
            Side(PLAIN, f"{plain}/predict", theirs),
            Side(f"the same, {CORES} processes", f"{tuned}/predict", theirs),
        ]


def main() -> None:
    """Print requests per second and latency of each side, and the ratios; fail if one is low."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1200)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    some = texts(load_tokenizer(weights()), chosen.requests, 7)[0]
    ratios: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, sides(Path(folder), some) as all_sides:
        print(f"{'':28}  requests/s  p50 ms  p99 ms")
        for number in range(chosen.rounds):
            measured = {}
            for side in all_sides[:: 1 if number % 2 else -1]:
                asyncio.run(load(side.url, side.bodies[:64], chosen.clients))  # it idled: warm up
                rate, seconds = asyncio.run(load(side.url, side.bodies, chosen.clients))
                p50, p99 = (1e3 * seconds[int(share * len(seconds))] for share in (0.5, 0.99))
                measured[side.name] = rate, p99
                print(f"{side.name:28}  {rate:10.1f}  {p50:6.1f}  {p99:6.1f}", flush=True)
            rate, p99 = measured.pop("Springtide")
            for name, (other, slowest) in measured.items():
                ratios.setdefault(name, []).append((rate / other, p99 / slowest))
    for name, found in ratios.items():
        faster, slower = ([each[i] for each in found] for i in (0, 1))
        print(
            f"against {name}: {median(faster):.2f} times the requests ({min(faster):.2f} to "
            f"{max(faster):.2f}), {median(slower):.2f} times the p99"
        )
    faster, slower = (median(each) for each in zip(*ratios[PLAIN], strict=True))
    if faster < AT_LEAST or slower > 1:
        sys.exit(f"the median is below {AT_LEAST} times the plain side, or has a higher p99")


if __name__ == "__main__":
    main()
