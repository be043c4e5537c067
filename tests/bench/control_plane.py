"""What many updates cost the operator and the API server.

    PYTHONPATH=tests python tests/bench/control_plane.py [--floods 500 2000] [--rest 5000]
        [--touches 1000] [--beside CHECKOUT]

A flood: so many updates are there at once and each imports its model and rolls it out for the
first time. At rest: so many updates with 3 generations each, a start, changes of the metadata of
some updates, a minute without any change, and a relist of everything after the API server
restarted. The operator is a process of its own, the stand-ins for trainers and the Deployment
controller are another one; seconds of CPU are the operator's alone, but for the column of the API
server, whose CPU is what bounds a flood on few cores. `--beside` measures the
operator of another checkout, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.idle import writes
from bench.measured import Measured, StandInProcess, cpu_seconds
from bench.population import at_rest, connected, placed
from faults.crowd import open_server, populate
from local_cluster import processes
from local_cluster.apiserver import ApiServer
from rich.console import Console
from rich.table import Table

from springtide_operator.cluster.api.kinds import UPDATE

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parents[2]
NAMESPACES = 10
SETTLED_SECONDS = 10.0
"""So long without a second of CPU means that the operator is at rest."""
IDLE_SECONDS = 60
MOST_SECONDS = 1800.0

out = Console(width=160)


@dataclass
class Row:
    """One measurement of one operator."""

    what: str
    seconds: float
    cpu: float
    megabytes: float
    block: float
    many: int
    counted: dict[str, float] = field(default_factory=dict)
    server_cpu: float = 0.0


async def flood(server: ApiServer, checkout: Path, many: int) -> Row:
    """Create so many updates before the operator starts, and wait until all are live."""
    async with connected(server) as client:
        for number in range(NAMESPACES):
            name = f"flood-{number}"
            await populate(client, name, many // NAMESPACES, trigger={})
    folder = Path(tempfile.mkdtemp())
    with StandInProcess(server) as stand_ins:
        stand_ins.wait_ready()
        before = writes(server)
        with Measured(server, checkout, folder) as operator:
            began, cpu = operator.ready()
            server_cpu = cpu_of(server)
            while stand_ins.live() < many:
                if time.monotonic() - began > MOST_SECONDS or operator.ended():
                    sys.exit(f"{stand_ins.live()} of {many} came to life; see {folder}")
                time.sleep(0.2)
            seconds, used = time.monotonic() - began, operator.cpu() - cpu
            worst = operator.longest_block()
            after = writes(server)
            counted = {kind: after[kind] - before[kind] for kind in after}
            serving = cpu_of(server) - server_cpu
            memory, what = operator.megabytes(), f"flood of {many}"
            return Row(what, seconds, used, memory, worst, many, counted, serving)


def rest(
    server: ApiServer,
    checkout: Path,
    many: int,
    *,
    touches: int,
    selector: str = "",
    steps: int = 4,
) -> list[Row]:
    """Start an operator on existing updates, wake it, leave it, and let it list all again.

    With a selector that matches no namespace all of them are those of other releases. Of these
    four measurements the first `steps` are made.
    """
    folder = Path(tempfile.mkdtemp())
    with Measured(server, checkout, folder, selector=selector) as operator:

        def row(what: str, do: Callable[[], object], number: int) -> Row:
            before, cpu, began = writes(server), operator.cpu(), time.monotonic()
            server_cpu = cpu_of(server)
            do()
            seconds = operator.wait_idle(began, SETTLED_SECONDS)
            used, block = operator.cpu() - cpu, operator.longest_block()
            after = writes(server)
            if do == server.restart:  # a process of its own counts from 0
                before, server_cpu = dict.fromkeys(after, 0.0), 0.0
            serving = cpu_of(server) - server_cpu
            counted = {kind: after[kind] - before[kind] for kind in after}
            memory = operator.megabytes()
            return Row(what, seconds, used, memory, block, number, counted, serving)

        every: list[tuple[str, Callable[[], object], int]] = [
            (f"start at {many}", operator.ready, many),
            (f"{touches} changes", lambda: asyncio.run(touch(server, many, touches)), touches),
            (f"{IDLE_SECONDS} s idle", lambda: time.sleep(IDLE_SECONDS), many),
            (f"relist at {many}", server.restart, many),
        ]
        return [row(*each) for each in every[:steps]]


def cpu_of(server: ApiServer) -> float:
    """Return the seconds of CPU of kube-apiserver so far."""
    pid = processes.running(server.plane.home, "kube-apiserver")
    assert pid is not None
    return cpu_seconds(pid)


async def touch(server: ApiServer, many: int, touches: int) -> None:
    """Change the metadata of so many updates of the population, one after the other.

    To what they never had: a change to what is there already is none.
    """
    async with connected(server) as client:
        for number in range(touches):
            namespace, name = placed(number % many)
            place = {"namespace": namespace, "name": name}
            change = {
                "metadata": {
                    **place,
                    "annotations": {"example.com/touched": f"{number}-{time.time_ns()}"},
                }
            }
            await client.apply(UPDATE, change, manager="person", force=True)


def shown(rows: list[tuple[str, Row]]) -> Table:
    """Print the measurements, grouped by kind."""
    table = Table(title="What very many updates cost")
    columns = ("measured", "operator", "s", "CPU s", "CPU ms each", "each s", "MiB", "block s")
    for column in (*columns, "writes each", "API server CPU ms each"):
        table.add_column(column, justify="right" if column not in columns[:2] else "left")
    for name, row in rows:
        own = sum(count for kind, count in row.counted.items() if kind in OWN)
        table.add_row(
            row.what,
            name,
            f"{row.seconds:.1f}",
            f"{row.cpu:.1f}",
            f"{1000 * row.cpu / row.many:.1f}",
            f"{row.many / row.seconds:.1f}",
            f"{row.megabytes:.0f}",
            f"{row.block:.2f}",
            f"{own / row.many:.1f}",
            f"{1000 * row.server_cpu / row.many:.1f}",
        )
    return table


OWN = ("incrementalupdates", "modelgenerations", "events")
"""Kinds that only the operator writes after the start."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--floods", type=int, nargs="*", default=[500, 2000])
    arguments.add_argument("--rest", type=int, default=5000)
    arguments.add_argument("--touches", type=int, default=1000)
    arguments.add_argument("--beside", type=Path)
    chosen = arguments.parse_args()
    checkouts = {"this": HERE} | ({"beside": chosen.beside} if chosen.beside else {})
    rows: list[tuple[str, Row]] = []
    for many in chosen.floods:
        for name, checkout in reversed(checkouts.items()):
            server = ApiServer()
            try:
                open_server(server)
                rows.append((name, asyncio.run(flood(server, checkout, many))))
            finally:
                server.close()
            out.print(shown(rows[-1:]))
    if chosen.rest:
        server = ApiServer()
        try:
            open_server(server)
            out.print(f"making {chosen.rest} updates with 3 generations each ...")
            asyncio.run(at_rest(server, chosen.rest))
            for name, checkout in reversed(checkouts.items()):
                found = rest(server, checkout, chosen.rest, touches=chosen.touches)
                rows += [(name, row) for row in found]
                out.print(shown(rows[-len(found) :]))
        finally:
            server.close()
    out.print(shown(rows))
    out.print(json.dumps([(name, row.what, row.counted) for name, row in rows]))


if __name__ == "__main__":
    main()
