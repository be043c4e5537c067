"""Input that a trainer refuses, and impossible targets: shown by kubectl, and serving continues."""

import asyncio

import pytest
from patience import within

from springtide_api.contract import Failure
from springtide_operator.cluster.api.kinds import DEPLOYMENT, EVENT, UPDATE

pytestmark = pytest.mark.apiserver

UNKNOWN = Failure(
    reason="UnknownLabel",
    message="2 of 40 train rows have a label that is not one of the 2 model.labels ('0', '1'): '2' "
    "(2); fix them or append the label to model.labels",
    field="data.source.columns.label",
)
FLIPPED = Failure(
    reason="DigestMismatch",
    message="model.safetensors in /models/search/shop/artifacts/sha256-1 does not match its "
    "manifest (8 bytes, sha256 aaaaaaaaaaaa, not 8 bytes, bbbbbbbbbbbb); restore the folder from "
    "a copy",
)
PICKLED = Failure(
    reason="UnsafeArtifact",
    message="/models/minilm has its weights only in pytorch_model.bin, a pickle file, which can "
    "run code; convert it to model.safetensors",
    field="spec.model.initial.uri",
)


def live(number):
    return lambda status: (status.get("live") or {}).get("number") == number


def condition(status, kind):
    return next((each for each in status.get("conditions", []) if each["type"] == kind), {})


def kubectl_get(stage, *arguments):
    return stage.kinds.kubectl("get", *arguments, "-n", stage.namespace)


async def events(stage, reason):
    """Messages of the Events with this reason, by the kind that they are about."""
    found = (await stage.client.list_all(EVENT, stage.namespace)).items
    said = [each for each in found if each["reason"] == reason]
    assert {each["type"] for each in said} == {"Warning"}
    return {each["involvedObject"]["kind"]: each["message"] for each in said}


async def template(stage):
    deployment = await stage.client.get(DEPLOYMENT, stage.namespace, "ranker")
    return deployment["spec"]["template"]


async def serving_generation_1(stage):
    """A stage that serves generation 1 and probes for data only by request."""
    stage.stand_ins.world.months = ["2025-01", "2025-02"]
    await stage.declare()
    await stage.start()
    await stage.until(live(1))
    await stage.until(lambda status: status["phase"] == "Idle")


@pytest.mark.survives(
    "Data",
    "data that a probe refuses, such as an unknown label",
    "`kubectl get iu`, DataReady and an Event have field, counts and remedy; the live "
    "generation keeps serving; the next probe succeeds once the data is corrected",
)
async def test_refused_data_are_shown_by_kubectl_and_used_once_fixed(stage):
    await serving_generation_1(stage)
    before = await template(stage)
    stage.stand_ins.refused["probe"] = (3, UNKNOWN)
    stage.stand_ins.world.months.append("2025-03")
    await stage.ask("run@1")
    said = f"spec.{UNKNOWN.field}: {UNKNOWN.message}"

    status = await stage.until(
        lambda status: condition(status, "DataReady").get("reason") == "UnknownLabel"
    )
    status = await stage.until(lambda status: said in status["progress"].get("waitingFor", ""))

    assert condition(status, "DataReady")["status"] == "False"
    assert condition(status, "DataReady")["message"] == said
    assert condition(status, "Ready")["status"] == "True"
    assert condition(status, "Serving")["status"] == "True"
    assert (await events(stage, "UnknownLabel")) == {"IncrementalUpdate": said}
    assert "UnknownLabel" in kubectl_get(stage, "iu", "shop")
    assert said in kubectl_get(stage, "iu", "shop", "-o", "wide")
    assert status["live"]["number"] == 1
    assert await template(stage) == before

    del stage.stand_ins.refused["probe"]
    await stage.ask("run@2")
    status = await stage.until(live(2))
    assert condition(status, "DataReady")["reason"] != "UnknownLabel"


@pytest.mark.survives(
    "Model",
    "live weights with a flipped bit when training starts",
    "the run fails at once with the file and both hashes; the served model stays",
)
async def test_a_run_whose_input_is_refused_fails_at_once_and_serving_stays(stage):
    await serving_generation_1(stage)
    before = await template(stage)
    stage.stand_ins.refused["train"] = (3, FLIPPED)
    stage.stand_ins.world.months.append("2025-03")
    await stage.ask("run@1")

    status = await stage.until(lambda status: status["lastRun"].get("verdict") == "Failed")

    assert status["lastRun"]["reason"] == "DigestMismatch"
    assert status["lastRun"]["message"] == FLIPPED.message
    assert condition(status, "LastRunSucceeded")["message"] == f"shop-g2: {FLIPPED.message}"
    said = await events(stage, "Failed")
    assert set(said.values()) == {f"shop-g2: DigestMismatch: {FLIPPED.message}"}
    assert "Failed" in kubectl_get(stage, "mg", "shop-g2")
    assert "Failed" in kubectl_get(stage, "iu", "shop")
    attempts = [job["metadata"]["name"] for job in stage.stand_ins.jobs_ever]
    assert len([name for name in attempts if "-g2-train-" in name]) == 1
    assert await template(stage) == before

    del stage.stand_ins.refused["train"]
    await stage.ask("retry@2")
    await stage.until(live(3))


@pytest.mark.survives(
    "Model",
    "a pickle as the initial model of a new update",
    "`Ready` is False with the field, the file and what to do; nothing is served",
)
async def test_an_unsafe_initial_model_blocks_until_it_is_fixed(stage):
    stage.stand_ins.refused["import"] = (3, PICKLED)
    await stage.declare()
    before = await template(stage)
    await stage.start()

    status = await stage.until(lambda status: condition(status, "Stalled"))

    remedy = "fix the cause and annotate springtide.dev/request=retry@<token>"
    said = f"shop-g0 failed; {remedy}; {PICKLED.field}: {PICKLED.message}"
    assert condition(status, "Stalled")["reason"] == "ImportFailed"
    assert condition(status, "Ready")["message"] == said
    assert (await events(stage, "ImportFailed")) == {"IncrementalUpdate": said}
    assert "False" in kubectl_get(stage, "iu", "shop")
    assert (await template(stage))["spec"] == before["spec"]

    del stage.stand_ins.refused["import"]
    stage.stand_ins.world.months = ["2025-01", "2025-02"]
    await stage.ask("retry@1")
    await stage.until(lambda status: status.get("live"))


@pytest.mark.survives(
    "Update",
    "a Deployment that exists only in another namespace, or nowhere",
    "`TargetNotFound` with its path; nothing in the other namespace is changed",
)
async def test_a_deployment_of_another_namespace_is_not_found(stage):
    await stage.declare()
    mine = await stage.client.get(DEPLOYMENT, stage.namespace, "ranker")
    other = f"{stage.namespace}-b"
    stage.kinds.kubectl("create", "namespace", other)
    spec = {"metadata": {"namespace": other, "name": "ranker-b"}, "spec": mine["spec"]}
    theirs = await stage.client.create(DEPLOYMENT, spec)
    raw = await stage.update()
    raw["spec"]["rollout"]["targets"][0]["targetRef"]["name"] = "ranker-b"
    await stage.client.replace(UPDATE, raw)
    await stage.start()

    status = await stage.until(lambda status: condition(status, "Stalled"))

    assert condition(status, "Stalled")["reason"] == "TargetNotFound"
    assert condition(status, "Stalled")["message"] == (
        "Deployment ranker-b does not exist; create it or change "
        "spec.rollout.targets[0].targetRef.name"
    )
    assert stage.stand_ins.jobs_ever == []
    found = await stage.client.get(DEPLOYMENT, other, "ranker-b")
    assert found["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]


@pytest.mark.survives(
    "Update",
    "a container that the Deployment does not have",
    "`ContainerNotFound` with its path and the existing containers; continues once corrected",
)
async def test_a_missing_container_is_reported_with_the_existing_ones(stage):
    await stage.declare()
    raw = await stage.update()
    raw["spec"]["rollout"]["targets"][0]["container"] = "sever"
    await stage.client.replace(UPDATE, raw)
    await stage.start()

    status = await stage.until(lambda status: condition(status, "Stalled"))

    assert condition(status, "Stalled")["reason"] == "ContainerNotFound"
    assert condition(status, "Stalled")["message"] == (
        "Deployment ranker has no container sever, only server; change "
        "spec.rollout.targets[0].container"
    )
    raw = await stage.update()
    raw["spec"]["rollout"]["targets"][0]["container"] = "server"
    await stage.client.replace(UPDATE, raw)
    await stage.until(lambda status: not condition(status, "Stalled"))


@pytest.mark.survives(
    "Update",
    "a Deployment that another update serves",
    "`TargetClaimed` with its path and the update that serves it; the first keeps serving",
)
async def test_a_claimed_deployment_stays_with_the_first_update(stage):
    await serving_generation_1(stage)
    before = await template(stage)
    first = await stage.update()
    metadata = {"namespace": stage.namespace, "name": "late"}
    kind = {"apiVersion": UPDATE.api_version, "kind": UPDATE.name}
    await stage.client.create(UPDATE, {**kind, "metadata": metadata, "spec": first["spec"]})

    late = {}
    async with within(60):
        while not condition(late.get("status", {}), "Stalled"):
            await asyncio.sleep(0.1)
            late = await stage.client.get(UPDATE, stage.namespace, "late")

    assert condition(late["status"], "Stalled")["reason"] == "TargetClaimed"
    assert condition(late["status"], "Stalled")["message"] == (
        "Deployment ranker is served by IncrementalUpdate shop; change "
        "spec.rollout.targets[0].targetRef.name, or remove its label springtide.dev/update"
    )
    assert await template(stage) == before
    assert condition((await stage.update())["status"], "Ready")["status"] == "True"
