"""The only node accepts no pods for a while."""

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1200)]


@pytest.fixture
def cordoned(node_cluster):
    """Cordons and uncordons the node; uncordoned at the end whatever happened."""
    yield lambda on: node_cluster.kubectl("cordon" if on else "uncordon", "node")
    node_cluster.kubectl("uncordon", "node")


def without_pods(deployment):
    deployment["replicas"] = 0


@pytest.mark.survives(
    "Jobs and pods",
    "every node is cordoned during a run",
    "the running stage finishes; the next stage waits and reports that no node takes its pod; "
    "continues after the uncordon, without a counted attempt",
)
def test_a_run_waits_while_the_node_is_cordoned_and_then_continues(small, cordoned):
    example = small("cordoned")
    example.begin(head=False, server=without_pods)
    example.wait(lambda _: example.pods("import"), what="the pod of the import")
    cordoned(True)
    status = example.wait(
        lambda now: "unschedulable" in now.get("progress", {}).get("waitingFor", ""),
        what="that the node takes no pods",
    )
    assert (status["phase"], example.column("PROGRESS")) == ("Queued", "no node fits")
    cordoned(False)
    example.wait(lambda _: example.pods("train"), what="the pod of the training")
    cordoned(True)
    example.wait(lambda now: now["phase"] == "Queued", what="an evaluation that waits")
    assert example.column("PROGRESS").startswith("no node fits")
    cordoned(False)
    example.wait(
        lambda _: example.generations()[1]["status"].get("verdict") == "Accepted",
        what="the verdict",
    )
    status = example.generations()[1]["status"]
    assert [status[stage]["attempt"] for stage in ("training", "evaluation")] == [1, 1]
    assert [status[stage]["failedAttempts"] for stage in ("training", "evaluation")] == [0, 0]
