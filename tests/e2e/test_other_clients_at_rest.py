"""What users do to a served Deployment while no run is active, with clients on it."""

import time

import pytest
from demo.example import UPDATE
from e2e import owner
from e2e.monitors import sending_requests
from e2e.owner import TARGET
from e2e.small_example import MONTHS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FOREIGN = "sha256:" + "0" * 64


@pytest.mark.survives(
    "Deployments",
    "with traffic: `kubectl apply` of the owner's manifest, `kubectl set env` of our variable, "
    "a second update that names the Deployment",
    "an apply changes no pod; `FieldConflict` names kubectl-set, and the live generation is "
    "served again once the user removes the variables; the second update is `TargetClaimed`; "
    "no request fails",
)
@pytest.mark.survives(
    "People",
    "with traffic: every update is deleted and applied again from Git, at rest",
    "adopted with its live generation under the new uid; no pod restarts, the Deployment has "
    "no new revision",
)
def test_a_served_deployment_belongs_to_its_owner_and_keeps_serving(small):
    example = small("other-clients")
    example.begin(months=MONTHS[:1])
    example.goes_live(0)
    owner.wait_until_served(example, 0)
    before = example.served()
    with sending_requests(example) as client:
        client.wait_for(more=5)
        example.kubectl.apply([owner.manifest(example)])
        assert example.served() == before

        example.show("set", "env", TARGET, f"MODEL_DIGEST={FOREIGN}")
        status = example.wait(owner.out_of_sync("FieldConflict"), what="the conflict")
        assert "kubectl-set" in owner.condition(status, "TargetsInSync")["message"]
        second = example.objects()["IncrementalUpdate"]
        second["metadata"]["name"] = "second"
        example.kubectl.apply([second])

        def refused():
            return owner.condition(example.get("iu/second").get("status", {}), "Stalled")

        why = owner.until(refused, "the refusal of the second update")
        assert why["reason"] == "TargetClaimed"
        assert f"is served by IncrementalUpdate {UPDATE}" in why["message"]
        time.sleep(5)
        assert owner.variables(example)["MODEL_DIGEST"] == FOREIGN
        assert example.update()["live"]["number"] == 0

        example.show("set", "env", TARGET, "MODEL_DIGEST-", "MODEL_URI-")
        owner.wait_until_served(example, 0)
        example.wait(owner.in_sync, what="the end of the conflict")
        owner.until(lambda: example.served()["pods"] == before["pods"], "the pods as they were")

        kept, uid = example.served(), owner.uid(example)
        owner.delete_updates(example)
        status = owner.apply_again(example, uid)
        assert status["live"]["number"] == 0
        example.wait(lambda now: owner.in_sync(now) and now["phase"] == "Idle", what="rest")
        client.wait_for(more=10)
        assert example.served() == kept
        totals = client.totals()
    assert totals["failures"] == []
    assert set(totals["generations"]) == {"0"}
