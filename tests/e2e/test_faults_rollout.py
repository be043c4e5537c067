"""A live server while its update goes wrong: a generation that cannot serve, a deletion."""

import time

import pytest
from e2e import small_model
from e2e.small import MONTHS
from e2e.witnesses import asking, watching
from story.scene import UPDATE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ONLY_GENERATION_0 = """
case "$(cat /etc/pod/generation)" in
  ""|0) exec python -m springtide_server ;;
  *) echo "this server has no library for the new model" >&2; exit 1 ;;
esac
"""


@pytest.fixture(scope="module", autouse=True)
def begun(small):
    """Both scenes go their way side by side."""
    small("unready").begin(server=serves_generation_0_alone, months=MONTHS[:1])
    small("deleted").begin(change=trains_for_minutes)


def serves_generation_0_alone(deployment):
    (container,) = deployment["template"]["spec"]["containers"]
    container["command"] = ["sh", "-c", ONLY_GENERATION_0]


def trains_for_minutes(spec):
    options = spec["training"]["hyperparameters"]
    del options["epochs"]
    options["maxSteps"] = 100_000


def conditions(status):
    return {one["type"]: one for one in status["conditions"]}


@pytest.mark.survives(
    "People",
    "the update is deleted during training",
    "its Jobs and pods are gone within 30 s; the Deployment stays as it is, and no request fails",
)
def test_deleting_the_update_mid_training_leaves_no_pod_and_the_server_as_it_is(small):
    scene = small("deleted")
    scene.goes_live(0)
    deadline = time.monotonic() + 180
    while not scene.checkpoints(1):
        assert time.monotonic() < deadline, scene.update()
        time.sleep(0.5)
    before = scene.get(f"deployment/{UPDATE}")
    with asking(scene) as client:
        client.wait_for(more=5)
        assert [job["status"].get("active") for job in scene.jobs("train")] == [1]
        scene.show("delete", f"iu/{UPDATE}", "--wait=false")
        deadline = time.monotonic() + 30
        while left := scene.jobs() + scene.pods("train"):
            assert time.monotonic() < deadline, [one["metadata"]["name"] for one in left]
            time.sleep(0.5)
        client.wait_for(more=10)
        assert client.totals()["failures"] == []
    after = scene.get(f"deployment/{UPDATE}")
    assert scene.get(f"iu/{UPDATE}") == {}
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert sorted(scene.generations()) == [0, 1]
    scene.end()


@pytest.mark.survives(
    "Deployments",
    "the pods of a new generation crash and never become available",
    "goes back by itself after rollout.deadline; the Deployment never has fewer available pods than"
    " its strategy allows; no request fails; says which container ended how",
)
def test_a_generation_whose_pods_crash_goes_back_and_nobody_notices(small):
    scene = small("unready")
    scene.goes_live(0)
    before = scene.served()
    scene.edit({"rollout": {"deadline": "20s"}})
    scene.deliver("2026-02.csv.gz", small_model.month(MONTHS[1]))
    scene.request("run", "february")
    available = watching(scene, f"deployment/{UPDATE}", ".status.availableReplicas")
    with asking(scene) as client, available as counts:
        client.wait_for(more=10)
        status = scene.wait(
            lambda now: now["lastRun"].get("reason") == "RolledBack" and not now.get("candidate"),
            what="the way back from generation 1",
        )
        client.wait_for(more=10)
        totals = client.totals()
        assert set(counts()) == {"2"}
    assert (totals["failed"], set(totals["generations"])) == (0, {"0"}), totals
    served = scene.served()
    assert (served["digest"], served["pods"]) == (before["digest"], before["pods"])
    refused = scene.generations()[1]["status"]
    assert (refused["verdict"], refused["phase"]) == ("Blessed", "RolledBack")
    for words in (
        "0 of 2 new pods available",
        "container server ended with code 1: this server has no library for the new model",
        "after 20s (rollout.deadline)",
    ):
        assert words in refused["rollout"]["abortReason"]
    assert status["live"]["number"] == 0
    accepted = conditions(status)["LastCandidateAccepted"]
    assert accepted["status"] == "False"
    assert "rollout.deadline" in accepted["message"]
