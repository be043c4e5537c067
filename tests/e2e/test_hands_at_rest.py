"""What people do to a Deployment that serves, while no run is under way; clients ask meanwhile."""

import time

import pytest
from e2e import owner
from e2e.owner import TARGET
from e2e.small import MONTHS
from e2e.witnesses import asking
from story.scene import UPDATE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FOREIGN = "sha256:" + "0" * 64


@pytest.mark.survives(
    "Deployments",
    "with clients on it: `kubectl apply` of the owner's manifest, `kubectl set env` of our"
    " variable, a second update that names the Deployment",
    "an apply changes no pod; `FieldConflict` names kubectl-set, and live is served again once the"
    " person removes the variables; the second update is `TargetClaimed`; no request fails",
)
@pytest.mark.survives(
    "People",
    "with clients on the server: every update is deleted and applied again from Git, at rest",
    "taken over with live under the new uid; no pod restarts, the Deployment has no new revision",
)
def test_a_served_deployment_is_its_owners_and_keeps_serving(small):
    scene = small("hands")
    scene.begin(months=MONTHS[:1])
    scene.goes_live(0)
    owner.serves(scene, 0)
    before = scene.served()
    with asking(scene) as client:
        client.wait_for(more=5)
        scene.kubectl.apply([owner.manifest(scene)])
        assert scene.served() == before

        scene.show("set", "env", TARGET, f"MODEL_DIGEST={FOREIGN}")
        status = scene.wait(owner.out_of_sync("FieldConflict"), what="the conflict")
        assert "kubectl-set" in owner.condition(status, "TargetsInSync")["message"]
        rival = scene.objects()["IncrementalUpdate"]
        rival["metadata"]["name"] = "rival"
        scene.kubectl.apply([rival])

        def refused():
            return owner.condition(scene.get("iu/rival").get("status", {}), "Stalled")

        why = owner.until(refused, "the refusal of the second update")
        assert why["reason"] == "TargetClaimed"
        assert f"is served by IncrementalUpdate {UPDATE}" in why["message"]
        time.sleep(5)
        assert owner.variables(scene)["MODEL_DIGEST"] == FOREIGN
        assert scene.update()["live"]["number"] == 0

        scene.show("set", "env", TARGET, "MODEL_DIGEST-", "MODEL_URI-")
        owner.serves(scene, 0)
        scene.wait(owner.in_sync, what="the end of the conflict")
        owner.until(lambda: scene.served()["pods"] == before["pods"], "the pods as they were")

        kept, uid = scene.served(), owner.uid(scene)
        owner.delete_updates(scene)
        status = owner.apply_again(scene, uid)
        assert status["live"]["number"] == 0
        scene.wait(lambda now: owner.in_sync(now) and now["phase"] == "Idle", what="rest")
        client.wait_for(more=10)
        assert scene.served() == kept
        totals = client.totals()
    assert totals["failures"] == []
    assert set(totals["generations"]) == {"0"}
