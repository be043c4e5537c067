"""A live server while its update goes wrong: a generation that cannot serve, a deletion."""

import time

import pytest
from demo.example import UPDATE
from e2e import small_model
from e2e.monitors import recording, sending_requests

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ONLY_GENERATION_0 = """
case "$(cat /etc/pod/generation)" in
  ""|0) exec python -m springtide_server ;;
  *) echo "this server has no library for the new model" >&2; exit 1 ;;
esac
"""


@pytest.fixture(scope="module")
def served(small):
    """An example that serves generation 0 and waits for a month to evaluate another one on."""
    example = small("served")
    example.begin(server=serves_generation_0_alone, months=("2026-01",))
    example.goes_live(0)
    return example


def serves_generation_0_alone(deployment):
    (container,) = deployment["template"]["spec"]["containers"]
    container["command"] = ["sh", "-c", ONLY_GENERATION_0]


def deliver(example, *months):
    for month in months:
        example.deliver(f"{month}.csv.gz", small_model.month(month))
    example.request("run", months[-1])


def conditions(status):
    return {one["type"]: one for one in status["conditions"]}


@pytest.mark.survives(
    "Deployments",
    "the pods of a new generation crash and never become available",
    "rolled back automatically after rollout.deadline; the Deployment never has fewer "
    "available pods than its strategy allows; no request fails; the message names the "
    "container and its exit code",
)
def test_a_generation_whose_pods_crash_is_rolled_back_and_no_request_fails(served):
    before = served.served()
    served.edit({"rollout": {"deadline": "20s"}})
    deliver(served, "2026-02")
    available = recording(served, f"deployment/{UPDATE}", ".status.availableReplicas")
    with sending_requests(served) as client, available as counts:
        client.wait_for(more=10)
        status = served.wait(
            lambda now: now["lastRun"].get("outcome") == "RolledBack" and not now.get("candidate"),
            what="the rollback of generation 1",
        )
        client.wait_for(more=10)
        totals = client.totals()
        assert set(counts()) == {"2"}
    assert (totals["failed"], set(totals["generations"])) == (0, {"0"}), totals
    after = served.served()
    assert (after["digest"], after["pods"]) == (before["digest"], before["pods"])
    refused = served.generations()[1]["status"]
    assert (refused["verdict"], refused["phase"]) == ("Accepted", "RolledBack")
    for words in (
        "0 of 2 new pods available",
        "container server ended with code 1: this server has no library for the new model",
        "after 20s (rollout.deadline)",
    ):
        assert words in refused["rollout"]["rollbackReason"]
    assert status["live"]["number"] == 0
    accepted = conditions(status)["LastRunSucceeded"]
    assert accepted["status"] == "False"
    assert "rollout.deadline" in accepted["message"]


@pytest.mark.survives(
    "People",
    "the update is deleted during training",
    "its Jobs and pods are deleted within 30 s; the Deployment stays as it is, and no request "
    "fails",
)
def test_deleting_the_update_mid_training_leaves_no_pod_and_the_server_as_it_is(served):
    steps = {"epochs": None, "maxSteps": 100_000}
    served.edit({"training": {"hyperparameters": steps}})
    deliver(served, "2026-02", "2026-03")
    deadline = time.monotonic() + 180
    while not any(served.checkpoints(number) for number in served.generations()):
        assert time.monotonic() < deadline, served.update()
        time.sleep(0.5)
    before, records = served.get(f"deployment/{UPDATE}"), sorted(served.generations())
    with sending_requests(served) as client:
        client.wait_for(more=5)
        assert [job["status"].get("active") for job in served.jobs("train")] == [1]
        served.show("delete", f"iu/{UPDATE}", "--wait=false")
        deadline = time.monotonic() + 30
        while left := served.jobs() + served.pods("train"):
            assert time.monotonic() < deadline, [one["metadata"]["name"] for one in left]
            time.sleep(0.5)
        client.wait_for(more=10)
        assert client.totals()["failures"] == []
    after = served.get(f"deployment/{UPDATE}")
    assert served.get(f"iu/{UPDATE}") == {}
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert sorted(served.generations()) == records
