"""A Job whose name is taken: by the operator that ended just after creating it, by a Job that is
being deleted, or by another owner.
"""

import asyncio
import json

import pytest
from faults.directing import condition, directed
from faults.life import LIFE, play
from faults.playing import Crash
from faults.proxy import whole
from patience import within

from springtide_operator.cluster.api.kinds import JOB, UPDATE

pytestmark = pytest.mark.apiserver

STAGES = ("import", "probe", "train", "evaluate")
"""In the order in which a first run makes their Jobs."""
RECORDED_SECONDS = 5
HOLD = "example.com/hold"


class CrashAfterJob(Crash):
    """Ends the operator after the API server made the n-th Job and before it is recorded."""

    def __init__(self, number):
        super().__init__(number, before=False)
        self._jobs = 0

    async def after_write(self, number, verb, path):
        self._jobs += made_job(verb, path)
        if self.happened.is_set() or self._jobs >= self.number:
            await self._end(verb, path)


def made_job(verb, path):
    return verb == "POST" and path.partition("?")[0].endswith("/jobs")


class Lag:
    """Shows the Jobs of a scene as they were before one of them was made, until it is `over`."""

    def __init__(self, scene, job):
        self.path, self.version = JOB.path(scene.namespace), int(job["resourceVersion"])
        self.over = asyncio.Event()

    async def __call__(self, call, pass_on):
        if call.verb != "GET" or call.path != self.path:
            return await pass_on()
        if call.watch:
            await self.over.wait()
            return await pass_on()
        answer = await pass_on()
        listed = json.loads(b"".join([part async for part in answer.body]))
        listed["metadata"]["resourceVersion"] = str(self.version - 1)
        known = [raw for raw in listed["items"] if version_of(raw) < self.version]
        answer.body = whole(json.dumps({**listed, "items": known}).encode())
        return answer


def version_of(raw):
    return int(raw["metadata"]["resourceVersion"])


def refused(proxy, scene):
    """The times that the API server said that the name of a Job is taken."""
    made = [call for call in proxy.calls if made_job(call.verb, call.path)]
    return [call for call in made if call.status == 409 and f"/{scene.namespace}/" in call.path]


def record(scene, stage):
    """What a generation's status says of its newest Job of a stage."""
    generation = scene.generation(0 if stage == "import" else 1)
    return generation.get("evaluation" if stage == "evaluate" else "training") or {}


async def died_after_job(ground, stage):
    """A scene whose operator ended right after it made the Job of a stage, and that Job."""
    scene = await directed(ground, held=[stage])
    crash = CrashAfterJob(STAGES.index(stage) + 1)
    await scene.declare()
    living = asyncio.create_task(play(scene, LIFE[:2]))
    await scene.start(crash)
    job = await scene.job(stage)
    await crash.happened.wait()
    await scene.drop()
    assert not record(scene, stage).get("jobUid")
    return scene, job["metadata"], living


async def recorded(scene, stage, uid, **how):
    """Start the next operator, and wait until it has recorded the Job."""
    async with within(RECORDED_SECONDS):
        await scene.start(**how)
        await scene.until(lambda scene: record(scene, stage).get("jobUid") == uid)


def one_each(scene):
    """Whether there was one Job for each attempt, and one look for data."""
    names = [raw["metadata"]["name"] for raw in scene.started.values()]
    return len(names) == len(set(names)) and len(scene.runs("probe")) == 1


@pytest.mark.survives(
    "Operator",
    "is ended between creating a Job and recording it; tested in each stage",
    "the uid of a generation's Job is recorded within 5 s of the next start; one Job for each "
    "attempt, one probe",
)
async def test_a_job_is_recorded_by_the_next_operator(ground):
    async def one(stage):
        scene, job, living = await died_after_job(ground, stage)
        if stage == "probe":
            await scene.start()  # which finds it by its labels and records it with what it found
        else:
            await recorded(scene, stage, job["uid"])
        await scene.release()
        await living
        assert one_each(scene)

    await asyncio.gather(*map(one, STAGES))


@pytest.mark.survives(
    "Operator",
    "is ended between creating a Job and recording it, and the next operator's cache of Jobs "
    "is older",
    "it tries to create the Job once, gets 409 and records the uid of the first within 5 s of "
    "its start; one Job for each attempt",
)
async def test_a_job_whose_name_is_taken_is_adopted_where_the_update_owns_it(ground, proxy):
    async def one(stage):
        scene, job, living = await died_after_job(ground, stage)
        proxy.rules.append(lag := Lag(scene, job))
        await recorded(scene, stage, job["uid"], through=proxy.connection)
        assert len(refused(proxy, scene)) == 1
        lag.over.set()
        await scene.release()
        await living
        assert one_each(scene)

    await asyncio.gather(*(one(stage) for stage in STAGES if stage != "probe"))


@pytest.mark.survives(
    "Jobs and pods",
    "a Job that is not recorded yet is deleted, and a finalizer keeps it under its name",
    "it is neither adopted nor counted as a failed attempt; once it is gone, the same attempt "
    "is created again",
)
@pytest.mark.parametrize("known", [True, False])
async def test_a_job_that_is_being_deleted_is_waited_for(ground, proxy, known):
    scene, job, living = await died_after_job(ground, "train")
    lag = Lag(scene, job)
    await finalizers(scene, job["name"], [HOLD])
    await scene.client.delete(JOB, scene.namespace, job["name"], uid=job["uid"])
    if not known:
        proxy.rules.append(lag)
    await scene.start(through=proxy.connection)
    await scene.until(lambda _: known or refused(proxy, scene))
    await asyncio.sleep(2)
    assert not record(scene, "train").get("jobUid")
    lag.over.set()
    await finalizers(scene, job["name"], [])
    await scene.until(lambda scene: record(scene, "train").get("jobUid"))
    again = record(scene, "train")
    assert again["jobUid"] != job["uid"]
    assert (again["job"], again["attempt"], again.get("failedAttempts", 0)) == (job["name"], 1, 0)
    await scene.release()
    await living


async def finalizers(scene, name, wanted):
    operation = {"op": "add", "path": "/metadata/finalizers", "value": wanted}
    await scene.client.patch(JOB, scene.namespace, name, [operation], manager="person")


@pytest.mark.survives(
    "Jobs and pods",
    "the name of the next Job is taken by a Job of another update, with our labels or without",
    "`NameCollision` names it; it is neither recorded nor changed",
)
@pytest.mark.parametrize("labelled", [True, False])
async def test_a_job_of_another_owner_is_not_adopted(ground, labelled):
    scene = await directed(ground, held=["import"])
    await scene.declare()
    uid = (await scene.update())["metadata"]["uid"]
    name = f"shop-{uid[:5]}-g0-import-1"
    ours = {
        "springtide.dev/update": "shop",
        "springtide.dev/update-uid": uid,
        "springtide.dev/stage": "import",
        "springtide.dev/generation": "0",
        "springtide.dev/attempt": "1",
    }
    owner = {"apiVersion": UPDATE.api_version, "kind": UPDATE.name, "name": "other"}
    other = {**owner, "uid": "00000000-0000-0000-0000-000000000000", "controller": True}
    place = {"namespace": scene.namespace, "name": name, "ownerReferences": [other]}
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "c"}]}
    body = {"metadata": {**place, "labels": ours if labelled else {}}}
    taken = await scene.client.create(JOB, {**body, "spec": {"template": {"spec": pod}}})
    await scene.start()
    await scene.until(lambda scene: condition(scene.update_status, "Stalled"))
    stalled = condition(scene.update_status, "Stalled")
    assert stalled["reason"] == "NameCollision"
    assert name in stalled["message"]
    assert not record(scene, "import").get("jobUid")
    assert await scene.client.get(JOB, scene.namespace, name) == taken
