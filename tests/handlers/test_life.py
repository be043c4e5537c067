"""The life of an update on a real API server, by the operator as it is shipped."""

import pytest

from springtide_operator.cluster.kinds import DEPLOYMENT, EVENT, GENERATION, JOB

pytestmark = pytest.mark.apiserver


async def test_from_new_data_to_a_served_judged_model(stage):
    stage.stand_ins.world.months = ["2025-01", "2025-02"]
    await stage.declare()
    await stage.start()
    status = await stage.until(lambda status: (status.get("live") or {}).get("number") == 1)
    assert status["lastRun"]["verdict"] == "Bootstrapped"

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
    assert status["lastRun"]["verdict"] == "Blessed"
    await stage.until(lambda status: status["phase"] == "Idle")
    events = (await stage.client.list_all(EVENT, stage.namespace)).items
    said = [event["reason"] for event in events]
    assert said.count("Promoted") == 2
    assert (await stage.client.list_all(JOB, stage.namespace)).items == []
