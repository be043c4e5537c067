"""Many namespaces side by side, each with an update and its results, and operators that may end.

One watch of all namespaces drives the controllers that a bare API server lacks: a Job ends at once
with the result that its scenario gives, and the pods of a Deployment are available at once.
"""

import asyncio
import contextlib
import itertools
import os
import time
from pathlib import Path

from faults.life import IDENTITY, TRAINING
from handlers.edge import Edge
from handlers.stand_ins import StandIns
from lifecycle.world import SPEC
from patience import within

from springtide_operator.assembly import Operator
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.client import JSON as JSON_BODY
from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import (
    DEPLOYMENT,
    EVENT,
    GENERATION,
    JOB,
    NAMESPACE,
    POD,
    REPLICA_SET,
    UPDATE,
)
from springtide_operator.cluster.api.limits import Limits
from springtide_operator.cluster.watching.cache import Cache, Store
from springtide_operator.cluster.watching.reflector import Reflector
from springtide_operator.settings import Settings

CRDS = Path(__file__).parents[2] / "crds"
WATCHED = (UPDATE, GENERATION, JOB, DEPLOYMENT)
NUMEROUS = (EVENT, POD, GENERATION, JOB, REPLICA_SET)
"""What a life leaves most of. The API server keeps all objects in memory, and with those of some
hundred lives it does little else than collect it.
"""

RECORDED_SECONDS = 30.0

_numbers = itertools.count(1)


class Crash:
    """Ends an operator just before or just after its n-th write: from then on it sends nothing."""

    def __init__(self, number, *, before):
        self.number, self.before = number, before
        self.happened = asyncio.Event()
        self.where = ""
        self.scene = None
        """Where it happens."""

    async def before_write(self, number, verb, path):
        if self.happened.is_set() or (self.before and number == self.number):
            await self._end(verb, path)

    async def after_write(self, number, verb, path):
        # The n-th may have been refused: then the next one that is answered well.
        if self.happened.is_set() or (not self.before and number >= self.number):
            await self._end(verb, path)

    async def _end(self, verb, path):
        if not self.happened.is_set():
            moment = "before" if self.before else "after"
            self.where = f"{moment} write {self.number}: {verb} {path.partition('?')[0]}"
            self.happened.set()
        await asyncio.Event().wait()


class Recorder:
    """Remembers every write that was sent, and every one that was answered well."""

    def __init__(self):
        self.sent = []
        self.writes = []

    async def before_write(self, number, verb, path):
        self.sent.append((verb, path.partition("?")[0]))

    async def after_write(self, number, verb, path):
        self.writes.append((verb, path.partition("?")[0]))


class Ground:
    """The API server with one watch of everything and the scenes on it."""

    def __init__(self, kubeconfig):
        self.kubeconfig = kubeconfig
        self.scenes = {}
        self.cache = Cache({kind: Store(lambda raw: "", lambda raw: None) for kind in WATCHED})
        self._tasks = []

    async def __aenter__(self):
        self.connection = await Connection.open(self.kubeconfig)
        limits = Limits(per_second=2000, burst=1000, in_flight=100, monotonic=time.monotonic)
        self.client = Client(self.connection, ServerClock(time.monotonic), limits)
        for kind in WATCHED:
            reflector = Reflector(self.client, kind, self.cache.stores[kind], self._changed)
            self._tasks.append(asyncio.create_task(reflector.run()))
        while not self.cache.listed:
            await asyncio.sleep(0.02)
        return self

    async def __aexit__(self, *_):
        await self.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.connection.close()

    async def scene(self, **options):
        """A new namespace."""
        namespace = f"faults-{os.getpid()}-{next(_numbers)}"
        await self.client.create(NAMESPACE, {"metadata": {"name": namespace}})
        self.scenes[namespace] = scene = Scene(self, namespace, **options)
        return scene

    async def empty(self, namespace):
        """Delete what there is most of."""
        for kind in NUMEROUS:
            path = f"{kind.path(namespace)}?gracePeriodSeconds=0"
            await self.client._write("DELETE", path, None, JSON_BODY)

    async def clear(self):
        """End all operators."""
        for scene in list(self.scenes.values()):
            await scene.close()

    def _changed(self, kind, raw):
        if scene := self.scenes.get(raw["metadata"]["namespace"]):
            scene.changed(kind, raw)


class Scene(StandIns):
    """One namespace: the controllers of its world, and an operator."""

    def __init__(self, ground, namespace, *, leases="", prompt=True):
        super().__init__(ground.client, namespace)
        self.ground, self.leases = ground, leases or namespace
        self.prompt = prompt
        """Whether Jobs end and pods roll by themselves."""
        self.started = {}
        """Every Job that ever was, by uid."""
        self.templates = []
        """What the Deployment's template named as digest, change after change."""
        self.operators = []
        self.edges = []
        self._playing = set()

    def changed(self, kind, raw):
        if kind == JOB:
            conditions = (raw.get("status") or {}).get("conditions")
            known = raw["metadata"]["uid"] in self.started
            self.started[raw["metadata"]["uid"]] = raw
            if self.prompt and not known and not conditions:
                self._play(self.end, raw)
        if kind == DEPLOYMENT:
            annotations = raw["spec"]["template"]["metadata"].get("annotations") or {}
            digest = annotations.get("springtide.dev/digest", "")
            if digest != (self.templates or [""])[-1]:
                self.templates.append(digest)
            if self.prompt:
                self._play(self.roll, raw)

    async def end(self, job):
        """Let training run until its pod is in status: this is a write of every life."""
        metadata = job["metadata"]
        if self.stage(job) == "train" and metadata["uid"] not in self.running:
            pod = await self.pod(job, "Running", None, "")
            self.running[metadata["uid"]] = pod
        if pod := self.running.get(metadata["uid"]):
            with contextlib.suppress(AssertionError):  # where the watch of pods is silent
                await self.until(lambda _: self._recorded(metadata, pod), seconds=RECORDED_SECONDS)
        await super().end(job)

    def _recorded(self, job, pod):
        """Whether a pod that runs is in the generation's status, or its Job counts no more."""
        number = job["labels"]["springtide.dev/generation"]
        training = self.generation(number).get("training") or {}
        known = [each["uid"] for each in training.get("pods") or []]
        return pod["metadata"]["uid"] in known or training.get("job") != job["name"]

    def _play(self, part, raw):
        task = asyncio.create_task(_persistently(part, raw))
        self._playing.add(task)
        task.add_done_callback(self._playing.discard)

    async def start(
        self,
        *write_hooks,
        identity="operator",
        through=None,
        watching=None,
        prepare=lambda operator: None,
        **changes,
    ):
        """Start an operator; it works when this returns, unless it waits for the Lease.

        `through` is a connection other than the controllers', `watching` are settings of kopf's,
        `prepare` changes the operator before it is started.
        """
        settings = Settings(
            trainer_image="trainer",
            progress_url="http://operator:8080",
            lease_namespace=self.leases,
            identity=identity,
            **({"namespace": self.namespace} | changes),
        )
        operator = Operator(settings, through or self.ground.connection)
        operator.ended.add_done_callback(lambda ended: ended.exception())
        operator.client.write_hooks += write_hooks
        prepare(operator)
        self.operators.append(operator)
        self.edges.append(Edge(operator, **(watching or {})))
        await self.edges[-1].start()
        return operator

    async def drop(self):
        """As kill -9 would: nothing more is written, all memory is gone, the Lease stays."""
        self.operators.clear()
        while self.edges:
            await self.edges.pop().drop()

    async def close(self):
        """End its operators and delete its objects, where the API server answers."""
        await self.drop()
        self.ground.scenes.pop(self.namespace, None)
        await asyncio.gather(*self._playing, return_exceptions=True)
        with contextlib.suppress(errors.ApiError):
            await self.ground.empty(self.namespace)

    async def declare(self, name="shop", deployment="ranker", **changes):
        """Create a Deployment and an update that looks for data only when it is asked to."""
        await self.declare_deployment(deployment)
        await self.declare_update(name, deployment, **changes)

    async def declare_deployment(self, name):
        """Create a Deployment that nothing has claimed yet."""
        labels = {"app": name}
        metadata = {"namespace": self.namespace, "name": name}
        container = {"name": "server", "image": "server"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        await self.client.create(DEPLOYMENT, {"metadata": metadata, "spec": spec})

    async def declare_update(self, name="shop", deployment="ranker", **changes):
        """Create an update alone. Changes of its training are added to that of all these tests."""
        target = {"targetRef": {"name": deployment}, "container": "server"}
        rollout = {**SPEC["rollout"], "targets": [target]}
        training = TRAINING | changes.get("training", {})
        data = SPEC["data"] | IDENTITY
        body = {
            "apiVersion": UPDATE.api_version,
            "kind": UPDATE.name,
            "metadata": {"namespace": self.namespace, "name": name},
            "spec": {
                **SPEC,
                "trigger": {},
                "data": data,
                "rollout": rollout,
                **changes,
                "training": training,
            },
        }
        await self.client.create(UPDATE, body)

    async def ask(self, request):
        """Set the annotation springtide.dev/request."""
        metadata = {"namespace": self.namespace, "name": "shop"}
        metadata["annotations"] = {"springtide.dev/request": request}
        while True:
            try:
                body = {"metadata": metadata}
                return await self.client.apply(UPDATE, body, manager="person", force=True)
            except errors.Unavailable:  # on a busy machine; the same annotation again is the same
                await asyncio.sleep(0.2)

    async def edit(self, name="shop", **changes):
        """Change fields of an update's spec, as a person would."""
        metadata = {"namespace": self.namespace, "name": name}
        body = {"metadata": metadata, "spec": changes}
        await self.client.apply(UPDATE, body, manager="editor", force=True)

    async def touch(self):
        """Change the update without any meaning: an event that wakes the operator."""
        metadata = {"namespace": self.namespace, "name": "shop"}
        metadata["annotations"] = {"example.com/touched": str(next(_numbers))}
        await self.client.apply(UPDATE, {"metadata": metadata}, manager="other", force=True)

    @property
    def update_status(self):
        """Status of the update, as watched."""
        raw = self.ground.cache.get(UPDATE, self.namespace, "shop") or {}
        return raw.get("status") or {}

    def generation(self, number):
        """Status of a generation, as watched."""
        raw = self.ground.cache.get(GENERATION, self.namespace, f"shop-g{number}") or {}
        return raw.get("status") or {}

    def jobs(self):
        """Jobs that are there."""
        place = self.namespace
        every = self.ground.cache.stores[JOB].all()
        return [raw["metadata"]["name"] for raw in every if raw["metadata"]["namespace"] == place]

    async def until(self, condition, seconds=180.0):
        """Wait until the scene is as asked for."""
        try:
            async with within(seconds):
                while not condition(self):
                    await asyncio.sleep(0.03)
        except TimeoutError:
            raise AssertionError(
                f"{self.namespace} does not get there: {self.update_status}"
            ) from None


async def _persistently(part, raw):
    """Play a controller's part, also when the API server was away."""
    while True:
        try:
            return await part(raw)
        except (errors.NotFound, errors.Conflict):
            return None
        except errors.ApiError:
            await asyncio.sleep(0.2)
