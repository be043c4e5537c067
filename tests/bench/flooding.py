"""Stand-ins for trainers and the Deployment controller of many updates, in a process of their
own: python flooding.py KUBECONFIG. Prints how many updates have a live generation, once a second.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from faults.crowd import Crowd
from handlers.stand_ins import StandIns

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import DEPLOYMENT, JOB, UPDATE
from springtide_operator.cluster.api.limits import Limits
from springtide_operator.cluster.watching.cache import Cache, Store

AT_ONCE = 16
"""Jobs and Deployments that are handled at the same time."""


class Flood(Crowd):
    """Ends every Job and rolls every Deployment; counts the updates that are live."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.world.seeded = False
        kinds = (UPDATE, JOB, DEPLOYMENT)
        self.cache = Cache({kind: Store(lambda raw: "", lambda raw: None) for kind in kinds})
        self.live: set[str] = set()
        self._rolled: set[tuple[str, int]] = set()
        self._turn = asyncio.Semaphore(AT_ONCE)

    def changed(self, kind: Any, raw: dict[str, Any]) -> None:
        metadata, status = raw["metadata"], raw.get("status") or {}
        if kind == UPDATE and status.get("live"):
            self.live.add(metadata["uid"])
        if kind == JOB and metadata["uid"] not in self._ended:
            self._ended.add(metadata["uid"])
            self._do(self.persistently(self.end, raw))
        version = metadata["uid"], metadata.get("generation")
        if kind == DEPLOYMENT and version not in self._rolled:
            self._rolled.add(version)
            self._do(self.persistently(self.roll_one, raw))

    async def roll_one(self, raw: dict[str, Any]) -> None:
        await StandIns(self.client, raw["metadata"]["namespace"]).roll(raw)

    async def persistently(self, part: Any, raw: dict[str, Any]) -> None:
        async with self._turn:
            while True:
                try:
                    await part(raw)
                except errors.AlreadyExists:
                    return
                except errors.NotFound:
                    return
                except errors.ApiError:
                    await asyncio.sleep(0.5)
                else:
                    return


async def play(kubeconfig: Path) -> None:
    connection = await Connection.open(kubeconfig)
    limits = Limits(per_second=5000, burst=5000, in_flight=AT_ONCE, monotonic=time.monotonic)
    flood = Flood(Client(connection, ServerClock(time.monotonic), limits))
    flood.watch()
    while True:
        sys.stdout.write(json.dumps({"live": len(flood.live)}) + "\n")
        sys.stdout.flush()
        await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(play(Path(sys.argv[1])))
