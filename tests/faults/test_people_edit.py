"""The update is edited, or its status is written by another client, during a run."""

import asyncio
import json

import pytest
from faults.directing import condition, directed
from faults.life import LIFE, play
from lifecycle.world import SPEC
from patience import within

from springtide_operator.cluster.api.kinds import GENERATION, JOB, UPDATE

pytestmark = pytest.mark.apiserver

FOREIGN = "sha256:" + "0" * 64
RECOMPUTED = 30
SETTLED_SECONDS = 3
"""After a life nothing else wakes its update."""


async def edit(kinds, scene, spec):
    patch = json.dumps({"spec": spec})
    place = ("-n", scene.namespace, "--type=merge")
    await asyncio.to_thread(kinds.kubectl, "patch", "iu", "shop", "-p", patch, *place)


def run_of(job):
    return json.loads(job["spec"]["template"]["metadata"]["annotations"]["springtide.dev/run"])


@pytest.mark.survives(
    "People",
    "the spec is edited during training",
    "training, evaluation and verdict use the spec that the run started with; the next run "
    "uses the edit",
)
@pytest.mark.survives(
    "People",
    "the spec is edited during a rollout",
    "the rollout ends under its recorded deadline; the edit counts for the next run",
)
async def test_a_run_uses_its_snapshot_and_an_edit_counts_for_the_next_run(ground, kinds):
    floor = {"name": "floor", "metric": "auc", "min": "0.99"}
    edited = {
        "training": {"hyperparameters": {"epochs": 7}},
        "gate": {"rules": [floor]},
        "rollout": {"deadline": "2h"},
    }

    async def in_training():
        scene = await directed(ground)
        await scene.declare()
        await scene.start()
        await play(scene, LIFE[:2])
        scene.held.add("train")
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        before = run_of(await scene.job("train", since=2))
        await edit(kinds, scene, edited)
        await scene.release()
        await scene.until(lambda scene: scene.update_status["live"]["number"] == 2)
        assert run_of(await scene.job("evaluate", since=2))["recipe"] == before["recipe"]
        assert scene.generation(2)["verdict"] == "Accepted"

        scene.world.months.append("2025-04")
        await scene.ask("run@3")
        after = run_of(await scene.job("train", since=3))["recipe"]
        assert after["training"]["hyperparameters"]["epochs"] == 7
        assert after["gate"]["rules"][0]["min"] == "0.99"
        await scene.until(lambda scene: scene.generation(3).get("verdict") == "Rejected")
        assert scene.update_status["live"]["number"] == 2

    async def in_a_roll():
        scene = await directed(ground)
        await scene.declare()
        await scene.start()
        await play(scene, LIFE[:2])
        scene.pods_ready = False
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        await scene.until(lambda scene: len(scene.templates) == 2)
        deadline = scene.generation(2)["rollout"]["deadline"]
        await edit(kinds, scene, edited)
        await asyncio.sleep(2)
        assert scene.generation(2)["rollout"]["deadline"] == deadline
        await scene.make_ready()
        await scene.until(lambda scene: scene.update_status["live"]["number"] == 2)
        assert len(scene.templates) == 2

    await asyncio.gather(in_training(), in_a_roll())


@pytest.mark.survives(
    "People",
    "a user with rights on the status writes a false one: another live generation, a promotion",
    "recomputed from the generations within seconds; no Deployment changes",
)
async def test_a_forged_status_is_recomputed_and_serves_nothing(ground):
    scene = await directed(ground)
    await scene.declare()
    await scene.start()
    await play(scene, LIFE[:4])
    before = scene.update_status
    served = (await scene.deployment())["spec"], list(scene.templates)
    false = {
        "phase": "RollingOut",
        "live": {"name": "shop-g3", "number": 3, "digest": FOREIGN},
        "candidate": {"name": "shop-g9", "number": 9, "digest": FOREIGN},
        "previous": {"name": "shop-g0", "number": 0, "digest": FOREIGN},
        "lastRun": {"generation": "shop-g3", "verdict": "Accepted", "reason": "Promoted"},
        "freshness": {"servedDataThrough": "2031-01-01T00:00:00Z"},
        "history": [{"number": 3, "verdict": "Accepted"}],
        "targets": [{"name": "ranker", "digest": FOREIGN, "available": 9}],
    }
    body = {"metadata": {"namespace": scene.namespace, "name": "shop"}, "status": false}
    await scene.client.apply(UPDATE, body, manager="tenant", force=True, subresource="status")

    async def recomputed():
        now = (await scene.update())["status"]
        return all(now.get(key) == before.get(key) for key in false)

    async with within(RECOMPUTED):
        while not await recomputed():
            await asyncio.sleep(0.2)
    assert ((await scene.deployment())["spec"], list(scene.templates)) == served


@pytest.mark.survives(
    "People",
    "a Job of another client has the name of the next attempt",
    "`NameCollision` names it, it is not changed; the run continues once it is gone",
)
@pytest.mark.survives(
    "People",
    "a finished Job with our labels and a forged owner: none, an unknown one, or one of "
    "another namespace",
    "ignored; the stage runs its own Job",
)
async def test_a_forged_job_is_never_ours(ground):
    async def takes_the_name():
        scene = await directed(ground, held=["train"])
        scene.world.months = ["2025-01", "2025-02"]
        await scene.declare()
        uid = (await scene.update())["metadata"]["uid"]
        name = f"shop-{uid[:5]}-g1-train-1"
        await forge(scene, name, {"springtide.dev/update": "shop", "springtide.dev/stage": "train"})
        await scene.start()
        await scene.until(lambda scene: scene.generation(0).get("verdict") == "Imported")
        await scene.until(lambda scene: scene.update_status.get("observedGeneration"))
        await scene.ask("run@1")
        await scene.until(lambda scene: reason(scene, "Stalled") == "NameCollision")
        held = await scene.client.get(JOB, scene.namespace, name)
        assert "ownerReferences" not in held["metadata"]
        assert not scene.generation(1)["training"].get("jobUid")
        await scene.client.delete(JOB, scene.namespace, name, uid=held["metadata"]["uid"])
        scene.held.clear()
        await scene.until(
            lambda scene: (scene.update_status.get("live") or {}).get("number") == 1, 90
        )

    async def forges_its_owner(other):
        scene = await directed(ground, held=["train"])
        scene.world.months = ["2025-01", "2025-02"]
        await scene.declare()
        await scene.start()
        await scene.until(lambda scene: scene.generation(0).get("verdict") == "Imported")
        uid = (await scene.update())["metadata"]["uid"]
        labels = {
            "springtide.dev/update": "shop",
            "springtide.dev/update-uid": uid,
            "springtide.dev/stage": "train",
            "springtide.dev/generation": "1",
            "springtide.dev/attempt": "1",
        }
        forged = await forge(scene, "forged", labels, other)
        said = {"job": "forged", "stage": "train", "number": 1, "ok": True}
        made = {"uri": "file:///evil", "digest": FOREIGN, "bytes": 1}
        await scene.succeed(forged, json.dumps({**said, "train": {"artifact": made}}))
        await scene.ask("run@1")
        await scene.until(lambda scene: (scene.generation(1).get("training") or {}).get("jobUid"))
        assert scene.generation(1)["training"]["job"] == f"shop-{uid[:5]}-g1-train-1"
        await asyncio.sleep(2)
        assert not scene.generation(1).get("artifact")
        await scene.release()
        await scene.until(lambda scene: (scene.update_status.get("live") or {}).get("number") == 1)
        assert scene.generation(1)["artifact"]["servedDigest"] != FOREIGN
        assert (await scene.client.get(JOB, scene.namespace, "forged"))["metadata"]["name"]

    other = await directed(ground)
    await other.declare()
    elsewhere = (await other.update())["metadata"]["uid"]
    await asyncio.gather(
        takes_the_name(),
        forges_its_owner(None),
        forges_its_owner("00000000-0000-0000-0000-000000000000"),
        forges_its_owner(elsewhere),
    )


async def forge(scene, name, labels, owner=None):
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "c"}]}
    metadata = {"namespace": scene.namespace, "name": name, "labels": labels}
    if owner:
        reference = {"apiVersion": UPDATE.api_version, "kind": UPDATE.name, "name": "shop"}
        metadata["ownerReferences"] = [{**reference, "uid": owner, "controller": True}]
    template = {"metadata": {"labels": labels}, "spec": pod}
    return await scene.client.create(JOB, {"metadata": metadata, "spec": {"template": template}})


def reason(scene, kind):
    return condition(scene.update_status, kind).get("reason")


@pytest.mark.survives(
    "People",
    "a generation created by a user claims to belong to the update: a copy without its labels, "
    "one with them and a gate of its own, or one without a baseline",
    "recorded as Failed, never trained, evaluated or served; no number is used twice",
)
@pytest.mark.parametrize("forged", ["without labels", "its own gate", "compared with nothing"])
async def test_a_generation_created_by_a_user_is_never_served(ground, forged):
    scene = await directed(ground)
    await scene.declare()
    await scene.start()
    await play(scene, LIFE[:2])
    known = await scene.client.get(GENERATION, scene.namespace, "shop-g1")
    metadata = {"namespace": scene.namespace, "name": "shop-g7"}
    spec = {**known["spec"], "number": 7}
    if forged != "without labels":
        metadata["labels"] = known["metadata"]["labels"]
    if forged == "its own gate":
        artifact = scene.generation(1)["artifact"]
        spec["baseline"] = {"name": "shop-g1", "digest": artifact["weightsDigest"]}
        rule = {"name": "floor", "metric": "auc", "min": "0"}
        spec["recipe"] = {**spec["recipe"], "gate": {**spec["recipe"]["gate"], "rules": [rule]}}
    body = {key: known[key] for key in ("apiVersion", "kind", "status")}
    await scene.client.create(GENERATION, {**body, "metadata": metadata, "spec": spec})
    await scene.until(lambda scene: scene.generation(7).get("verdict") == "Failed")
    scene.world.months.append("2025-03")
    await scene.ask("run@2")
    await scene.until(lambda scene: (scene.update_status.get("live") or {}).get("number") == 8)
    assert not scene.generation(7).get("artifact")
    assert not any("-g7-" in job["metadata"]["name"] for job in scene.started.values())
    assert len(scene.templates) == 2


class AskJustBefore:
    """Asks just before a status write of the update, once; its event comes after the answer."""

    def __init__(self, scene):
        self.scene = scene
        self.operator = None
        self.late = None

    async def before_write(self, number, verb, path):
        if self.operator and self.late is None and _of_status(path):
            self.late = []
            for auditor in self.operator.auditors:
                auditor.handle = self.late.append
            await self.scene.ask("run@1")

    async def after_write(self, number, verb, path):
        if self.late is not None and _of_status(path):
            for auditor in self.operator.auditors:
                auditor.__dict__.pop("handle", None)
                for event in self.late:
                    if event["object"]["kind"] == auditor.kind.name:
                        auditor.handle(event)
            self.late = []


def _of_status(path):
    return path.partition("?")[0].endswith("/incrementalupdates/shop/status")


@pytest.mark.survives(
    "People",
    "a request is made between the observation and the status write that follows from it",
    "answered at once, not after the next resync",
)
async def test_a_request_just_before_a_status_write_is_answered(ground):
    scene = await directed(ground)
    scene.world.months = ["2025-01", "2025-02"]
    await scene.declare()
    asking = AskJustBefore(scene)
    operator = await scene.start(asking)
    await scene.until(LIFE[0].over)
    await asyncio.sleep(SETTLED_SECONDS)
    asking.operator = operator
    await scene.edit(rollout={**SPEC["rollout"], "deadline": "2h"})
    await scene.until(lambda scene: scene.update_status["observedGeneration"] == 2)
    assert asking.late is not None
    await scene.until(lambda scene: scene.update_status.get("lastRequest"), 30)
