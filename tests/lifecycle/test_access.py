"""A pod reaches its files by the Secret, the account and the claims that the spec names now."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from lifecycle.declared import SPEC, in_a_bucket
from lifecycle.world import MONTHS, World, with_generation_one

from springtide_operator.lifecycle.state.observed import ObservedPod
from springtide_operator.lifecycle.state.recipe import with_access

if TYPE_CHECKING:
    from springtide_operator.lifecycle.state.plan import StartJob

MISSING = 'CreateContainerConfigError: secret "object-store" not found'
NEW = {"secretName": "object-store-2", "serviceAccountName": "clicks-reader-2"}


def of(world: World, stage: str) -> str:
    """The name of the newest Job of a stage; rounds pass until there is one."""
    while not any(job.stage == stage for job in world.jobs.values()):
        world.complete_jobs()
        world.now += timedelta(minutes=2)
        world.settle()
    return max(name for name, job in world.jobs.items() if job.stage == stage)


def waits(world: World, name: str) -> None:
    """Let the pod of a Job wait for a Secret that was deleted."""
    pod = ObservedPod("pod", "uid", world.now, waiting=MISSING)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    world.settle()


def other_access(world: World) -> None:
    """Let the spec name another Secret and another service account."""
    world.edit(data={**world.spec["data"], **NEW})
    world.settle()


def reaches(start: StartJob) -> dict[str, str | None]:
    data = start.run.recipe.data
    return {"secretName": data.secret_name, "serviceAccountName": data.service_account_name}


def in_a_store(**history: int) -> World:
    world = World(spec=in_a_bucket(**history))
    world.now += timedelta(days=3)
    world.months = MONTHS[:2]
    return world


@pytest.mark.survives(
    "People",
    "the Secret of `data.secretName` is replaced by another one while a run is evaluated",
    "the pods of the evaluation get the new one, as those of each later stage",
)
@pytest.mark.parametrize("when", ["before its Job is created", "while its pod waits"])
def test_an_evaluation_gets_the_secret_and_the_account_that_the_spec_names_now(when: str) -> None:
    world = in_a_store()
    if when == "while its pod waits":
        waits(world, of(world, "evaluate"))
    else:
        world.begin(of(world, "train"))
        world.settle()
    other_access(world)
    start = world.runs[of(world, "evaluate")]
    assert reaches(start) == NEW
    made = world.generation(1)
    assert made.spec.recipe.data.secret_name == "object-store", "the snapshot stays as it was"
    world.rounds()
    assert world.generation(1).status.rollout.promoted_at


def test_a_training_that_ran_before_resumes_with_the_secret_that_the_spec_names_now() -> None:
    world = in_a_store()
    world.fail(of(world, "train"), 137, disrupted=True)
    world.settle()
    first = of(world, "train")
    waits(world, first)
    other_access(world)
    again = of(world, "train")
    assert again != first
    assert reaches(world.runs[again]) == NEW
    waits(world, again)
    assert again in world.jobs, "once is enough"
    status = world.generation(1).status
    assert (status.verdict, status.training.failed_attempts) == ("Pending", 0)


def test_a_candidate_that_waits_for_data_is_probed_for_with_the_secret_of_now() -> None:
    world = in_a_store()
    world.rounds(8)
    world.months.append("2025-03")
    world.aucs["2025-03"], world.error = (0.61, 0.60), 0.05
    world.rounds(8)
    assert world.generation(2).status.reason == "ExtendHoldout"
    other_access(world)
    world.rounds(3)
    probe = [start for start in world.runs.values() if start.run.stage == "probe"][-1]
    assert reaches(probe) == NEW


@pytest.mark.survives(
    "People",
    "the Secret of `data.secretName` is replaced, and the old one deleted",
    "files of generations that were made with the old one are deleted with the new one",
)
def test_files_of_an_old_generation_are_deleted_with_the_secret_of_now() -> None:
    world = in_a_store(generations=2)
    world.rounds(10)
    other_access(world)
    for count in range(3, 7):
        world.months = MONTHS[:count]
        world.rounds(10)
    collected = [start for start in world.runs.values() if start.run.stage == "collect"]
    assert 1 in {start.run.number for start in collected}, "it was made with the old one"
    assert [reaches(start) for start in collected] == [NEW] * len(collected)


def test_files_of_an_old_generation_are_deleted_in_the_claim_of_now_and_without_the_data() -> None:
    world = with_generation_one()
    moved = {"claimName": "models-2"}
    volume = {"claimName": "clicks-2", "mountPath": "/clicks"}
    source = {**SPEC["data"]["source"], "uri": "file:///clicks"}
    data = {**SPEC["data"], "source": source, "volume": volume}
    storage = {**SPEC["storage"], "volume": moved}
    world.edit(data=data, storage=storage, history={"generations": 2})
    for month in ("2025-03", "2025-04"):
        world.months.append(month)
        world.rounds(10)
    collected = [start.run.recipe for start in world.runs.values() if start.run.collect]
    assert collected
    for recipe in collected:
        assert recipe.storage.volume.claim_name == "models-2"
        assert recipe.data.volume is None


def test_a_storage_at_another_uri_is_reached_as_it_was_then() -> None:
    world = with_generation_one()
    made = world.generation(1).spec.recipe
    world.edit(storage={**SPEC["storage"], "uri": "file:///elsewhere"})
    assert with_access(world.seen(), made) == made


@pytest.mark.parametrize(
    ("path", "folder", "claim"),
    [("/data", "clicks", "clicks-2"), ("/data", "views", "data"), ("/clicks", "clicks", "data")],
)
def test_the_claim_of_the_data_is_replaced_where_path_and_source_are_the_same(
    path: str, folder: str, claim: str
) -> None:
    world = with_generation_one()
    made = world.generation(1).spec.recipe
    volume = {"claimName": "clicks-2", "mountPath": path}
    source = {**SPEC["data"]["source"], "uri": f"file://{path}/{folder}"}
    world.edit(data={**SPEC["data"], "volume": volume, "source": source})
    assert with_access(world.seen(), made).data.volume.claim_name == claim
