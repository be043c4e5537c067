"""Measures what docs/how-to/fleet.md computes with, and writes it to measured.json.

    PYTHONPATH=tests python -m bench.fleet.measure [--few 250] [--many 1000] [--flood 200]

Two populations at rest give what each further update costs. A second operator, whose selector
matches no namespace, has only objects of other releases. Takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.control_plane import HERE, flood, out, rest, shown
from bench.fleet.page import MEASURED
from bench.population import at_rest, connected, placed
from bench.training.machine import facts
from faults.crowd import open_server
from local_cluster.apiserver import ApiServer

from springtide_operator.cluster.api.kinds import DEPLOYMENT, GENERATION, UPDATE

if TYPE_CHECKING:
    from collections.abc import Callable


NOWHERE = "example.com/shard=nowhere"


def on_a_server(do: Callable[[ApiServer], Any]) -> Any:
    """Do something on an API server of its own."""
    server = ApiServer()
    try:
        open_server(server)
        return do(server)
    finally:
        server.close()


def population(many: int, touches: int) -> dict[str, Any]:
    """Measure so many updates: as those of others, and as one's own, also at rest."""

    def measure(server: ApiServer) -> dict[str, Any]:
        asyncio.run(at_rest(server, many))
        found = {"updates": many, "touches": touches, "bytes": asyncio.run(sizes(server))}
        for name, selector, steps in (("foreign", NOWHERE, 2), ("own", "", 3)):
            rows = rest(server, HERE, many, touches=touches, selector=selector, steps=steps)
            out.print(shown([("", row) for row in rows]))
            names = ("start", "changes", "idle")[:steps]
            found[name] = {key: asdict(row) for key, row in zip(names, rows, strict=True)}
        return found

    return dict(on_a_server(measure))


async def sizes(server: ApiServer) -> dict[str, float]:
    """Return the bytes of an update, of a generation and of a target, as JSON without spaces."""
    namespace, _ = placed(0)
    found = {}
    async with connected(server) as client:
        for kind in (UPDATE, GENERATION, DEPLOYMENT):
            items = (await client.list_all(kind, namespace)).items
            texts = [json.dumps(each, separators=(",", ":")) for each in items]
            found[kind.name] = sum(map(len, texts)) / len(texts)
    return found


def main() -> None:
    """Measure and write."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--few", type=int, default=300)
    arguments.add_argument("--many", type=int, default=1000)
    arguments.add_argument("--flood", type=int, default=200)
    given = arguments.parse_args()
    first = on_a_server(lambda server: asyncio.run(flood(server, HERE, given.flood)))
    out.print(shown([("", first)]))
    found = {
        "machine": facts(os.cpu_count() or 1),
        "flood": asdict(first),
        "populations": [population(many, many // 2) for many in (given.few, given.many)],
    }
    MEASURED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
