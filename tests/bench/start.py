"""Measures what a start costs with many updates at rest, and what one event of an update costs.

    PYTHONPATH=tests python tests/bench/start.py [updates] [touches] [source roots ...]

Each update has three generations as a real lifecycle leaves them. Without source roots the
operator of this checkout is measured; with them, one after the other on the same objects: the
folder `operator` of another checkout compares two commits. Everything is at rest before the first
measurement; what the first operator writes to get there is not counted.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faults.crowd import open_server
from handlers.stand_ins import StandIns
from lifecycle.world import World, with_generation_one
from local_cluster.apiserver import ApiServer
from local_cluster.ports import free_ports
from rich.console import Console
from rich.table import Table

from springtide_api.names import FIELD_MANAGER, LABEL_UPDATE, LABEL_UPDATE_UID, field_manager
from springtide_api.objects import Meta, parse_update
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import DEPLOYMENT, GENERATION, NAMESPACE, UPDATE, Raw
from springtide_operator.cluster.api.limits import Limits
from springtide_operator.lifecycle.state.plan import Serve
from springtide_operator.manifests import serving

NAMESPACES = 10
SETTLED_SECONDS = 20
"""At rest: no CPU second in so many."""
REST_CPU = 1.0
TICKS = os.sysconf("SC_CLK_TCK")
PORTS = ("PROGRESS", "HEALTH", "METRICS")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

out = Console()


def lived() -> tuple[World, Serve]:
    """Run two generations after the import; return the last apply, too."""
    world, applied = with_generation_one(), []
    world.on_action = lambda seen, action: applied.append(action)
    world.months.append("2025-03")
    world.rounds(6)
    return world, [each for each in applied if isinstance(each, Serve)][-1]


async def persistently(write: Any) -> Raw:
    while True:
        try:
            answer: Raw = await write()
            return answer
        except errors.ApiError as error:
            if isinstance(error, errors.Invalid):
                raise
            await asyncio.sleep(0.2)


@dataclass
class Population:
    """Creates updates with their generations, statuses and a Deployment that serves the last."""

    client: Client
    world: World
    serve: Serve

    async def create(self, number: int) -> None:
        namespace, name = f"rest-{number % NAMESPACES}", f"u{number}"
        spec = self._renamed(self.world.update.spec.plain(), name)
        spec |= {"trigger": {}, "suspend": True}
        update = await self._create(UPDATE, namespace, name, spec, {})
        uid = update["metadata"]["uid"]
        await self._status(UPDATE, update, self._renamed(self.world.update.status.plain(), name))
        labels = {LABEL_UPDATE: name, LABEL_UPDATE_UID: uid}
        for generation in self.world.generations.values():
            spec = self._renamed(generation.spec.plain(), name)
            status = self._renamed(generation.status.plain(), name)
            called = self._renamed(generation.metadata.name, name)
            made = await self._create(GENERATION, namespace, called, spec, labels)
            await self._status(GENERATION, made, status)
        await self._serve(parse_update(update).metadata)

    async def _serve(self, update: Meta) -> None:
        place = {"namespace": update.namespace, "name": update.name}
        labels = {"app": update.name}
        container = {"name": self.serve.target.container, "image": "server"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        body = {"metadata": place, "spec": spec}
        made = await persistently(lambda: self.client.create(DEPLOYMENT, body))
        reference = self.serve.target.target_ref.model_copy(update={"name": update.name})
        target = self.serve.target.model_copy(update={"target_ref": reference})
        serve = replace(self.serve, target=target, target_uid=made["metadata"]["uid"])
        manager = field_manager(update.name)
        applied = serving.deployment(update, serve)
        made = await persistently(lambda: self.client.apply(DEPLOYMENT, applied, manager=manager))
        stand_ins = StandIns(self.client, update.namespace)
        await persistently(lambda: stand_ins.roll(made))

    def _renamed(self, value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {key: self._renamed(each, name) for key, each in value.items()}
        if isinstance(value, list):
            return [self._renamed(each, name) for each in value]
        if isinstance(value, str):
            return re.sub(r"^(shop(?=$|-g\d)|ranker$)", name, value)
        return value

    async def _create(self, kind: Any, namespace: str, name: str, spec: Raw, labels: Raw) -> Raw:
        metadata = {"namespace": namespace, "name": name, "labels": labels}
        if labels:
            owner = {"apiVersion": UPDATE.api_version, "kind": UPDATE.name, "controller": True}
            owner |= {"name": labels[LABEL_UPDATE], "uid": labels[LABEL_UPDATE_UID]}
            metadata["ownerReferences"] = [owner]
        body = {"apiVersion": kind.api_version, "kind": kind.name}
        body |= {"metadata": metadata, "spec": spec}
        return await persistently(lambda: self.client.create(kind, body))

    async def _status(self, kind: Any, made: Raw, status: Raw) -> None:
        place = {key: made["metadata"][key] for key in ("namespace", "name")}
        body = {"metadata": place, "status": status}
        how = {"manager": FIELD_MANAGER, "force": True, "subresource": "status"}
        await persistently(lambda: self.client.apply(kind, body, **how))


class Measured:
    """One operator as a process of its own."""

    def __init__(self, server: ApiServer, root: Path) -> None:
        free = free_ports(len(PORTS))
        ports = {
            f"SPRINGTIDE_{name}_PORT": str(port) for name, port in zip(PORTS, free, strict=True)
        }
        self.metrics = f"http://127.0.0.1:{ports['SPRINGTIDE_METRICS_PORT']}/metrics"
        environment = {
            **os.environ,
            **ports,
            "PYTHONPATH": str(root),
            "KUBECONFIG": str(server.kubeconfig),
            "SPRINGTIDE_TRAINER_IMAGE": "trainer",
            "SPRINGTIDE_PROGRESS_URL": "http://operator:8080",
            "SPRINGTIDE_RESYNC_SECONDS": "36000",
            "SPRINGTIDE_CLIENT_QPS": "1000",
            "SPRINGTIDE_CLIENT_BURST": "1000",
        }
        self.log = Path(tempfile.mkdtemp()) / "log"
        self.began = time.monotonic()
        with self.log.open("wb") as written:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "springtide_operator"], env=environment, stderr=written
            )

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / TICKS

    def megabytes(self, field: str = "VmRSS") -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(rf"{field}:\s+(\d+)", status)[0]) / 1024

    def lag(self) -> float:
        """How late the event loop is."""
        try:
            text = DIRECT.open(self.metrics, timeout=60).read().decode()
        except OSError:
            return 0.0
        found = re.findall(r"^springtide_loop_lag_seconds (\S+)$", text, re.M)
        return float(found[0]) if found else 0.0

    async def works(self) -> float:
        """Wait until it works; return the seconds since its start."""
        while '"event": "working"' not in self.log.read_text():
            if self.process.poll() is not None:
                sys.exit(f"the operator ended: {self.log.read_text()[-2000:]}")
            await asyncio.sleep(0.1)
        return time.monotonic() - self.began

    async def rests(self) -> tuple[float, float]:
        """Wait until it is at rest; return the CPU seconds until then and the worst lag."""
        worst = 0.0
        known = self.cpu()
        while True:
            for _ in range(SETTLED_SECONDS):
                await asyncio.sleep(1)
                worst = max(worst, await asyncio.to_thread(self.lag))
            if (now := self.cpu()) - known < REST_CPU:
                return known, worst
            known = now

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


async def touched(client: Client, updates: int, touches: int) -> None:
    """Change metadata of so many updates."""
    places = asyncio.Semaphore(20)

    async def touch(number: int) -> None:
        place = {"namespace": f"rest-{number % NAMESPACES}", "name": f"u{number}"}
        annotations = {"example.com/touched": str(time.time())}
        body = {"metadata": {**place, "annotations": annotations}}
        async with places:
            await client.apply(UPDATE, body, manager="person", force=True)

    await asyncio.gather(*(touch(number % updates) for number in range(touches)))


async def measured(
    server: ApiServer, client: Client, root: Path, *, updates: int, touches: int
) -> list[str]:
    each = Measured(server, root)
    try:
        ready = await each.works()
        to_work = each.cpu()
        settled, lag = await each.rests()
        memory, most = each.megabytes(), each.megabytes("VmHWM")
        before = each.cpu()
        await touched(client, updates, touches)
        await each.rests()
        event = (each.cpu() - before) / touches * 1000
        idle = each.cpu()
        await asyncio.sleep(60)
        idle = each.cpu() - idle
    finally:
        each.end()
    values = (ready, to_work, settled, lag, memory, most, event, idle)
    return [f"{value:.1f}" for value in values]


COLUMNS = (
    "source root",
    "s to work",
    "CPU s to work",
    "CPU s to rest",
    "longest lag s",
    "MiB at rest",
    "most MiB",
    "CPU ms an event",
    "CPU s in an idle minute",
)


async def main() -> None:
    updates = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    touches = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    here = Path(__file__).parents[2] / "operator"
    roots = [Path(each) for each in sys.argv[3:]] or [here]
    server = ApiServer()
    try:
        open_server(server)
        connection = await Connection.open(server.kubeconfig)
        limits = Limits(per_second=2000, burst=2000, in_flight=30, monotonic=time.monotonic)
        client = Client(connection, ServerClock(time.monotonic), limits, timeout=60)
        for number in range(NAMESPACES):
            await client.create(NAMESPACE, {"metadata": {"name": f"rest-{number}"}})
        population, began = Population(client, *lived()), time.monotonic()
        places = asyncio.Semaphore(30)

        async def create(number: int) -> None:
            async with places:
                await population.create(number)

        await asyncio.gather(*map(create, range(updates)))
        out.print(f"{updates} updates in {time.monotonic() - began:.0f} s; bringing them to rest")
        first = Measured(server, roots[-1])
        try:
            await first.works()
            await first.rests()
        finally:
            first.end()
        table = Table(*COLUMNS, title=f"{updates} updates of 3 generations, {touches} touches")
        for root in roots:
            how = {"updates": updates, "touches": touches}
            values = await measured(server, client, root, **how)
            out.print(root, values)
            table.add_row(str(root), *values)
        out.print(table)
        await connection.close()
    finally:
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
