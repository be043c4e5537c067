"""A canary that passes and one that fails, and the ways back, with clients that see no failure."""

import time
from datetime import datetime

import pytest
import yaml
from demo import cluster
from demo.example import UPDATE
from docs.pages import blocks, script
from e2e import node_cache, owner, small_model
from e2e.approvers import approve
from e2e.canary_pods import CANARY, at_step, controllers, first_ready
from e2e.monitors import sending_refused_requests, sending_requests

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

RATE = 20
STEP_SECONDS = 10


def documented(field):
    """The rollout of docs/how-to/analysis.md that has a field, of the requests that are refused."""
    texts = [
        block.text.replace("error|overloaded", "invalid").replace("[5m]", "[10s]")
        for block in blocks()
        if block.page == "docs/how-to/analysis.md" and block.language == "yaml"
    ]
    found = [yaml.safe_load(text).get("rollout", {}) for text in texts]
    (rollout,) = (each for each in found if field in each)
    rollout["analysis"] |= {"interval": "5s", "failureLimit": 2}
    return rollout


def bake_of_refusals():
    """A bake in seconds."""
    rollout = documented("bake")
    errors, latency = rollout["analysis"]["metrics"]
    errors["value"]["max"], latency["value"]["max"] = "0.2", "10"
    return rollout | {"rollback": {"freezeAfter": 3}}


def canary_of(steps):
    """A canary with these steps, the documented ratio metric, and one with a fixed bound."""
    rollout = documented("strategy")
    _, latency = bake_of_refusals()["analysis"]["metrics"]
    rollout["strategy"]["canary"]["steps"] = steps
    rollout["analysis"]["metrics"].append(latency)
    return rollout


@pytest.fixture(scope="module")
def watching(installed, node_prometheus):
    """The operator, which may ask the Prometheus of the documentation, and a Prometheus there."""
    cluster.shell(script("docs/how-to/analysis.md", "hosts"), installed)
    operator = ("deployment/springtide", f"--namespace={cluster.SYSTEM}")
    installed.kubectl("rollout", "status", *operator, "--timeout=120s")
    return node_prometheus


@pytest.fixture(scope="module")
def served(small, watching):
    """An update whose imported generation 0 is live; the next one has a canary of two steps."""
    steps = [{"weight": weight, "duration": f"{STEP_SECONDS}s"} for weight in (33, 50)]
    example = small("way-back")
    example.begin(
        change=lambda spec: spec["rollout"].update(canary_of(steps)),
        server=node_cache.with_cache,
        before=lambda: node_cache.make_cache(example),
        shared=True,
    )
    example.goes_live(0)
    owner.wait_until_served(example, 0)
    return example


@pytest.fixture(scope="module")
def client(served):
    """A client from the moment generation 0 is live to the last test."""
    with sending_requests(served, RATE) as sends:
        sends.wait_for(more=RATE)
        yield sends


def epoch(moment):
    return datetime.fromisoformat(moment).timestamp()


def served_after(generation):
    """Seconds from the end of the probe to the promotion, but those of its pods and steps."""
    created, status = generation["metadata"]["creationTimestamp"], generation["status"]
    pods = [pod for stage in ("training", "evaluation") for pod in status[stage].get("pods", [])]
    working = sum(epoch(pod["endedAt"]) - epoch(pod["startedAt"]) for pod in pods)
    return epoch(status["rollout"]["promotedAt"]) - epoch(created) - working - 2 * STEP_SECONDS


def samples(example, number):
    return example.generations()[number]["status"]["rollout"].get("analysis", [])


@pytest.mark.survives(
    "Deployments",
    "with traffic and a Prometheus: a generation passes two steps of a canary",
    "beside two pods one canary pod and then two answer their share of the requests, and the "
    "ReplicaSets of the target control its own pods only; then the generation is live and the "
    "canary is deleted; no request fails",
)
def test_a_generation_passes_the_steps_of_its_canary_and_no_request_fails(served, client):
    for step, canaries in enumerate((1, 2), start=1):
        at_step(served, 1, step)
        before = client.totals()["generations"]
        assert controllers(served) == {("live", UPDATE): 2, ("canary", CANARY): canaries}
        if step == 1:
            ready = first_ready(served)
        now = client.wait_for(more=5 * RATE)["generations"]
        answers = {name: now[name] - before.get(name, 0) for name in now}
        share, of_pods = answers["1"] / sum(answers.values()), canaries / (2 + canaries)
        print(f"canary: {of_pods:.0%} of the pods, {share:.0%} of {sum(answers.values())} answers")
        assert abs(share - of_pods) < 0.25

    served.goes_live(1)
    owner.wait_until_served(served, 1)
    totals = client.answered_only_by(1, of=RATE)

    assert totals["failures"] == []
    assert set(totals["generations"]) == {"0", "1"}
    assert node_cache.sources(served, 1) == {"cache"}  # a canary pod had copied it to the node
    assert [one["metadata"]["name"] for one in served.get("deployments")["items"]] == [UPDATE]
    passed = {one["metric"] for one in samples(served, 1) if one["verdict"] == "Pass"}
    assert passed == {"failed-requests", "latency-p99"}
    decided = epoch(served.generations()[1]["status"]["verdictAt"])
    print(f"first canary pod ready: {ready - decided:.1f} s after the gate")
    print(f"probe -> served, less Jobs and steps: {served_after(served.generations()[1]):.1f} s")
    served.show("scale", owner.TARGET, "--replicas=1")  # the next rollouts need fewer pods


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
    client.answered_only_by(0, of=RATE)
    status = served.wait(lambda now: now["phase"] == "Pinned", what="the pin")
    assert status["live"]["number"] == 1

    served.edit({"rollout": {"pin": None}})
    owner.wait_until_served(served, 1)
    totals = client.answered_only_by(1, of=RATE)
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
    totals = client.answered_only_by(0, of=RATE)

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


@pytest.fixture
def only_canary(served):
    """A Service that selects canary pods only."""
    service = served.objects()["Service"]
    service["metadata"]["name"] = CANARY
    service["spec"]["selector"] = {"springtide.dev/role": "canary"}
    served.kubectl.apply([service])
    return CANARY


@pytest.mark.survives(
    "Deployments",
    "with traffic and a Prometheus: requests to a canary fail, and none of the live generation",
    "a ratio metric finds it and the canary is removed, with the requests of both as the reason; "
    "the pods of the target stay, no other request fails",
)
def test_a_generation_whose_requests_fail_only_as_a_canary_is_removed(served, client, only_canary):
    before = served.served()
    served.request("quarantine", "january")
    served.wait(lambda now: now["cursor"].get("quarantined") == ["2026-01"], what="the quarantine")
    served.edit({"rollout": canary_of([{"weight": 50, "duration": "5m"}])})
    served.deliver("2026-03.csv.gz", small_model.month("2026-03"))
    served.request("run", "march")
    at_step(served, 2, 1)

    with sending_refused_requests(served, RATE, service=only_canary):
        served.wait(
            lambda now: (
                now["lastRun"]["generation"] == f"{UPDATE}-g2"
                and now["lastRun"].get("outcome") == "RolledBack"
            ),
            what="the removal of the canary",
        )
    totals = client.answered_only_by(0, of=RATE)
    later = client.wait_for(more=3 * RATE)

    assert later["failures"] == []
    assert later["generations"]["2"] == totals["generations"]["2"]
    assert served.served() == before
    bad = served.generations()[2]["status"]
    assert (bad["outcome"], bad["verdict"]) == ("RolledBack", "Accepted")
    assert bad["rollout"]["rollbackReason"].startswith("metric failed-requests: ")
    seconds = totals["last"]["2"] - epoch(bad["rollout"]["rollbackStartedAt"])
    print(bad["rollout"]["rollbackReason"])
    print(f"last answer of generation 2: {seconds:.1f} s after the decision")


@pytest.mark.survives(
    "Deployments",
    "with traffic and a Prometheus: requests fail that did not fail before the promotion",
    "the metric fails in the bake and the generation is rolled back automatically, with values and "
    "bound as the reason; after `freezeAfter` of these in a row the update is frozen; no other "
    "request fails",
)
@pytest.mark.survives(
    "Rights",
    "a user without the verb approve approves a generation that waits, on a whole cluster",
    "403 that names user and verb, and the generation waits on; it goes live once an approver has "
    "approved it",
)
def test_a_generation_whose_requests_fail_after_its_promotion_is_rolled_back_in_its_bake(
    served, client
):
    before = served.served()["digest"]
    without = {"strategy": {"type": "RollingUpdate", "canary": None}}
    served.edit({"rollout": bake_of_refusals() | without, "gate": {"approval": "Manual"}})
    served.deliver("2026-04.csv.gz", small_model.month("2026-04"))
    served.request("run", "april")
    approve(served, f"{UPDATE}-g3")
    served.goes_live(3)
    owner.until(
        lambda: (
            {one["metric"] for one in samples(served, 3) if one["verdict"] == "Pass"}
            == {"error-rate", "latency-p99"}
        ),
        "a sample of each metric",
    )
    client.answered_only_by(3, of=RATE)

    with sending_refused_requests(served, RATE):
        served.wait(
            lambda now: (
                now["live"]["number"] == 0 and now["lastRun"].get("outcome") == "RolledBack"
            ),
            what="the rollback",
        )
    owner.wait_until_served(served, 0)
    totals = client.answered_only_by(0, of=RATE)

    assert totals["failures"] == []
    assert served.served()["digest"] == before
    why = served.generations()[3]["status"]["rollout"]["rollbackReason"]
    assert "metric error-rate is outside its bounds (max 0.2) in 2 samples in a row" in why
    served.wait(lambda now: now["phase"] == "Frozen", what="the freeze after the third rollback")
    needed = owner.condition(served.update(), "ActionRequired")
    assert (needed["status"], needed["reason"]) == ("True", "Frozen")
    assert "unfreeze@<token>" in needed["message"]
    served.request("unfreeze", "repaired")
    held = served.wait(lambda now: now["phase"] == "OnHold", what="the hold that is left")
    assert "trainedThrough" not in held["cursor"]
    trained = served.generations()[3]["spec"]["data"]["partitions"]
    assert held["cursor"]["proposedForQuarantine"] == trained == ["2026-02", "2026-03"]
    served.request("quarantine", "april")
    left_out = ["2026-01", *trained]
    served.wait(lambda now: now["cursor"]["quarantined"] == left_out, what="the quarantine")
