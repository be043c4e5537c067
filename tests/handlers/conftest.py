"""An operator in process on the API server of the session, with stand-ins for the controllers."""

import asyncio
import contextlib
import itertools
import os
import time

import pytest
from handlers.edge import Edge
from handlers.stand_ins import StandIns
from lifecycle.world import SPEC
from patience import within

from springtide_operator.assembly import Operator
from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import DEPLOYMENT, UPDATE
from springtide_operator.cluster.api.limits import Limits
from springtide_operator.settings import Settings

_numbers = itertools.count(1)


@pytest.fixture
def namespace(kinds):
    name = f"handlers-{os.getpid()}-{next(_numbers)}"
    kinds.create_namespace(name)
    return name


@pytest.fixture
async def client(kinds):
    connection = await Connection.open(kinds.kubeconfig)
    yield Client(connection, ServerClock(time.monotonic), Limits(monotonic=time.monotonic))
    await connection.close()


class Stage:
    """One namespace with an operator that may be dropped and started again."""

    def __init__(self, kinds, client, namespace):
        self.kinds, self.client, self.namespace = kinds, client, namespace
        self.stand_ins = StandIns(client, namespace)
        self.operator = None
        self._connection = None
        self._playing = asyncio.create_task(self.stand_ins.run())

    async def start(self, *write_hooks, **changes):
        self._connection = await Connection.open(self.kinds.kubeconfig)
        known = {
            "trainer_image": "trainer",
            "progress_url": "http://operator:8080",
            "namespace": self.namespace,
            "lease_namespace": self.namespace,
            "identity": "operator",
        }
        self.operator = Operator(Settings(**(known | changes)), self._connection)
        self.operator.client.write_hooks += write_hooks
        self._edge = Edge(self.operator)
        await self._edge.start()

    async def drop(self):
        """As kill -9 would: nothing more is written, all memory is gone."""
        if self.operator is not None:
            await self._edge.drop()
            await self._connection.close()
            self.operator = None

    async def close(self):
        await self.drop()
        self._playing.cancel()
        await asyncio.gather(self._playing, return_exceptions=True)

    async def declare(self, **changes):
        """Create the Deployment and the update of the world's tests."""
        labels = {"app": "ranker"}
        container = {"name": "server", "image": "server"}
        await self.client.create(
            DEPLOYMENT,
            {
                "metadata": {"namespace": self.namespace, "name": "ranker"},
                "spec": {
                    "replicas": 2,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [container]},
                    },
                },
            },
        )
        return await self.client.create(
            UPDATE,
            {
                "apiVersion": UPDATE.api_version,
                "kind": UPDATE.name,
                "metadata": {"namespace": self.namespace, "name": "shop"},
                "spec": {**SPEC, **changes},
            },
        )

    async def ask(self, request):
        """Set the annotation springtide.dev/request."""
        metadata = {"namespace": self.namespace, "name": "shop"}
        metadata["annotations"] = {"springtide.dev/request": request}
        await self.client.apply(UPDATE, {"metadata": metadata}, manager="person", force=True)

    async def update(self):
        return await self.client.get(UPDATE, self.namespace, "shop")

    async def seen(self, kind, name):
        """Wait until the operator's cache holds an object."""
        async with within(30):
            while self.operator.cache.get(kind, self.namespace, name) is None:
                await asyncio.sleep(0.02)

    async def until(self, condition, seconds=180.0):
        """Wait until the update's status is as asked for; return it."""
        status = {}
        with contextlib.suppress(TimeoutError):
            async with within(seconds):
                while True:
                    status = (await self.update()).get("status") or {}
                    if condition(status):
                        return status
                    await asyncio.sleep(0.1)
        raise AssertionError(f"did not come about; the last status: {status}")


@pytest.fixture
async def stage(kinds, client, namespace):
    made = Stage(kinds, client, namespace)
    yield made
    await made.close()
