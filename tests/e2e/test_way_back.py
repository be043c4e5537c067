"""A generation is live and turns out to be bad: the ways back, with clients that see no failure."""

import time
from datetime import datetime

import pytest
from e2e import owner
from e2e.monitors import sending_requests

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

RATE = 20


def one_pod(deployment):
    """Run one pod, which a rollout replaces once the new one is ready."""
    deployment["replicas"] = 1


@pytest.fixture(scope="module")
def served(small):
    """An update whose generation 1 is live, after the imported generation 0."""
    example = small("way-back")
    example.begin(server=one_pod)
    example.goes_live(1)
    owner.wait_until_served(example, 1)
    return example


@pytest.fixture(scope="module")
def client(served):
    """A client from the moment generation 1 is live to the last test."""
    with sending_requests(served, RATE) as sends:
        sends.wait_for(more=RATE)
        yield sends


def serves_only(client, number):
    """Wait until a second of answers are of one generation; return the totals."""
    while True:
        before = client.totals()["generations"]
        totals = client.wait_for(more=RATE)
        now = totals["generations"]
        if {name for name in now if now[name] != before.get(name, 0)} == {str(number)}:
            return totals


def epoch(moment):
    return datetime.fromisoformat(moment).timestamp()


@pytest.mark.survives(
    "People",
    "with traffic: `rollback.gN` of the live generation",
    "the generation before it is served and live again, with its cursor; no request fails",
)
def test_a_live_generation_is_rolled_back_on_request_and_no_request_fails(served, client):
    kept = served.generations()[0]["status"]["artifact"]["servedDigest"]
    asked = time.time()
    served.request("rollback.g1", "worse")

    status = served.wait(
        lambda now: now["lastRun"].get("outcome") == "RolledBack", what="the rollback"
    )
    owner.wait_until_served(served, 0)
    totals = serves_only(client, 0)

    assert totals["failures"] == []
    assert (status["live"]["number"], served.served()["digest"]) == (0, kept)
    assert "trainedThrough" not in status.get("cursor", {})
    bad = served.generations()[1]["status"]
    assert (bad["outcome"], bad["verdict"]) == ("RolledBack", "Accepted")
    assert "rollback.g1@worse" in bad["rollout"]["rollbackReason"]
    last = totals["last"]["1"]
    decided = epoch(bad["rollout"]["rollbackStartedAt"])
    print(f"last answer of generation 1: {last - asked:.1f} s after the request")
    print(f"and {last - decided:.1f} s after the decision")
