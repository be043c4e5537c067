"""The only node takes no pods for a while."""

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1200)]


@pytest.fixture
def cordoned(node_cluster):
    """Cordons and uncordons the node; uncordoned at the end whatever happened."""
    yield lambda on: node_cluster.kubectl("cordon" if on else "uncordon", "node")
    node_cluster.kubectl("uncordon", "node")


def asleep(deployment):
    deployment["replicas"] = 0


@pytest.mark.survives(
    "Jobs and pods",
    "every node is cordoned during a run",
    "what runs ends; the next stage waits and says that no node takes its pod; goes on by itself"
    " after the uncordon, without an attempt spent",
)
def test_a_run_waits_while_the_node_is_cordoned_and_goes_on_by_itself(small, cordoned):
    scene = small("cordoned")
    scene.begin(head=False, server=asleep)
    scene.wait(lambda _: scene.pods("import"), what="the pod of the import")
    cordoned(True)
    status = scene.wait(
        lambda now: "unschedulable" in now.get("progress", {}).get("waitingFor", ""),
        what="that the node takes no pods",
    )
    assert (status["phase"], scene.column("PROGRESS")) == ("Queued", "no node fits")
    cordoned(False)
    scene.wait(lambda _: scene.pods("train"), what="the pod of the training")
    cordoned(True)
    scene.wait(lambda now: now["phase"] == "Queued", what="an evaluation that waits")
    assert scene.column("PROGRESS").startswith("no node fits")
    cordoned(False)
    scene.wait(
        lambda _: scene.generations()[1]["status"].get("verdict") == "Bootstrapped",
        what="the verdict",
    )
    status = scene.generations()[1]["status"]
    assert [status[stage]["attempt"] for stage in ("training", "evaluation")] == [1, 1]
    assert [status[stage]["counted"] for stage in ("training", "evaluation")] == [0, 0]
