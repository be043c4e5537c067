"""Many updates on an API server of their own, with the controllers that they need."""

import asyncio
import json

from faults.playing import CRDS
from handlers.stand_ins import StandIns
from lifecycle.declared import SPEC

from springtide_api.contract import RunFile
from springtide_operator.cluster.api.kinds import DEPLOYMENT, JOB, NAMESPACE, UPDATE
from springtide_operator.cluster.watching.cache import Cache, Store
from springtide_operator.cluster.watching.reflector import Reflector
from springtide_operator.lifecycle.state.plan import StartJob


def open_server(server):
    """Start an API server that knows our kinds."""
    server.open()
    for crd in sorted(CRDS.glob("*.yaml")):
        server.kubectl("apply", "--server-side", "-f", str(crd))
    server.wait_for_crds()


class Crowd(StandIns):
    """Watches updates and Jobs of all namespaces; ends every Job, and counts."""

    def __init__(self, client):
        super().__init__(client, "")
        stores = {kind: Store(lambda raw: "", lambda raw: None) for kind in (UPDATE, JOB)}
        self.cache = Cache(stores)
        self.arrived = []
        """Namespaces of updates in the order in which they got there."""
        self.most_probes = 0
        self._there, self._ended, self._tasks = set(), set(), set()

    def watch(self):
        for kind, store in self.cache.stores.items():
            self._do(Reflector(self.client, kind, store, self.changed).run())

    def changed(self, kind, raw):
        metadata = raw["metadata"]
        if kind == UPDATE and self.is_there(raw) and metadata["uid"] not in self._there:
            self._there.add(metadata["uid"])
            self.arrived.append(metadata["namespace"])
        if kind == JOB:
            self.count_probes()
            if metadata["uid"] not in self._ended:
                self._ended.add(metadata["uid"])
                self._do(self.end(raw))

    def is_there(self, raw):
        """Whether its model is imported."""
        history = (raw.get("status") or {}).get("history") or [{}]
        return history[0].get("verdict") == "Imported"

    def count_probes(self):
        running = [
            raw
            for raw in self.cache.stores[JOB].all()
            if self.stage(raw) == "probe" and not (raw.get("status") or {}).get("conditions")
        ]
        self.most_probes = max(self.most_probes, len(running))

    async def end(self, job):
        if self.stage(job) == "probe":
            await asyncio.sleep(0.5)
        template = job["spec"]["template"]
        run = RunFile.model_validate_json(template["metadata"]["annotations"]["springtide.dev/run"])
        result = self.world._result(StartJob(run=run, image="trainer"))
        place = StandIns(self.client, job["metadata"]["namespace"])
        await place.pod(job, "Succeeded", 0, json.dumps(result.plain()))
        now = self.client.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        said = {"status": "True", "lastTransitionTime": now}
        conditions = [{"type": kind, **said} for kind in ("SuccessCriteriaMet", "Complete")]
        status = {"startTime": now, "completionTime": now, "succeeded": 1}
        await place.status(JOB, job, {**status, "conditions": conditions})

    def _do(self, part):
        task = asyncio.create_task(part)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def go(self):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def populate(client, namespace, count, **changes):
    """Create so many updates with a Deployment each."""
    await client.create(NAMESPACE, {"metadata": {"name": namespace}})

    async def one(number):
        name = f"u{number}"
        place = {"namespace": namespace, "name": name}
        labels = {"app": name}
        container = {"name": "server", "image": "server"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        served = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        await client.create(DEPLOYMENT, {"metadata": place, "spec": served})
        targets = [{"targetRef": {"name": name}, "container": "server"}]
        spec = {**SPEC, "trigger": {"onData": {"pollInterval": "24h"}}, **changes}
        body = {"apiVersion": UPDATE.api_version, "kind": UPDATE.name, "metadata": place}
        await client.create(UPDATE, {**body, "spec": {**spec, "rollout": {"targets": targets}}})

    await asyncio.gather(*map(one, range(count)))
