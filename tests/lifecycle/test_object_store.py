"""An update whose model, data and storage are in an object store."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lifecycle.declared import in_a_bucket
from lifecycle.world import MONTHS, World

from springtide_operator.lifecycle.jobs.stage import pods_outdated
from springtide_operator.lifecycle.state.recipe import recipe_hash

HOME = "s3://models/springtide/search/shop"


@pytest.fixture(scope="module")
def world() -> World:
    """After five promotions, of which two generations are kept."""
    world = World(spec=in_a_bucket(generations=2))
    world.now += timedelta(days=3)
    for count in range(2, 7):
        world.months = MONTHS[:count]
        world.rounds(10)
    return world


def test_generations_are_made_promoted_and_deleted_with_uris_of_the_store(world: World) -> None:
    live = world.generation(5)
    assert live.status.outcome == "Live"
    assert live.status.artifact.uri.startswith(f"{HOME}/artifacts/sha256-")
    assert live.spec.data.manifest.startswith(f"{HOME}/data/sha256-")
    assert live.status.evaluation.report.startswith(f"{HOME}/reports/")
    for start in world.runs.values():
        assert start.run.home == HOME
    trained = [start.run for start in world.runs.values() if start.run.train]
    assert {run.train.parent.uri.rpartition("/")[0] for run in trained} == {f"{HOME}/artifacts"}
    assert trained[0].train.checkpoints == f"{HOME}/checkpoints/g{trained[0].number}"


def test_what_is_deleted_is_named_by_uri(world: World) -> None:
    deleted = [
        path
        for start in world.runs.values()
        if start.run.collect
        for path in start.run.collect.delete
    ]
    rooms = {path.removeprefix(HOME).split("/")[1] for path in deleted}
    assert rooms == {"artifacts", "checkpoints", "reports"}  # the reserved rows are historical
    kept = {world.generation(number).status.artifact.uri for number in (4, 5)}
    assert world.storage.folders >= kept
    assert not {*deleted} & kept


@pytest.mark.parametrize("field", ["secret_name", "service_account_name"])
def test_another_identity_needs_other_pods_and_makes_no_other_recipe(
    world: World, field: str
) -> None:
    made = world.generation(5).spec.recipe
    changed = made.model_copy(update={"data": made.data.model_copy(update={field: "rotated"})})
    assert pods_outdated(changed, made)
    assert not pods_outdated(made, made)
    assert recipe_hash(changed) == recipe_hash(made)
