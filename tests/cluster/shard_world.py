"""Two releases of one cluster in skipped time: their real Leases, claims and shards, on an API
server of dictionaries. It records each write that reaches a namespace while another process may
write there too.
"""

import asyncio
import contextlib
import copy
import itertools
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.claims import CLAIM, Claims
from springtide_operator.cluster.api.client import Listed
from springtide_operator.cluster.api.lease import Lease, LeaseLost
from springtide_operator.cluster.watching.shard import Shard
from springtide_operator.cluster.watching.watches import new_cache

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TIMEOUT = 10.0
MARGIN = 2.0
"""After its timeout a write may still be carried out for so long."""
SILENT_SECONDS = 75.0
"""A watch may be late by so much."""
DELAYS = (0.01,) * 40 + (0.05, 0.5, 9.4, 11.5)
"""Seconds of a request on its way there, and back; one of them is drawn."""
WRITE_DELAYS = (0.01,) * 6 + (9.4, 11.5)
"""The same of a write of an object."""
HEARD = (0.0,) * 6 + (0.05, 1.0, 20.0, SILENT_SECONDS)
"""Seconds until a change of a label is heard; one of them is drawn."""
MATCHES = {"a": {"a", "ab"}, "b": {"b", "ab"}}
"""Labels that the selector of each release matches."""


@dataclass
class Space:
    """A namespace."""

    uid: str
    label: str
    version: int
    terminating: bool = False


class Server:
    """Leases with resource versions, namespaces with labels, and what is written in them."""

    def __init__(self, loop, seed):
        self.loop, self.chance = loop, random.Random(seed)
        self.versions = itertools.count(1)
        self.leases, self.spaces, self.releases = {}, {}, {}
        self.problems, self.writes = [], 0
        self.calm = False
        """Whether all requests are quick."""
        self._applied = {}

    def now(self):
        return BEGIN + timedelta(seconds=self.loop.time())

    def get(self, namespace, name):
        if (namespace, name) not in self.leases:
            raise errors.NotFound("no such Lease")
        return copy.deepcopy(self.leases[namespace, name])

    def put(self, body, *, create):
        place = body["metadata"]["namespace"], body["metadata"]["name"]
        space, held = self.spaces.get(place[0]), self.leases.get(place)
        if create and place[0] != "system":
            if space is None:
                raise errors.NotFound("no such namespace")
            if space.terminating:
                raise errors.Terminating("it is being deleted")
        if create and held is not None:
            raise errors.AlreadyExists("it is there")
        if not create:
            if held is None:
                raise errors.NotFound("no such Lease")
            if held["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
                raise errors.Conflict("it was changed")
        metadata = {**body["metadata"], "resourceVersion": str(next(self.versions))}
        self.leases[place] = copy.deepcopy({**body, "metadata": metadata})
        return copy.deepcopy(self.leases[place])

    def write(self, namespace, uid, process, sent):
        """Carry out a write in a namespace; no other process may write there now.

        Its object is gone where a user created another namespace of that name meanwhile.
        """
        space = self.spaces.get(namespace)
        if space is None or space.terminating or space.uid != uid:
            return
        self.writes += 1
        applied = self._applied.setdefault(space.uid, {})
        for other, at in applied.items():
            if other is not process and sent < at:
                self.problems.append(f"{process} sent to {namespace} before {other} had ended")
        applied[process] = self.loop.time()
        for other in self.releases.values():
            if other.process not in (None, process) and other.process.may_write(namespace, space):
                self.problems.append(f"{process} and {other.process} may write to {namespace}")

    def change(self, name, space):
        """Add, change or remove (None) a namespace; each release hears of it in its own time."""
        if space is None:
            self.spaces.pop(name, None)
        else:
            self.spaces[name] = space
        version = next(self.versions)
        for release in self.releases.values():
            release.hear(name, copy.copy(space), version)


class Client:
    """The requests of one process: slow at times, or cut off."""

    timeout = TIMEOUT

    def __init__(self, process, guard=None):
        self.process, self.server, self.guard = process, process.release.server, guard
        self.clock = self.server

    async def get(self, kind, namespace, name):
        return await self._carry(lambda: self.server.get(namespace, name))

    async def list_all(self, kind, namespace, **_):
        return await self._carry(lambda: Listed([], next(self.server.versions)))

    async def create(self, kind, body):
        return await self._carry(lambda: self.server.put(body, create=True), namespace=body)

    async def replace(self, kind, body):
        return await self._carry(lambda: self.server.put(body, create=False), namespace=body)

    async def write(self, namespace):
        sent = self.server.loop.time()
        uid = self.process.shard._kept.get(namespace)
        body = {"metadata": {"namespace": namespace}}
        act = lambda: self.server.write(namespace, uid, self.process, sent)  # noqa: E731
        return await self._carry(act, namespace=body, delays=WRITE_DELAYS)

    async def _carry(self, act, *, namespace=None, delays=DELAYS):
        if namespace is not None and self.guard is not None:
            self.guard(f"/apis/x/v1/namespaces/{namespace['metadata']['namespace']}/xs/x")
        chance, cut = self.server.chance, self.process.release.is_cut()
        delays = (0.01,) if self.server.calm else delays
        there, back = (chance.choice(delays) for _ in range(2))
        if cut and chance.random() < 0.7:
            there = 2 * TIMEOUT
        if TIMEOUT <= there < TIMEOUT + MARGIN:
            self.server.loop.call_later(there, self._late, act)
        try:
            async with asyncio.timeout(TIMEOUT):
                await asyncio.sleep(there)
                answer = act()
                await asyncio.sleep(2 * TIMEOUT if cut else back)
                return answer
        except TimeoutError:
            raise errors.Timeout("no answer") from None

    def _late(self, act):
        with contextlib.suppress(errors.ApiError):
            if self.process.release.process is self.process:
                act()


class Process:
    """One process of a release, as `assembly.Operator` assembles it."""

    def __init__(self, release, identity):
        self.release, self.name = release, f"{identity}#{next(release.server.versions)}"
        self.lease = Lease(Client(self), "system", release.name, identity)
        claims = Claims(Client(self, lambda path: self.lease.guard()), self.lease)
        selector = f"shard={release.name}"
        drain = TIMEOUT + MARGIN
        self.shard = Shard(Client(self), claims, selector, new_cache(), self._wake, drain)
        self.client = Client(self, self._guard)
        self._listed = False

    def __str__(self):
        return self.name

    async def live(self):
        """Work until the Lease is lost."""
        await self.lease.acquire()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.lease.keep())
            self.list_namespaces()
            await self.shard.begin()
            tasks.create_task(self.shard.run())
            while True:
                for namespace in list(self.release.server.spaces):
                    tasks.create_task(self._write(namespace))
                await asyncio.sleep(0.5)

    def list_namespaces(self):
        """List what matches at this moment; what happens later is heard."""
        server = self.release.server
        matching = [
            _raw(name, space)
            for name, space in server.spaces.items()
            if space.label in MATCHES[self.release.name]
        ]
        self.shard._namespaces.replace(matching, next(server.versions))
        self._listed = True

    def hear(self, name, space, version):
        """Receive one event of the watch of namespaces."""
        if not self._listed:
            return
        known = self.shard._namespaces.get("", name)
        matches = space is not None and space.label in MATCHES[self.release.name]
        if matches:
            self._event("MODIFIED" if known else "ADDED", _raw(name, space))
        elif known is not None:
            self._event("DELETED", _raw(name, Space(known["metadata"]["uid"], "", version)))

    def may_write(self, name, space):
        here = self.shard._kept.get(name) == space.uid and self.shard.serves(name)
        return self.lease.fresh and here

    def _event(self, kind, raw):
        self.shard.reflector._apply_event({"type": kind, "object": raw})

    async def _write(self, namespace):
        with contextlib.suppress(errors.ApiError):
            await self.client.write(namespace)

    def _guard(self, path):
        self.lease.guard()
        self.shard.guard(path)

    def _wake(self, namespace, name):
        pass


class Release:
    """A Deployment of one replica: its process is started again where it ends."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.process = None
        self._pods, self._cut_until, self._heard_at = itertools.count(1), 0.0, 0.0
        self._pod = f"{name}-0"
        self._down_until = 0.0
        self._task = None
        server.releases[name] = self

    async def run(self):
        """Keep one process running."""
        while True:
            await asyncio.sleep(max(0.5, self._down_until - self.server.loop.time()))
            self.process = Process(self, self._pod)
            self._task = asyncio.create_task(self.process.live())
            await asyncio.wait({self._task})
            self.process = None
            if not self._task.cancelled():
                error = self._task.exception()
                assert isinstance(error, ExceptionGroup), error
                assert error.split(LeaseLost)[1] is None, error

    def kill(self, seconds, *, same_pod):
        """End the process; the next one is started after so many seconds."""
        self._down_until = self.server.loop.time() + seconds
        if not same_pod:
            self._pod = f"{self.name}-{next(self._pods)}"
        if self._task is not None:
            self._task.cancel()

    def cut(self, seconds):
        """Let no answer through for so long."""
        self._cut_until = self.server.loop.time() + seconds

    def is_cut(self):
        return self.server.loop.time() < self._cut_until

    def hear(self, name, space, version):
        """Deliver an event to the process that runs now, in order, at times late."""
        late = self.server.chance.choice(HEARD)
        due = max(self.server.loop.time(), self._cut_until) + late
        self._heard_at = max(self._heard_at + 0.001, due)  # in order
        event = name, space, version
        self.server.loop.call_at(self._heard_at, self._deliver, self.process, event)

    def _deliver(self, process, event):
        if process is not None and process is self.process:
            process.hear(*event)


def _raw(name, space):
    metadata = {"name": name, "uid": space.uid, "resourceVersion": str(space.version)}
    return {"metadata": metadata}


def remove_leases(server, namespace):
    """Delete what Kubernetes deletes with a namespace."""
    server.leases.pop((namespace, CLAIM), None)
