"""A GitOps controller, an autoscaler and users change a Deployment during a rollout."""

import time

import pytest
from demo.example import UPDATE
from e2e import owner, small_model
from e2e.monitors import sending_requests
from e2e.owner import TARGET

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1500)]

EVERY = 10.0
APPLIES = 7
LATE = 400.0


def without_replicas(deployment):
    """Remove replicas, as in a manifest of GitOps beside an autoscaler."""
    del deployment["replicas"]


def fields_of(example, manager):
    entries = example.get(TARGET, "--show-managed-fields")["metadata"]["managedFields"]
    return [one["fieldsV1"]["f:spec"] for one in entries if one["manager"] == manager]


@pytest.mark.survives(
    "Deployments",
    "with traffic: a GitOps controller applies its manifest with force every 10 s, and an "
    "autoscaler scales, during a rollout",
    "both keep their fields: one revision for each generation, replicas never ours, no request "
    "fails",
)
@pytest.mark.survives(
    "Deployments",
    "with traffic: `kubectl rollout undo` to the previous generation",
    "`FieldConflict` names kubectl, and the older generation stays on the pods; the live "
    "generation is served again once the user removes the variables; no request fails",
)
def test_all_clients_keep_their_fields_and_no_request_fails(small):
    example = small("argo")
    example.begin()
    example.goes_live(0, seconds=LATE)
    theirs = owner.manifest(example, without_replicas)
    with sending_requests(example) as client:
        with owner.applied_again_and_again(example, theirs, every=EVERY) as applies:
            example.wait(lambda now: now["phase"] == "RollingOut", what="the roll", seconds=LATE)
            example.show("scale", TARGET, "--replicas=3")
            example.goes_live(1, seconds=LATE)
            owner.until(lambda: applies() >= APPLIES, "a minute of applies")
        owner.wait_until_served(example, 1)
        assert example.get(TARGET)["spec"]["replicas"] == 3
        (ours,) = fields_of(example, f"springtide:{UPDATE}")
        assert "f:replicas" not in ours
        assert example.served()["revision"] == "3"
        assert owner.in_sync(example.update())
        assert owner.event_count(example, "FieldsRestored") == 0

        example.show("scale", TARGET, "--replicas=2")
        older = owner.served_variables(example, 0)
        example.show("rollout", "undo", TARGET)
        status = example.wait(owner.out_of_sync("FieldConflict"), what="the conflict")
        assert "kubectl sets MODEL_URI" in owner.condition(status, "TargetsInSync")["message"]
        example.show("rollout", "status", TARGET, "--timeout=240s")
        time.sleep(5)
        assert older.items() <= owner.variables(example).items()
        assert example.update()["live"]["number"] == 1
        example.show("set", "env", TARGET, "MODEL_DIGEST-", "MODEL_URI-")
        owner.wait_until_served(example, 1)
        example.wait(owner.in_sync, what="the end of the conflict")
        client.wait_for(more=10)
        totals = client.totals()
    assert totals["failures"] == []
    assert set(totals["generations"]) == {"0", "1"}


@pytest.mark.survives(
    "Deployments",
    "with traffic: paused when a rollout is due, and resumed",
    "`TargetPaused` says how to resume, the rollout starts by itself after that; no request fails",
)
@pytest.mark.survives(
    "Deployments",
    "with traffic: deleted with its pods kept, and created again from its manifest",
    "`TargetNotFound` names it; the new Deployment gets the live generation, the pods stay, no "
    "request fails",
)
def test_a_deployment_that_is_paused_or_created_again_is_waited_for(small):
    example = small("paused")
    example.begin()
    example.goes_live(1, seconds=LATE)
    owner.wait_until_served(example, 1)
    with sending_requests(example) as client:
        earlier = client.answered_only_by(1, of=5)["generations"].get("0", 0)
        example.show("rollout", "pause", TARGET)
        example.deliver("2026-03.csv.gz", small_model.month("2026-03"))
        status = example.wait(owner.stalled("TargetPaused"), what="the refusal", seconds=LATE)
        assert "kubectl rollout resume" in owner.condition(status, "Stalled")["message"]
        time.sleep(5)
        assert "stepStartedAt" not in example.generations()[2]["status"].get("rollout", {})
        assert owner.served_variables(example, 1).items() <= owner.variables(example).items()
        example.show("rollout", "resume", TARGET)
        example.goes_live(2)
        owner.wait_until_served(example, 2)

        before = example.served()
        example.show("delete", TARGET, "--cascade=orphan")
        status = example.wait(owner.stalled("TargetNotFound"), what="the refusal")
        example.kubectl.apply([owner.manifest(example)])
        owner.wait_until_served(example, 2)
        example.wait(lambda now: owner.in_sync(now) and now["phase"] == "Idle", what="rest")
        assert not owner.condition(example.update(), "Stalled")
        assert set(example.served()["pods"]) == set(before["pods"])
        client.wait_for(more=10)
        totals = client.totals()
    assert totals["failures"] == []
    assert totals["generations"].get("0", 0) == earlier
    assert {"1", "2"} <= set(totals["generations"]) <= {"0", "1", "2"}
