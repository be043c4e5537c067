"""Measures the operator at rest: it must write nothing but its Lease, and its memory must not grow.

    PYTHONPATH=tests python tests/bench/idle.py [minutes] [updates]

A third of the updates are idle, a third suspended, a third miss their Deployment. The API server
counts the writes; exits with 1 where what it counts or the memory is not as promised.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from faults.crowd import Crowd, open_server, populate
from local_cluster.apiserver import ApiServer
from local_cluster.ports import free_ports
from rich.console import Console
from rich.table import Table

from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import DEPLOYMENT, UPDATE
from springtide_operator.cluster.api.limits import Limits

GROWTH = 0.05
"""Share by which the memory of the last minute may lie above that of the first."""
SETTLING_SECONDS = 60
SAMPLE_SECONDS = 5
KINDS = ("incrementalupdates", "modelgenerations", "deployments", "jobs", "pods", "events")
WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION")
COUNTED = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$")

out = Console()


def writes(server: ApiServer) -> dict[str, float]:
    """Read the write counts of the API server by kind, the Lease included."""
    counted = dict.fromkeys((*KINDS, "leases"), 0.0)
    for line in server.kubectl("get", "--raw", "/metrics").splitlines():
        if found := COUNTED.match(line):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
            if labels["verb"] in WRITES and labels["resource"] in counted:
                counted[labels["resource"]] += float(found[2])
    return counted


def megabytes(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def operator(server: ApiServer, log: Path) -> subprocess.Popen[bytes]:
    free = free_ports(len(PORTS))
    ports = {f"SPRINGTIDE_{name}_PORT": str(port) for name, port in zip(PORTS, free, strict=True)}
    environment = {
        **os.environ,
        **ports,
        "KUBECONFIG": str(server.kubeconfig),
        "SPRINGTIDE_TRAINER_IMAGE": "trainer",
        "SPRINGTIDE_PROGRESS_URL": "http://operator:8080",
        "SPRINGTIDE_RESYNC_SECONDS": "60",
    }
    with log.open("wb") as written:
        return subprocess.Popen(
            [sys.executable, "-m", "springtide_operator"], env=environment, stderr=written
        )


PORTS = ("PROGRESS", "HEALTH", "METRICS")


async def settled(server: ApiServer, many: int) -> subprocess.Popen[bytes]:
    """Start the operator on so many updates and wait until they are at rest; return its process."""
    connection = await Connection.open(server.kubeconfig)
    limits = Limits(per_second=500, burst=500, in_flight=50, monotonic=time.monotonic)
    client = Client(connection, ServerClock(time.monotonic), limits)
    crowd = Crowd(client)
    by_request: dict[str, Any] = {"trigger": {}}
    await populate(client, "idle", many, **by_request)
    await populate(client, "suspended", many, **by_request, suspend=True)
    await populate(client, "missing", many, **by_request)
    for deployment in (await client.list_all(DEPLOYMENT, "missing")).items:
        metadata = deployment["metadata"]
        await client.delete(DEPLOYMENT, "missing", metadata["name"], uid=metadata["uid"])
    crowd.watch()
    process = operator(server, Path(tempfile.mkdtemp()) / "log")
    while not await all_reported(client, 3 * many) or len(crowd.arrived) < many:
        if process.poll() is not None:
            sys.exit("the operator ended")
        await asyncio.sleep(1)
    await asyncio.sleep(SETTLING_SECONDS)
    await crowd.go()
    await connection.close()
    return process


async def all_reported(client: Client, many: int) -> bool:
    """Whether every update has a status."""
    items = (await client.list_all(UPDATE)).items
    return len([raw for raw in items if (raw.get("status") or {}).get("phase")]) == many


def watch(server: ApiServer, process: subprocess.Popen[bytes], minutes: float) -> bool:
    """Measure for so long, print the result, and return whether it is within the limits."""
    before, samples = writes(server), []
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        time.sleep(SAMPLE_SECONDS)
        samples.append(megabytes(process))
    after = writes(server)
    minute = max(1, 60 // SAMPLE_SECONDS)
    first, last = mean(samples[:minute]), mean(samples[-minute:])
    table = Table(title=f"The operator at rest for {minutes:g} minutes")
    table.add_column("measured")
    table.add_column("value", justify="right")
    table.add_column("promised", justify="right")
    for kind in KINDS:
        table.add_row(f"writes of {kind}", f"{after[kind] - before[kind]:.0f}", "0")
    table.add_row("renewals of the Lease", f"{after['leases'] - before['leases']:.0f}", "")
    table.add_row("memory, first minute", f"{first:.1f} MiB", "")
    table.add_row("memory, last minute", f"{last:.1f} MiB", f"<= {first * (1 + GROWTH):.1f} MiB")
    out.print(table)
    quiet = all(after[kind] == before[kind] for kind in KINDS)
    return quiet and last <= first * (1 + GROWTH) and process.poll() is None


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    many = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    server, process = ApiServer(), None
    try:
        open_server(server)
        out.print(f"bringing {many} updates to rest ...")
        process = asyncio.run(settled(server, many // 3))
        kept = watch(server, process, minutes)
    finally:
        if process is not None:
            process.terminate()
            process.wait(15)
        server.close()
    out.print("[green]as promised[/]" if kept else "[red]not as promised[/]")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
