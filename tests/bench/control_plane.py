"""What many updates cost the operator and the API server.

    PYTHONPATH=tests python tests/bench/control_plane.py [--floods 500 2000] [--rest 5000]
        [--beside CHECKOUT]

A flood: so many updates are there at once and each imports its model and rolls it out for the
first time. At rest: so many updates with 3 generations each, a start, and a relist of everything
after the API server restarted. The operator is a process of its own, the stand-ins for trainers
and the Deployment controller are another one; seconds of CPU are the operator's alone. `--beside`
measures the operator of another checkout, too.
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

from bench.idle import writes
from bench.measured import Measured, StandInProcess
from bench.population import at_rest, connected
from faults.crowd import open_server, populate
from local_cluster.apiserver import ApiServer
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parents[2]
NAMESPACES = 10
SETTLED_SECONDS = 10.0
"""So long without a second of CPU means that the operator is at rest."""
MOST_SECONDS = 1800.0

out = Console()


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
            while stand_ins.live() < many:
                if time.monotonic() - began > MOST_SECONDS or operator.ended():
                    sys.exit(f"{stand_ins.live()} of {many} came to life; see {folder}")
                time.sleep(0.2)
            seconds, used = time.monotonic() - began, operator.cpu() - cpu
            worst = operator.longest_block()
            after = writes(server)
            counted = {kind: after[kind] - before[kind] for kind in after}
            return Row(
                f"flood of {many}", seconds, used, operator.megabytes(), worst, many, counted
            )


def rest(server: ApiServer, checkout: Path, many: int) -> list[Row]:
    """Start an operator on existing updates, and let it list all of them again."""
    folder = Path(tempfile.mkdtemp())
    rows = []
    before = writes(server)
    with Measured(server, checkout, folder) as operator:
        began, cpu = operator.ready()
        for what in ("start", "relist"):
            if what == "relist":
                cpu, began = operator.cpu(), time.monotonic()
                server.restart()
                before = writes(server)
            seconds = operator.wait_idle(began, SETTLED_SECONDS)
            used, block = operator.cpu() - cpu, operator.longest_block()
            after = writes(server)
            counted = {kind: after[kind] - before[kind] for kind in after}
            said = f"{what} at {many}"
            rows.append(Row(said, seconds, used, operator.megabytes(), block, many, counted))
    return rows


def shown(rows: list[tuple[str, Row]]) -> Table:
    """Print the measurements, grouped by kind."""
    table = Table(title="What very many updates cost")
    columns = ("measured", "operator", "s", "CPU s", "CPU ms each", "each s", "MiB", "block s")
    for column in (*columns, "writes each"):
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
        )
    return table


OWN = ("incrementalupdates", "modelgenerations", "events")
"""Kinds that only the operator writes after the start."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--floods", type=int, nargs="*", default=[500, 2000])
    arguments.add_argument("--rest", type=int, default=5000)
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
                rows += [(name, row) for row in rest(server, checkout, chosen.rest)]
                out.print(shown(rows[-2:]))
        finally:
            server.close()
    out.print(shown(rows))
    out.print(json.dumps([(name, row.what, row.counted) for name, row in rows]))


if __name__ == "__main__":
    main()
