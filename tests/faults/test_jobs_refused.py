"""A Job that the API server itself refuses: the reason is in no Event, only in the response."""

import asyncio
import contextlib
import itertools
import json
import time

import pytest
from faults.life import LIFE, play
from faults.test_people_delete import Tried
from patience import within

from springtide_operator import reconcile

pytestmark = pytest.mark.apiserver

AUDITED = "object.spec.template.spec.containers.all(each, each.image == 'audited')"


def policy(namespace):
    """Deny every new Job of one namespace but those of one image."""
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
    rule = {"expression": AUDITED, "message": "no Jobs before the audit"}
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


@contextlib.asynccontextmanager
async def refused(ground, kinds, tried):
    """A scene with a live generation whose next look for data is refused as a Job."""
    scene = await ground.scene()
    await scene.declare()
    await scene.start(tried)
    await play(scene, LIFE[:2])
    denied = policy(scene.namespace)
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": denied})
    await asyncio.to_thread(kinds.kubectl, "apply", "-f", "-", input=text)
    try:
        await until_denied(kinds, scene)
        tried.tries.clear()
        tried.writes.clear()
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        await scene.until(lambda scene: stalled(scene).get("reason") == "JobRefused", seconds=30)
        assert "no Jobs before the audit" in stalled(scene)["message"]
        assert scene.update_status["phase"] == "Queued"
        assert scene.update_status["live"]["number"] == 1
        yield scene
    finally:
        names = [f"{each['kind'].lower()}/{each['metadata']['name']}" for each in denied]
        await asyncio.to_thread(kinds.kubectl, "delete", *names)


@pytest.mark.survives(
    "Jobs and pods",
    "an admission policy or a quota of Jobs refuses the Job itself, while other events keep "
    "waking the update",
    "`JobRefused` with the message of the refusal in status, written once; the Job is tried "
    "again after 30 to 40 s and no sooner; serving is not affected, and the run continues once "
    "Jobs are accepted",
)
@pytest.mark.parametrize(
    "bounds", [(6, 8), pytest.param(reconcile.REFUSED_SECONDS, marks=pytest.mark.faults)]
)
async def test_a_refused_job_is_reported_and_created_once_it_is_accepted(
    ground, kinds, monkeypatch, bounds
):
    monkeypatch.setattr(reconcile, "REFUSED_SECONDS", bounds)
    tried = Tried()
    async with refused(ground, kinds, tried) as scene:
        # The watch may be faster than the answer to the write that it reports.
        await scene.until(lambda _: tried.writes and tried.writes[-1][1].endswith("/shop/status"))
        written = len(tried.writes)
        assert written <= 4
        began = time.monotonic()
        while len(made := tried.of("POST", "/jobs")) < 2 or time.monotonic() < began + bounds[1]:
            await scene.touch()
            await asyncio.sleep(0.2)
        assert min(after - before for before, after in itertools.pairwise(made)) >= bounds[0]
        assert len(tried.writes) == written
    await scene.until(
        lambda scene: (scene.update_status.get("live") or {}).get("number") == 2, seconds=240
    )
    assert stalled(scene) == {}


@pytest.mark.survives(
    "Jobs and pods",
    "the Job itself is refused, and the spec is edited so that the Job is another one",
    "tried at once",
)
async def test_an_edit_that_fixes_a_refused_job_takes_effect_at_once(ground, kinds):
    tried = Tried()
    async with refused(ground, kinds, tried) as scene:
        await scene.edit(training={"image": "audited"})
        await scene.until(
            lambda scene: (scene.update_status.get("live") or {}).get("number") == 2,
            seconds=reconcile.REFUSED_SECONDS[0],
        )
        made = tried.of("POST", "/jobs")
        assert made[1] - made[0] < reconcile.REFUSED_SECONDS[0]


def stalled(scene):
    found = (
        each for each in scene.update_status.get("conditions", []) if each["type"] == "Stalled"
    )
    return next(found, {})


async def until_denied(kinds, scene):
    """The API server takes a new policy into account some moments later."""
    async with within(60):
        while True:
            command = ("create", "job", "probe", "--image=x", "--dry-run=server")
            try:
                await asyncio.to_thread(kinds.kubectl, *command, "-n", scene.namespace)
            except RuntimeError as error:
                if "no Jobs before the audit" not in str(error):
                    raise
                return
            await asyncio.sleep(0.5)
