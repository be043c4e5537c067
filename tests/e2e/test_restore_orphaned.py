"""Updates that are deleted and applied again from Git, with clients on their server."""

from contextlib import contextmanager

import pytest
from demo.cluster import SYSTEM
from demo.example import UPDATE
from e2e import owner, small_model
from e2e.monitors import sending_requests
from e2e.owner import TARGET

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1800)]

LATE = 400.0


def trains(example, number):
    example.wait(lambda _: example.checkpoints(number), what=f"training of {number}", seconds=LATE)


def rolls(example, number):
    def reached(now):
        rolling = now["phase"] == "RollingOut" and now["candidate"]["number"] == number
        return (
            rolling
            and owner.served_variables(example, number).items() <= owner.variables(example).items()
        )

    return example.wait(reached, what=f"the roll of {number}", seconds=LATE)


@pytest.mark.survives(
    "People",
    "with traffic: every update is deleted and applied again, and a month arrives",
    "adopted with live, previous and cursor; no pod restarts, the month is trained on from the "
    "live weights under the next number",
)
@pytest.mark.survives(
    "People",
    "with traffic: every update is deleted with --cascade=orphan during training, and applied "
    "again",
    "no pod of the server restarts; the run is given up, its pod ends, its rows are trained on "
    "under the next number and that generation is promoted",
)
def test_served_pods_do_not_change_while_updates_are_restored(small):
    example = small("restored")
    example.begin()
    example.goes_live(1, seconds=LATE)
    owner.wait_until_served(example, 1)
    before, status, uid = example.served(), example.update(), owner.uid(example)
    with sending_requests(example) as client:
        earlier = client.answered_only_by(1, of=5)["generations"].get("0", 0)
        owner.delete_updates(example)
        now = owner.apply_again(example, uid)
        assert now["live"] == status["live"]
        assert now["previous"] == status["previous"]
        assert now["cursor"]["trainedThrough"] == status["cursor"]["trainedThrough"]
        assert example.served() == before

        example.deliver("2026-03.csv.gz", small_model.month("2026-03"))
        trains(example, 2)
        uid = owner.uid(example)
        owner.delete_updates(example, "--cascade=orphan")
        now = owner.apply_again(example, uid)
        assert now["live"] == status["live"]
        given_up = example.generations()[2]
        outcome = [given_up["status"][name] for name in ("verdict", "reason")]
        assert outcome == ["Failed", "Orphaned"]
        owner.until(lambda: not of_generation(example, 2), "the end of the orphaned Job")
        assert example.served() == before
        example.goes_live(3, seconds=LATE)
        owner.wait_until_served(example, 3)
        again = example.generations()[3]["spec"]
        assert again["parent"]["name"] == f"{UPDATE}-g1"
        assert again["data"]["digest"] == given_up["spec"]["data"]["digest"]
        client.wait_for(more=10)
        totals = client.totals()
    assert totals["failures"] == []
    assert totals["generations"].get("0", 0) == earlier
    assert {"1", "3"} <= set(totals["generations"]) <= {"0", "1", "3"}


def of_generation(example, number):
    """The Jobs and pods of a generation that was given up."""
    wanted = f"--selector=springtide.dev/generation={number},springtide.dev/stage"
    return example.get("jobs,pods", wanted).get("items", [])


@contextmanager
def without_operator(example):
    """Scale the operator to zero during the block."""
    place = (f"--namespace={SYSTEM}", "deployment/springtide")
    example.kubectl("scale", *place, "--replicas=0")
    chosen = "--selector=app.kubernetes.io/name=springtide"
    example.kubectl("wait", "pod", chosen, place[0], "--for=delete", "--timeout=60s")
    try:
        yield
    finally:
        example.kubectl("scale", *place, "--replicas=1")


@pytest.mark.survives(
    "People",
    "with traffic: the updates are lost during a rollout, while the operator is down, and "
    "applied again",
    "the rollout finishes under its recorded deadline, and none of its pods restarts",
)
@pytest.mark.survives(
    "People",
    "with traffic: every update is deleted with --cascade=orphan during a rollout, and applied "
    "again",
    "the rollout is rolled back before the update is gone; the restored update keeps the live "
    "generation, and the next month is trained on and promoted; no request fails",
)
def test_a_rollout_continues_without_its_update_or_is_rolled_back(small):
    example = small("mid-roll")
    example.begin()
    example.goes_live(0)
    with sending_requests(example) as client:
        rolls(example, 1)
        uid = owner.uid(example)
        with without_operator(example):
            deadline = example.generations()[1]["status"]["rollout"]["deadline"]
            example.patch(f"iu/{UPDATE}", {"metadata": {"finalizers": None}})
            owner.delete_updates(example)
            example.kubectl.apply([example.objects()["IncrementalUpdate"]])
            example.show("rollout", "status", TARGET, "--timeout=120s")
            before = example.served()
        owner.adopted(example, uid)
        example.goes_live(1)
        assert example.generations()[1]["status"]["rollout"]["deadline"] == deadline
        assert example.served() == before

        example.deliver("2026-03.csv.gz", small_model.month("2026-03"))
        rolls(example, 2)
        uid = owner.uid(example)
        owner.delete_updates(example, "--cascade=orphan")
        assert example.served()["digest"] == before["digest"]
        now = owner.apply_again(example, uid)
        assert now["live"]["number"] == 1
        taken_back = example.generations()[2]["status"]["rollout"]
        assert "deleted during the rollout" in taken_back["rollbackReason"]
        example.deliver("2026-04.csv.gz", small_model.month("2026-04"))
        example.goes_live(3, seconds=LATE)
        owner.wait_until_served(example, 3)
        client.wait_for(more=10)
        totals = client.totals()
    assert totals["failures"] == []
    assert {"0", "1", "3"} <= set(totals["generations"])
