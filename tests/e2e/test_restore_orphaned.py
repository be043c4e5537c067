"""Updates that are deleted and applied again as Git has them, while clients ask their server."""

from contextlib import contextmanager

import pytest
from e2e import owner, small_model
from e2e.owner import TARGET
from e2e.witnesses import asking
from story.place import SYSTEM
from story.scene import UPDATE

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1800)]

LATE = 400.0


def trains(scene, number):
    scene.wait(lambda _: scene.checkpoints(number), what=f"training of {number}", seconds=LATE)


def rolls(scene, number):
    def reached(now):
        rolling = now["phase"] == "RollingOut" and now["candidate"]["number"] == number
        return rolling and owner.carried(scene, number).items() <= owner.variables(scene).items()

    return scene.wait(reached, what=f"the roll of {number}", seconds=LATE)


@pytest.mark.survives(
    "People",
    "with clients on the server: every update is deleted and applied again, and a month arrives",
    "taken over with live, previous and cursor; no pod restarts, the month trains from live under"
    " the next number",
)
@pytest.mark.survives(
    "People",
    "with clients on the server: every update is deleted with --cascade=orphan in the middle of"
    " training, and applied again",
    "no pod of the server restarts; the run is given up, its pod ends, its rows are trained again"
    " under the next number and go live",
)
def test_production_does_not_move_while_its_updates_are_restored(small):
    scene = small("restored")
    scene.begin()
    scene.goes_live(1, seconds=LATE)
    owner.serves(scene, 1)
    before, told, uid = scene.served(), scene.update(), owner.uid(scene)
    with asking(scene) as client:
        owner.delete_updates(scene)
        now = owner.apply_again(scene, uid)
        assert now["live"] == told["live"]
        assert now["previous"] == told["previous"]
        assert now["cursor"]["trainedThrough"] == told["cursor"]["trainedThrough"]
        assert scene.served() == before

        scene.deliver("2026-03.csv.gz", small_model.month("2026-03"))
        trains(scene, 2)
        uid = owner.uid(scene)
        owner.delete_updates(scene, "--cascade=orphan")
        now = owner.apply_again(scene, uid)
        assert now["live"] == told["live"]
        given_up = scene.generations()[2]
        outcome = [given_up["status"][name] for name in ("verdict", "reason")]
        assert outcome == ["Failed", "Orphaned"]
        owner.until(lambda: not of_generation(scene, 2), "the end of the orphaned Job")
        assert scene.served() == before
        scene.goes_live(3, seconds=LATE)
        owner.serves(scene, 3)
        again = scene.generations()[3]["spec"]
        assert again["parent"]["name"] == f"{UPDATE}-g1"
        assert again["data"]["digest"] == given_up["spec"]["data"]["digest"]
        client.wait_for(more=10)
        totals = client.totals()
    assert totals["failures"] == []
    assert set(totals["generations"]) == {"1", "3"}


def of_generation(scene, number):
    """The Jobs and pods of a generation that was given up."""
    wanted = f"--selector=springtide.dev/generation={number},springtide.dev/stage"
    return scene.get("jobs,pods", wanted).get("items", [])


@contextmanager
def without_operator(scene):
    """Nobody works while the block runs."""
    place = (f"--namespace={SYSTEM}", "deployment/springtide")
    scene.kubectl("scale", *place, "--replicas=0")
    chosen = "--selector=app.kubernetes.io/name=springtide"
    scene.kubectl("wait", "pod", chosen, place[0], "--for=delete", "--timeout=60s")
    try:
        yield
    finally:
        scene.kubectl("scale", *place, "--replicas=1")


@pytest.mark.survives(
    "People",
    "with clients on the server: the updates are lost in the middle of a roll, while the operator"
    " is down, and applied again",
    "the roll goes on to its end under its recorded deadline, and no pod of it starts again",
)
@pytest.mark.survives(
    "People",
    "with clients on the server: every update is deleted with --cascade=orphan in the middle of a"
    " roll, and applied again",
    "the roll is taken back before the update goes; the restored one keeps live, and the next month"
    " trains and goes live; no request fails",
)
def test_a_roll_outlives_its_update_or_is_taken_back(small):
    scene = small("mid-roll")
    scene.begin()
    scene.goes_live(0)
    with asking(scene) as client:
        rolls(scene, 1)
        uid = owner.uid(scene)
        with without_operator(scene):
            deadline = scene.generations()[1]["status"]["rollout"]["deadline"]
            scene.patch(f"iu/{UPDATE}", {"metadata": {"finalizers": None}})
            owner.delete_updates(scene)
            scene.kubectl.apply([scene.objects()["IncrementalUpdate"]])
            scene.show("rollout", "status", TARGET, "--timeout=120s")
            before = scene.served()
        owner.adopted(scene, uid)
        scene.goes_live(1)
        assert scene.generations()[1]["status"]["rollout"]["deadline"] == deadline
        assert scene.served() == before

        scene.deliver("2026-03.csv.gz", small_model.month("2026-03"))
        rolls(scene, 2)
        uid = owner.uid(scene)
        owner.delete_updates(scene, "--cascade=orphan")
        assert scene.served()["digest"] == before["digest"]
        now = owner.apply_again(scene, uid)
        assert now["live"]["number"] == 1
        taken_back = scene.generations()[2]["status"]["rollout"]
        assert "deleted during the roll" in taken_back["abortReason"]
        scene.deliver("2026-04.csv.gz", small_model.month("2026-04"))
        scene.goes_live(3, seconds=LATE)
        owner.serves(scene, 3)
        client.wait_for(more=10)
        totals = client.totals()
    assert totals["failures"] == []
    assert {"0", "1", "3"} <= set(totals["generations"])
