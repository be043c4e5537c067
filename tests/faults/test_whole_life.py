"""The lifecycle of an update on a real API server, undisturbed."""

import asyncio
from collections import Counter

import pytest
from faults.life import IDENTITY, LIFE, play, world_of
from faults.playing import Recorder

pytestmark = pytest.mark.apiserver

MOST_OF_UPDATE = 8
MOST_OF_GENERATION = 12
MOST_JUDGED_TWICE = 16
"""Of a generation whose holdout was extended: held, released and judged a second time."""
REST_SECONDS = 20
PROGRESS_SECONDS = 12
"""What only the progress says is written so late."""


def written(writes, kind):
    """Count status writes by the name of the object."""
    return Counter(
        path.split("/")[-2]
        for _, path in writes
        if path.endswith("/status") and f"/{kind}/" in path
    )


@pytest.mark.survives(
    "At rest",
    "an update from the request for a run to the promotion, and the lifecycle of a generation",
    "at most 8 writes of the update's status for each run, and 12 of the generation's over its "
    "lifecycle; 16 for one that is on hold and evaluated twice; then none for 20 s",
)
async def test_an_update_runs_from_import_to_a_promoted_second_generation(ground):
    scene = await ground.scene()
    await scene.declare()
    recorder = Recorder()
    await scene.start(recorder)
    for act in LIFE:
        before = len(recorder.writes)
        await play(scene, [act])
        writes = recorder.writes[before:]
        assert written(writes, "incrementalupdates")["shop"] <= MOST_OF_UPDATE, act
    world = await world_of(scene)
    await asyncio.sleep(PROGRESS_SECONDS)
    at_rest = len(recorder.writes)
    await asyncio.sleep(REST_SECONDS)
    assert recorder.writes[at_rest:] == []
    of_generations = written(recorder.writes, "modelgenerations")
    assert of_generations.pop("shop-g4") <= MOST_JUDGED_TWICE
    assert max(of_generations.values()) <= MOST_OF_GENERATION
    ends_as_it_should(world)
    ran_and_reported_once(world)
    assert world["identities"] == [tuple(IDENTITY.values())]


def ends_as_it_should(world):
    """What is live, served and known of the data after the lifecycle."""
    generations = {name: each["status"] for name, each in world["generations"].items()}
    assert {name: each["verdict"] for name, each in generations.items()} == {
        "shop-g0": "Imported",
        "shop-g1": "Accepted",
        "shop-g2": "Accepted",
        "shop-g3": "Rejected",
        "shop-g4": "Accepted",
    }
    assert [name for name, each in generations.items() if each["phase"] == "Promoted"] == [
        "shop-g1",
        "shop-g2",
        "shop-g4",
    ]
    image = f"sha256:{'ab' * 32}"
    made = [each["spec"] for each in world["generations"].values()]
    assert {each["recipe"]["training"]["image"] for each in made} == {"trainer"}
    assert [each.get("imageDigest") for each in made] == [None, *[image] * 4]
    assert {each["training"]["imageDigest"] for each in generations.values()} == {image}
    update = world["update"]
    assert (update["live"]["name"], update["previous"]["name"]) == ("shop-g4", "shop-g2")
    assert update["cursor"]["trainedThrough"] == "2025-05-01T00:00:00Z"
    assert update["cursor"]["quarantined"] == ["2025-05", "2025-06"]
    assert update["counters"] == {
        "runs": 4,
        "promoted": 3,
        "rolledBack": 0,
        "rejected": 1,
        "failed": 0,
        "gpuSeconds": 0,
    }

    served = [generations[f"shop-g{number}"]["artifact"] for number in (1, 2, 4)]
    assert world["templates"] == [each["servedDigest"] for each in served]
    (container,) = world["template"]["spec"]["containers"]
    assert {each["name"]: each["value"] for each in container["env"]} == {
        "MODEL_URI": served[-1]["uri"],
        "MODEL_DIGEST": served[-1]["servedDigest"],
    }
    claims = 1  # its annotations count as a change of the Deployment, but not of its template
    assert world["revisions"] == 1 + claims + len(served)
    assert world["finalizers"] == []


def ran_and_reported_once(world):
    """One Job for each attempt, none left, and each Event as often as it happened."""
    assert world["jobs left"] == []
    runs = [name for name in world["jobs ever"] if "-probe-" not in name]
    assert runs == [
        "shop-<uid>-g0-import-1",
        "shop-<uid>-g1-evaluate-1",
        "shop-<uid>-g1-train-1",
        "shop-<uid>-g2-evaluate-1",
        "shop-<uid>-g2-train-1",
        "shop-<uid>-g3-evaluate-1",
        "shop-<uid>-g3-train-1",
        "shop-<uid>-g4-evaluate-1",
        "shop-<uid>-g4-evaluate-2",
        "shop-<uid>-g4-train-1",
    ]
    assert Counter(reason for _, reason, _ in world["events"]) == {
        "RequestAccepted": 6,
        "RunStarted": 4,
        "Trained": 5,
        "Accepted": 6,  # verdicts and promotions: on generation and update
        "Rejected": 2,
        "Inconclusive": 2,
        "PartitionMissing": 1,
        "HoldoutExtended": 1,
        "RollingOut": 3,
        "Promoted": 6,
    }


async def test_a_probe_without_a_window_leaves_no_job(ground):
    scene = await ground.scene()
    await scene.declare()
    await scene.start()
    await play(scene, LIFE[:1])
    await scene.ask("run@1")
    await scene.until(
        lambda scene: (scene.update_status.get("lastProbe") or {}).get("reason") == "NotEnoughData"
    )
    await scene.until(lambda scene: not scene.jobs(), seconds=10)
