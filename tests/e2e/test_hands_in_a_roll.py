"""A GitOps controller, an autoscaler and people at a Deployment while a generation rolls out."""

import time

import pytest
from e2e import owner, small_model
from e2e.owner import TARGET
from e2e.witnesses import asking
from story.scene import UPDATE

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1500)]

EVERY = 10.0
APPLIES = 7
LATE = 400.0


def without_replicas(deployment):
    """As GitOps and an autoscaler live together."""
    del deployment["replicas"]


def fields_of(scene, manager):
    entries = scene.get(TARGET, "--show-managed-fields")["metadata"]["managedFields"]
    return [one["fieldsV1"]["f:spec"] for one in entries if one["manager"] == manager]


@pytest.mark.survives(
    "Deployments",
    "with clients on it: a GitOps controller applies its manifest by force every 10 s, and an"
    " autoscaler scales, through a whole roll",
    "both keep their fields: one revision a generation, replicas never ours, no request fails",
)
@pytest.mark.survives(
    "Deployments",
    "with clients on it: `kubectl rollout undo` to the generation before",
    "`FieldConflict` names kubectl, and the older generation stays on the pods; live is"
    " served again once the person removes the variables; no request fails",
)
def test_nobody_fights_over_a_deployment_and_no_request_fails(small):
    scene = small("argo")
    scene.begin()
    scene.goes_live(0, seconds=LATE)
    theirs = owner.manifest(scene, without_replicas)
    with asking(scene) as client:
        with owner.applied_again_and_again(scene, theirs, every=EVERY) as applies:
            scene.wait(lambda now: now["phase"] == "RollingOut", what="the roll", seconds=LATE)
            scene.show("scale", TARGET, "--replicas=3")
            scene.goes_live(1, seconds=LATE)
            owner.until(lambda: applies() >= APPLIES, "a minute of applies")
        owner.serves(scene, 1)
        assert scene.get(TARGET)["spec"]["replicas"] == 3
        (ours,) = fields_of(scene, f"springtide:{UPDATE}")
        assert "f:replicas" not in ours
        assert scene.served()["revision"] == "3"
        assert owner.in_sync(scene.update())
        assert owner.said(scene, "FieldsRestored") == 0

        scene.show("scale", TARGET, "--replicas=2")
        older = owner.carried(scene, 0)
        scene.show("rollout", "undo", TARGET)
        status = scene.wait(owner.out_of_sync("FieldConflict"), what="the conflict")
        assert "kubectl sets MODEL_URI" in owner.condition(status, "TargetsInSync")["message"]
        scene.show("rollout", "status", TARGET, "--timeout=240s")
        time.sleep(5)
        assert older.items() <= owner.variables(scene).items()
        assert scene.update()["live"]["number"] == 1
        scene.show("set", "env", TARGET, "MODEL_DIGEST-", "MODEL_URI-")
        owner.serves(scene, 1)
        scene.wait(owner.in_sync, what="the end of the conflict")
        client.wait_for(more=10)
        totals = client.totals()
    assert totals["failures"] == []
    assert set(totals["generations"]) == {"0", "1"}


@pytest.mark.survives(
    "Deployments",
    "with clients on it: paused when a roll is due, and resumed",
    "`TargetPaused` says how to resume, the deadline stands still, the roll goes on by itself; no"
    " request fails",
)
@pytest.mark.survives(
    "Deployments",
    "with clients on it: deleted with its pods left, and made again from its manifest",
    "`TargetNotFound` names it; the new one gets live, the pods stay, no request fails",
)
def test_a_deployment_that_is_paused_or_made_again_is_waited_for(small):
    scene = small("paused")
    scene.begin()
    scene.goes_live(1, seconds=LATE)
    owner.serves(scene, 1)
    with asking(scene) as client:
        client.wait_for(more=5)
        scene.show("rollout", "pause", TARGET)
        scene.deliver("2026-03.csv.gz", small_model.month("2026-03"))
        status = scene.wait(owner.stalled("TargetPaused"), what="the refusal", seconds=LATE)
        assert "kubectl rollout resume" in owner.condition(status, "Stalled")["message"]
        deadline = scene.generations()[2]["status"]["rollout"]["deadline"]
        time.sleep(5)
        assert owner.carried(scene, 1).items() <= owner.variables(scene).items()
        scene.show("rollout", "resume", TARGET)
        scene.goes_live(2)
        assert scene.generations()[2]["status"]["rollout"]["deadline"] > deadline
        owner.serves(scene, 2)

        before = scene.served()
        scene.show("delete", TARGET, "--cascade=orphan")
        status = scene.wait(owner.stalled("TargetNotFound"), what="the refusal")
        scene.kubectl.apply([owner.manifest(scene)])
        owner.serves(scene, 2)
        scene.wait(lambda now: owner.in_sync(now) and now["phase"] == "Idle", what="rest")
        assert not owner.condition(scene.update(), "Stalled")
        assert set(scene.served()["pods"]) == set(before["pods"])
        client.wait_for(more=10)
        totals = client.totals()
    assert totals["failures"] == []
    assert set(totals["generations"]) == {"1", "2"}
