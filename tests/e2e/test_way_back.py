"""A generation is live and turns out to be bad: the ways back, with clients that see no failure."""

import time
from datetime import datetime

import pytest
import yaml
from demo import cluster
from docs.pages import blocks, script
from e2e import owner, small_model
from e2e.monitors import sending_refused_requests, sending_requests

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

RATE = 20


def one_pod(deployment):
    """Run one pod, which a rollout replaces once the new one is ready."""
    deployment["replicas"] = 1


@pytest.fixture(scope="module")
def watching(installed, node_prometheus):
    """The operator, which may ask the Prometheus of the documentation, and a Prometheus there."""
    cluster.shell(script("docs/how-to/analysis.md", "hosts"), installed)
    operator = ("deployment/springtide", f"--namespace={cluster.SYSTEM}")
    installed.kubectl("rollout", "status", *operator, "--timeout=120s")
    return node_prometheus


@pytest.fixture(scope="module")
def served(small, watching):
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
    "with traffic: the generation before is pinned, and the pin removed",
    "it is served until the pin is removed, then the live generation again; no request fails",
)
def test_a_pinned_generation_is_served_until_the_pin_is_removed_and_no_request_fails(
    served, client
):
    served.edit({"rollout": {"pin": {"generation": 0}}})
    owner.wait_until_served(served, 0)
    serves_only(client, 0)
    status = served.wait(lambda now: now["phase"] == "Pinned", what="the pin")
    assert status["live"]["number"] == 1

    served.edit({"rollout": {"pin": None}})
    owner.wait_until_served(served, 1)
    totals = serves_only(client, 1)
    served.wait(lambda now: now["phase"] == "Idle", what="rest")
    assert totals["failures"] == []


@pytest.mark.survives(
    "People",
    "with traffic: `rollback.gN` of the live generation",
    "the generation before it is served and live again, with its cursor; no request fails, and no "
    "run starts until `quarantine` or `retry`",
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
    needed = served.wait(
        lambda now: owner.condition(now, "ActionRequired")["status"] == "True", what="the hold"
    )
    asks = owner.condition(needed, "ActionRequired")["message"]
    assert "quarantine@<token> to leave 2026-01 out, or retry@<token>" in asks
    last = totals["last"]["1"]
    decided = epoch(bad["rollout"]["rollbackStartedAt"])
    print(f"last answer of generation 1: {last - asked:.1f} s after the request")
    print(f"and {last - decided:.1f} s after the decision")


def analysis_of_refusals():
    """The bake of the documentation, of the share of requests that are refused, and in seconds."""
    (example,) = (
        block
        for block in blocks()
        if block.page == "docs/how-to/analysis.md" and block.language == "yaml"
    )
    text = example.text.replace("error|overloaded", "invalid").replace("[5m]", "[10s]")
    rollout = yaml.safe_load(text)["rollout"]
    errors, latency = rollout["analysis"]["metrics"]
    errors["value"]["max"], latency["value"]["max"] = "0.2", "10"
    rollout["analysis"] |= {"interval": "5s", "failureLimit": 2}
    return rollout | {"rollback": {"freezeAfter": 2}}


def samples(example, number):
    return example.generations()[number]["status"]["rollout"].get("analysis", [])


@pytest.mark.survives(
    "Deployments",
    "with traffic and a Prometheus: requests fail that did not fail before the promotion",
    "the metric fails in the bake and the generation is rolled back automatically, with values and "
    "bound as the reason; after `freezeAfter` of these in a row the update is frozen; no other "
    "request fails",
)
def test_a_generation_whose_requests_fail_after_its_promotion_is_rolled_back_in_its_bake(
    served, client
):
    before = served.served()["digest"]
    served.request("quarantine", "january")
    served.wait(lambda now: now["cursor"].get("quarantined") == ["2026-01"], what="the quarantine")
    served.edit({"rollout": analysis_of_refusals()})
    served.deliver("2026-03.csv.gz", small_model.month("2026-03"))
    served.request("run", "march")
    served.goes_live(2)
    owner.until(
        lambda: (
            {one["metric"] for one in samples(served, 2) if one["verdict"] == "Pass"}
            == {"error-rate", "latency-p99"}
        ),
        "a sample of each metric",
    )
    serves_only(client, 2)

    with sending_refused_requests(served, RATE):
        served.wait(
            lambda now: (
                now["live"]["number"] == 0 and now["lastRun"].get("outcome") == "RolledBack"
            ),
            what="the rollback",
        )
    owner.wait_until_served(served, 0)
    totals = serves_only(client, 0)

    assert totals["failures"] == []
    assert served.served()["digest"] == before
    why = served.generations()[2]["status"]["rollout"]["rollbackReason"]
    assert "metric error-rate is outside its bounds (max 0.2) in 2 samples in a row" in why
    served.wait(lambda now: now["phase"] == "Frozen", what="the freeze after the second rollback")
    needed = owner.condition(served.update(), "ActionRequired")
    assert (needed["status"], needed["reason"]) == ("True", "Frozen")
    assert "unfreeze@<token>" in needed["message"]
    served.request("unfreeze", "repaired")
    served.wait(lambda now: now["phase"] == "OnHold", what="the hold that is left")
