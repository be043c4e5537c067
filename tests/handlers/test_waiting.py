"""Why an update waits and what a user must do, reported in status from the cluster's messages."""

import pytest

from springtide_operator.cluster.api.kinds import DEPLOYMENT, EVENT, JOB, UPDATE

pytestmark = pytest.mark.apiserver


def condition(status, kind):
    return next((each for each in status.get("conditions", []) if each["type"] == kind), {})


def live(number):
    return lambda status: (status.get("live") or {}).get("number") == number


async def test_pods_that_a_quota_refuses_are_reported_from_the_events_of_the_job(stage):
    stage.stand_ins.held = {"import"}
    await stage.declare()
    await stage.start()
    await stage.until(lambda status: status.get("phase"))
    (job,) = (await stage.client.list_all(JOB, stage.namespace)).items
    reference = {key: job["metadata"][key] for key in ("namespace", "name", "uid")}
    await stage.client.create(
        EVENT,
        {
            "metadata": {"namespace": stage.namespace, "name": "refused"},
            "involvedObject": {"apiVersion": "batch/v1", "kind": "Job", **reference},
            "reason": "FailedCreate",
            "message": 'Error creating: pods "x" is forbidden: exceeded quota: small',
            "type": "Warning",
            "lastTimestamp": "2026-03-01T12:00:00Z",
        },
    )
    status = await stage.until(
        lambda status: "quota exceeded" in status["progress"].get("waitingFor", ""), seconds=30
    )
    assert status["progress"]["summary"] == "quota exceeded"


async def test_a_missing_deployment_is_named_and_noticed_when_it_is_created(stage):
    await stage.start()
    await stage.declare()
    deployment = await stage.client.get(DEPLOYMENT, stage.namespace, "ranker")
    uid = deployment["metadata"]["uid"]
    await stage.client.delete(DEPLOYMENT, stage.namespace, "ranker", uid=uid)
    status = await stage.until(lambda status: condition(status, "Stalled"), seconds=90)
    assert condition(status, "Stalled")["reason"] == "TargetNotFound"
    assert "Deployment ranker does not exist" in condition(status, "Stalled")["message"]
    deployment["metadata"] = {"namespace": stage.namespace, "name": "ranker"}
    await stage.client.create(DEPLOYMENT, deployment)
    status = await stage.until(lambda status: not condition(status, "Stalled"), seconds=90)
    assert condition(status, "Ready")["status"] == "True"


async def test_the_manager_of_our_fields_is_named_and_its_value_stays(stage):
    stage.stand_ins.world.months = ["2025-01", "2025-02"]
    await stage.declare()
    await stage.start()
    await stage.until(live(1))
    mine = "sha256:" + "0" * 64
    stage.kinds.kubectl(
        "set", "env", "deployment/ranker", f"MODEL_DIGEST={mine}", "-n", stage.namespace
    )
    status = await stage.until(
        lambda status: condition(status, "TargetsInSync").get("reason") == "FieldConflict"
    )
    assert "kubectl" in condition(status, "TargetsInSync")["message"]
    deployment = await stage.client.get(DEPLOYMENT, stage.namespace, "ranker")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "MODEL_DIGEST", "value": mine} in container["env"]
    assert status["live"]["number"] == 1


@pytest.mark.survives(
    "People",
    "another client's Job without our labels has the name of our first Job",
    "`NameCollision` names it; it is neither adopted nor changed",
)
async def test_a_name_taken_by_another_client_is_never_ours(stage):
    stage.stand_ins.held = {"import"}
    update = await stage.declare()
    name = f"shop-{update['metadata']['uid'][:5]}-g0-import-1"
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "c"}]}
    await stage.client.create(
        JOB,
        {
            "metadata": {"namespace": stage.namespace, "name": name},
            "spec": {"template": {"spec": pod}},
        },
    )
    stage.stand_ins.stage = lambda job: "import"
    await stage.start()
    status = await stage.until(lambda status: condition(status, "Stalled"))
    assert condition(status, "Stalled")["reason"] == "NameCollision"
    assert name in condition(status, "Stalled")["message"]


@pytest.mark.survives(
    "Update",
    "a schedule that is not a cron expression",
    "`Stalled` with the field's path; continues once corrected",
)
async def test_a_schedule_that_no_schema_can_check_is_reported_with_its_field(stage):
    await stage.declare()
    await stage.start()
    await stage.until(lambda status: status.get("phase"))
    raw = await stage.update()
    raw["spec"]["trigger"] = {"schedule": "61 25 * * *"}
    raw["metadata"].pop("managedFields")
    await stage.client.replace(UPDATE, raw)
    status = await stage.until(lambda status: condition(status, "Stalled"))
    assert "spec.trigger.schedule" in condition(status, "Stalled")["message"]
    raw = await stage.update()
    raw["spec"]["trigger"] = {"schedule": "@daily"}
    raw["metadata"].pop("managedFields")
    await stage.client.replace(UPDATE, raw)
    await stage.until(lambda status: not condition(status, "Stalled"))
