"""The life of an update on a real API server, by the operator as it is shipped."""

import asyncio

import pytest

from springtide_operator.cluster.api.kinds import DEPLOYMENT, EVENT, GENERATION, JOB

pytestmark = pytest.mark.apiserver


async def test_from_new_data_to_a_served_evaluated_model(stage):
    stage.stand_ins.world.months = ["2025-01", "2025-02"]
    await stage.declare()
    await stage.start()
    status = await stage.until(lambda status: (status.get("live") or {}).get("number") == 1)
    assert status["lastRun"]["verdict"] == "Accepted"

    deployment = await stage.client.get(DEPLOYMENT, stage.namespace, "ranker")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    generation = await stage.client.get(GENERATION, stage.namespace, "shop-g1")
    assert {each["name"]: each["value"] for each in container["env"]} == {
        "MODEL_URI": generation["status"]["artifact"]["uri"],
        "MODEL_DIGEST": generation["status"]["artifact"]["servedDigest"],
    }
    assert deployment["spec"]["replicas"] == 2
    assert container["image"] == "server"

    stage.stand_ins.world.months.append("2025-03")
    await stage.ask("run@1")
    status = await stage.until(lambda status: (status.get("live") or {}).get("number") == 2)
    assert status["previous"]["number"] == 1
    assert status["lastRun"]["verdict"] == "Accepted"
    await stage.until(lambda status: status["phase"] == "Idle")
    events = (await stage.client.list_all(EVENT, stage.namespace)).items
    promoted = [e["involvedObject"] for e in events if e["reason"] == "Promoted"]
    assert sorted((each["kind"], each["name"]) for each in promoted) == [
        ("IncrementalUpdate", "shop"),
        ("IncrementalUpdate", "shop"),
        ("ModelGeneration", "shop-g1"),
        ("ModelGeneration", "shop-g2"),
    ]
    assert (await stage.client.list_all(JOB, stage.namespace)).items == []


class DiesAt:
    """Ends the operator before or after its n-th write, and tells when."""

    def __init__(self, number, *, before):
        self.number, self.before = number, before
        self.died = asyncio.Event()

    async def before_write(self, number, verb, path):
        if self.died.is_set() or (self.before and number == self.number):
            await self._crash()

    async def after_write(self, number, verb, path):
        if not self.before and number == self.number:
            await self._crash()

    async def _crash(self):
        self.died.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize(("number", "before"), [(2, False), (3, True), (4, False)])
async def test_an_operator_that_crashes_every_few_writes_reaches_the_same_state(
    stage, number, before
):
    stage.stand_ins.world.months = ["2025-01", "2025-02"]
    await stage.declare()
    deaths = 0
    goal = asyncio.create_task(
        stage.until(lambda status: (status.get("live") or {}).get("number") == 1, seconds=240)
    )
    while not goal.done():
        reaper = DiesAt(number, before=before)
        await stage.start(reaper)
        died = asyncio.create_task(reaper.died.wait())
        await asyncio.wait({goal, died}, return_when=asyncio.FIRST_COMPLETED)
        deaths += died.done()
        died.cancel()
        await stage.drop()
    assert (await goal)["lastRun"]["verdict"] == "Accepted"
    assert deaths >= 3

    await stage.start()
    await stage.until(lambda status: status["phase"] == "Idle")
    names = [raw["metadata"]["name"] for raw in stage.stand_ins.jobs_ever]
    assert len(names) == len(set(names)), "one Job for each attempt"
    stages = [
        raw["metadata"]["labels"]["springtide.dev/stage"] for raw in stage.stand_ins.jobs_ever
    ]
    assert [stages.count(each) for each in ("import", "train", "evaluate")] == [1, 1, 1]
    deployment = await stage.client.get(DEPLOYMENT, stage.namespace, "ranker")
    # Made, claimed (annotations of a Deployment count) and pointed to generation 1: no write twice.
    assert deployment["metadata"]["generation"] == 3
    generations = (await stage.client.list_all(GENERATION, stage.namespace)).items
    assert [raw["status"]["verdict"] for raw in generations] == ["Imported", "Accepted"]
