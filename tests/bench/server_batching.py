"""Compares the server with dynamic batching to the same server scoring each request alone.

    python tests/bench/server_batching.py MODEL_URI MODEL_DIGEST [requests] [clients]

Both run side by side, in turns on the same machine, so only the ratios mean something; that of the
CPU time holds on a busy machine too.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = ["red", "shoe", "garden", "lamp", "winter", "cheap", "small", "for", "children", "wooden"]
LENGTHS = {"short": (3, 12), "mixed": (3, 60)}
"""Words of a text."""
ROUNDS = 2
JSON = {"Content-Type": "application/json"}


def free_port() -> int:
    """Return a port of the loopback that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def server(uri: str, digest: str, **env: str) -> Iterator[str]:
    """Run a server with these settings; yields its address once it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "springtide_server"]
    given = {"MODEL_URI": uri, "MODEL_DIGEST": digest, "SPRINGTIDE_PORT": str(port)}
    threads = {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env={**threads, **os.environ, **given, **env}, stdout=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while not ready(address):
            if process.poll() is not None:
                sys.exit(f"the server ended with {process.returncode}")
            time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


def ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/v2/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def cpu_seconds(address: str) -> float:
    """Read what the server itself says it has used."""
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    return next(float(x.split()[1]) for x in lines if x.startswith("process_cpu_seconds_total"))


def bodies(inputs: list[str], many: int, words: tuple[int, int]) -> list[bytes]:
    """Write requests of one row with texts of so many words."""
    rng = random.Random(7)

    def tensor(name: str) -> dict[str, object]:
        text = " ".join(rng.choices(WORDS, k=rng.randint(*words)))
        return {"name": name, "shape": [1], "datatype": "BYTES", "data": [text]}

    return [json.dumps({"inputs": [tensor(n) for n in inputs]}).encode() for _ in range(many)]


async def load(url: str, requests: list[bytes], clients: int) -> tuple[float, list[float]]:
    """Send the requests from so many clients at once; returns requests/s and sorted latencies."""
    left, seconds = iter(requests), []

    async def one_client() -> None:
        # Each with a connection of its own: a shared pool would be what is measured.
        async with httpx.AsyncClient(timeout=60) as http:
            for body in left:
                begun = time.perf_counter()
                answer = await http.post(url, content=body, headers=JSON)
                answer.raise_for_status()
                seconds.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(one_client() for _ in range(clients)))
    return len(requests) / (time.perf_counter() - begun), sorted(seconds)


def main() -> None:
    uri, digest, *rest = sys.argv[1:]
    many, clients = [*map(int, rest), *(600, 32)[len(rest) :]]
    alone = {"SPRINGTIDE_MAX_BATCH": "1", "SPRINGTIDE_MAX_DELAY_MS": "0"}
    with server(uri, digest) as batched, server(uri, digest, **alone) as single:
        described = httpx.get(f"{batched}/v2/models/model").json()
        inputs = [tensor["name"] for tensor in described["inputs"]]
        print("texts  batching  requests/s  p50 ms  p99 ms  CPU ms/request")
        for texts, words in [*LENGTHS.items()] * ROUNDS:
            compare(texts, {"on": batched, "off": single}, bodies(inputs, many, words), clients)


def compare(texts: str, servers: dict[str, str], requests: list[bytes], clients: int) -> None:
    """Send the same requests to one server after the other and print a line for each."""
    rates, costs = {}, {}
    for name, address in servers.items():
        before = cpu_seconds(address)
        url = f"{address}/v2/models/model/infer"
        rates[name], seconds = asyncio.run(load(url, requests, clients))
        costs[name] = 1e3 * (cpu_seconds(address) - before) / len(requests)
        p50, p99 = (1e3 * seconds[int(share * len(seconds))] for share in (0.5, 0.99))
        row = f"{rates[name]:10.1f}  {p50:6.1f}  {p99:6.1f}  {costs[name]:14.2f}"
        print(f"{texts:5}  {name:8}  {row}")
    faster, cheaper = rates["on"] / rates["off"], costs["off"] / costs["on"]
    print(f"{texts:5}  ratio     {faster:10.2f}  {'':14}  {cheaper:14.2f}", flush=True)


if __name__ == "__main__":
    main()
