"""A Job that the API server refuses itself: nothing stands where one would look for the reason."""

import asyncio
import json

import pytest
from faults.life import LIFE, play
from faults.playing import Recorder

pytestmark = pytest.mark.apiserver


def policy(namespace):
    """Deny every new Job of one namespace."""
    name = f"no-jobs-{namespace}"
    constraints = {
        "resourceRules": [
            {
                "apiGroups": ["batch"],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["jobs"],
            }
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
    }
    group = "admissionregistration.k8s.io/v1"
    rule = {"expression": "false", "message": "no Jobs before the audit"}
    return [
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {"matchConstraints": constraints, "validations": [rule]},
        },
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]


@pytest.mark.survives(
    "Jobs and pods",
    "an admission policy or a quota of Jobs refuses the Job itself",
    "`JobRefused` with the refusal's own words in status, written once; serving untouched, and the "
    "run goes on by itself once Jobs are accepted",
)
async def test_a_job_that_is_refused_is_told_and_made_when_it_may_be(ground, kinds):
    scene = await ground.scene()
    await scene.declare()
    recorder = Recorder()
    await scene.start(recorder)
    await play(scene, LIFE[:2])
    denied = policy(scene.namespace)
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": denied})
    await asyncio.to_thread(kinds.kubectl, "apply", "-f", "-", input=text)
    try:
        await until_denied(kinds, scene)
        before = len(recorder.writes)
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        await scene.until(lambda scene: stalled(scene).get("reason") == "JobRefused", seconds=30)
        assert "no Jobs before the audit" in stalled(scene)["message"]
        assert scene.told["phase"] == "Queued"
        assert scene.told["live"]["number"] == 1
        told = len(recorder.writes)
        assert told - before <= 4
        await asyncio.sleep(5)
        assert len(recorder.writes) == told
    finally:
        names = [f"{each['kind'].lower()}/{each['metadata']['name']}" for each in denied]
        await asyncio.to_thread(kinds.kubectl, "delete", *names)
    await scene.until(lambda scene: (scene.told.get("live") or {}).get("number") == 2, seconds=120)
    assert stalled(scene) == {}


def stalled(scene):
    found = (each for each in scene.told.get("conditions", []) if each["type"] == "Stalled")
    return next(found, {})


async def until_denied(kinds, scene):
    """The API server takes a new policy into account some moments later."""
    async with asyncio.timeout(60):
        while True:
            command = ("create", "job", "probe", "--image=x", "--dry-run=server")
            try:
                await asyncio.to_thread(kinds.kubectl, *command, "-n", scene.namespace)
            except RuntimeError as error:
                if "no Jobs before the audit" not in str(error):
                    raise
                return
            await asyncio.sleep(0.5)
