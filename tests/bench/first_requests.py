"""Measures the first requests of a new server process with and without warm-up queries.

    PYTHONPATH=tests python tests/bench/first_requests.py [--rounds 5] [--requests 40]

MiniLM-L6 in FP32, one thread. Requests of one text each are sent one after the other, and then the
same again, twice: each is compared with what it takes later, by the CPU time of the process, which
holds on a busy machine too. None of the texts is a warm-up query. Servers:

- cold: without any warm-up, as a server that has none of its own;
- artificial: the reference server without queries; it scores artificial texts when it loads;
- queries: the reference server with queries beside the model;
- only queries: a cold server that gets the queries, as from the sidecar.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import httpx
import pyarrow as pa
from bench.relevance import texts, weights
from bench.server_batching import JSON, free_port, ready
from trainer.training.conftest import imported

from springtide_trainer.artifact.models import load_tokenizer
from springtide_trainer.evaluation.warm_up import content, lengths, requests, sample
from springtide_trainer.storage import Home, local_path, warm_up_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_api.contract import CommittedArtifact

FIRST = (1, 5, 20)
QUERIES = 32
COLD = """
import sys
from springtide_server import __main__ as entry, model
model.Model.warm_up = lambda self, rows: None
sys.exit(entry.main())
"""
SIDES = {
    "cold": (["-c", COLD], False),
    "artificial": (["-m", "springtide_server"], False),
    "queries": (["-m", "springtide_server"], True),
    "only queries": (["-c", COLD], True),
}


def with_queries(made: CommittedArtifact, folder: Path, some: list[str]) -> str:
    """Copy a model and write queries beside the copy; return its URI."""
    copy = folder / local_path(made.uri).name
    shutil.copytree(local_path(made.uri), copy)
    table = pa.table({"text": some})
    chosen = sample(lengths(table, ["text"]), None, count=QUERIES, seed=1)
    warm_up_file(copy).write_bytes(content(made.digest, requests(table, chosen, ["text"])))
    return copy.as_uri()


@contextmanager
def server(entry: list[str], uri: str, digest: str) -> Iterator[tuple[str, int]]:
    """Run a server; yields its address and process id once it is ready."""
    port = free_port()
    env = {"MODEL_URI": uri, "MODEL_DIGEST": digest, "SPRINGTIDE_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, *entry],
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.DEVNULL,
    )
    try:
        while not ready(f"http://127.0.0.1:{port}"):
            if process.poll() is not None:
                sys.exit(f"the server ended with {process.returncode}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v2/models/model/infer", process.pid
    finally:
        process.kill()
        process.wait()


def cpu(process: int) -> float:
    """Return the milliseconds that the threads of a process have run."""
    files = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e6


def ask(url: str, process: int, bodies: list[bytes]) -> list[float]:
    """Send the requests; return the milliseconds of CPU time that each took."""
    taken = []
    with httpx.Client() as http:
        for body in bodies:
            begun = cpu(process)
            http.post(url, content=body, headers=JSON).raise_for_status()
            taken.append(cpu(process) - begun)
    return taken


def main() -> None:
    """Print how many times its later CPU time a first request takes, for each server."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=40)
    chosen = parser.parse_args()
    tokenizer = load_tokenizer(weights())
    asked, known = (texts(tokenizer, count, count)[0] for count in (chosen.requests, 2000))
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES"}
    bodies = [json.dumps({"inputs": [{**tensor, "data": [each]}]}).encode() for each in asked]
    found: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        made = imported(weights(), Home(Path(folder, "home")))
        uris = [made.uri, with_queries(made, Path(folder), known)]
        print(f"{'':12} " + "".join(f"{f'first {n}':>10}" for n in FIRST))
        for number in range(chosen.rounds):
            for side in list(SIDES)[:: -1 if number % 2 else 1]:
                entry, queries = SIDES[side]
                with server(entry, uris[queries], made.digest) as (url, process):
                    first, *later = (ask(url, process, bodies) for _ in range(3))
                usual = [min(both) for both in zip(*later, strict=True)]
                ratios = [sum(first[:n]) / sum(usual[:n]) for n in FIRST]
                found[side].append(ratios)
                shown = "".join(f"{ratio:10.2f}" for ratio in ratios)
                print(f"{side:12} {shown}   {median(usual):.1f} ms later", flush=True)
    for side, rounds in found.items():
        print(
            f"{side:12} " + "".join(f"{median(each):10.2f}" for each in zip(*rounds, strict=True))
        )


if __name__ == "__main__":
    main()
