"""An apply that the API server refuses: the rollout reports it, and its deadline does not run."""

import asyncio
import contextlib
import json

import pytest
from faults.directing import condition
from faults.life import LIFE, play
from faults.playing import Recorder
from lifecycle.declared import SPEC

from springtide_operator import reconcile
from springtide_operator.cluster.api.kinds import DEPLOYMENT

pytestmark = pytest.mark.apiserver

GROUP = "admissionregistration.k8s.io/v1"


def freeze(namespace):
    """Deny every update of the Deployment reranker of one namespace, as a change freeze does."""
    name = f"frozen-{namespace}"
    rules = {
        "resourceRules": [
            {
                "apiGroups": ["apps"],
                "apiVersions": ["v1"],
                "operations": ["UPDATE"],
                "resources": ["deployments"],
                "resourceNames": ["reranker"],
            }
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
    }
    validations = [{"expression": "false", "message": "change freeze until Monday"}]
    policy = {"matchConstraints": rules, "validations": validations}
    binding = {"policyName": name, "validationActions": ["Deny"]}
    kinds = {"ValidatingAdmissionPolicy": policy, "ValidatingAdmissionPolicyBinding": binding}
    return [
        {"apiVersion": GROUP, "kind": kind, "metadata": {"name": name}, "spec": spec}
        for kind, spec in kinds.items()
    ]


@contextlib.asynccontextmanager
async def frozen(kinds, scene):
    items = freeze(scene.namespace)
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    await asyncio.to_thread(kinds.kubectl, "apply", "-f", "-", input=text)
    try:
        await until_denied(kinds, scene)
        yield
    finally:
        names = [f"{each['kind'].lower()}/{each['metadata']['name']}" for each in items]
        await asyncio.to_thread(kinds.kubectl, "delete", *names)


async def until_denied(kinds, scene):
    """The API server takes a new policy into account some moments later."""
    command = ("annotate", "deployment/reranker", "a=b", "--dry-run=server", "--overwrite")
    async with asyncio.timeout(60):
        while True:
            try:
                await asyncio.to_thread(kinds.kubectl, *command, "-n", scene.namespace)
            except RuntimeError as error:
                if "change freeze" not in str(error):
                    raise
                return
            await asyncio.sleep(0.5)


def statuses(recorder):
    return [path for _, path in recorder.writes if path.endswith("/status")]


def measured(operator, scene, name):
    labels = {"namespace": scene.namespace, "update": "shop"}
    return operator.metrics.registry.get_sample_value(name, labels)


async def carried(scene, name):
    raw = await scene.client.get(DEPLOYMENT, scene.namespace, name)
    labels = raw["spec"]["template"]["metadata"].get("labels") or {}
    return labels.get("springtide.dev/generation")


@pytest.mark.survives(
    "Deployments",
    "an admission policy refuses the apply to one of two targets",
    "`ApplyRefused` with the message of the refusal in Stalled, ActionRequired and "
    "TargetsInSync; the deadline does not run, the apply is repeated every 30 to 40 s, nothing "
    "else is written, and the rollout continues once the apply is accepted",
)
async def test_a_rollout_whose_second_apply_is_refused_reports_it_and_continues(
    ground, kinds, monkeypatch
):
    monkeypatch.setattr(reconcile, "REFUSED_SECONDS", (3, 4))
    recorder = Recorder()
    scene = await ground.scene()
    targets = [
        {"targetRef": {"name": name}, "container": "server"} for name in ("ranker", "reranker")
    ]
    rollout = {**SPEC["rollout"], "deadline": "10s", "targets": targets}
    await scene.declare_deployment("reranker")
    await scene.declare(rollout=rollout)
    operator = await scene.start(recorder)
    await play(scene, LIFE[:2])
    assert measured(operator, scene, "springtide_action_required") == 0
    async with frozen(kinds, scene):
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        await scene.until(
            lambda scene: condition(scene.update_status, "Stalled").get("reason") == "ApplyRefused",
            60,
        )
        assert [await carried(scene, name) for name in ("ranker", "reranker")] == ["2", "1"]
        for kind in ("Stalled", "ActionRequired", "TargetsInSync"):
            assert "change freeze until Monday" in condition(scene.update_status, kind)["message"]
        assert measured(operator, scene, "springtide_action_required") == 1
        assert measured(operator, scene, "springtide_stalled") == 1
        written = len(statuses(recorder))
        await asyncio.sleep(20)
        assert len(statuses(recorder)) == written
        assert not scene.generation(2)["rollout"].get("rollbackReason")
        assert scene.update_status["live"]["number"] == 1
    await scene.until(lambda scene: (scene.update_status.get("live") or {}).get("number") == 2, 60)
    assert [await carried(scene, name) for name in ("ranker", "reranker")] == ["2", "2"]
    await scene.until(lambda scene: not condition(scene.update_status, "Stalled"))
    assert condition(scene.update_status, "ActionRequired")["status"] == "False"
