"""What no generation names is deleted in the storage with the next generation that is deleted."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from lifecycle.declared import SPEC
from lifecycle.invariants import Invariants
from lifecycle.test_long_lives import AFTER_ALL_MONTHS, a_month, a_training
from lifecycle.world import MONTHS, World, digest

from springtide_operator.lifecycle.maintenance import unreferenced as module
from springtide_operator.lifecycle.maintenance.unreferenced import unreferenced

if TYPE_CHECKING:
    from springtide_api.contract import Unreferenced

CONTINUING = {
    "method": {"type": "LoRA", "lora": {"continuation": "Continue"}},
    "retention": {"replay": {}},
}

FAILED = digest("weights of a failed training")


def living(promotions: int, **history: int) -> World:
    world = World(spec={**SPEC, "training": CONTINUING, "history": history})
    world.now += timedelta(days=3)
    for count in range(2, promotions + 2):
        a_month_comes(world, count)
    return world


def a_month_comes(world: World, count: int) -> None:
    world.months = MONTHS[:count]
    world.rounds(10)


def asked_last(world: World) -> Unreferenced:
    asked = [s.run.collect.unreferenced for s in world.runs.values() if s.run.collect]
    return asked[-1]


def names(world: World, number: int) -> set[str]:
    left = world.generation(number).status.artifact
    return {left.weights_digest, left.buffer.digest, left.adapter.digest, left.adapter.base}


def test_all_that_the_remaining_generations_name_is_kept_and_what_was_just_written_too() -> None:
    world = living(5, generations=2)
    asked = asked_last(world)
    assert names(world, 4) | names(world, 5) <= {*asked.kept}
    assert world.generation(0).status.artifact.weights_digest in asked.kept
    assert asked.since == world.update.metadata.creation_timestamp
    assert timedelta(days=7) <= world.now - asked.until < timedelta(days=7, hours=2)


def test_what_a_failed_training_left_is_not_kept() -> None:
    world = living(1, generations=2, rejected=0)
    world.edit(training={**CONTINUING, "limits": {"maxAttempts": 1}})
    places = [f"artifacts/{FAILED}", f"artifacts/{digest('adapter')}", f"buffers/{digest('b')}"]
    left = [f"file:///models/search/shop/{place.replace(':', '-')}" for place in places]
    world.months = MONTHS[:3]
    while not any("-g2-train-1" in name for name in world.jobs):
        world.round()
    world.fail(next(name for name in world.jobs if "-g2-train-1" in name), 1)
    world.storage.write(world.now, *left)
    world.rounds(4)
    assert world.generation(2).status.verdict == "Failed"
    world.now += timedelta(days=6)
    for count in range(4, 7):
        a_month_comes(world, count)
    assert world.storage.folders >= {*left}
    world.now += timedelta(days=1)
    a_month_comes(world, 7)
    assert not world.storage.folders & {*left}
    kept = [world.generation(number).status.artifact for number in (5, 6)]
    assert {one.uri for one in kept} | {one.buffer.uri for one in kept} <= world.storage.folders


def test_a_buffer_is_kept_while_one_of_the_generations_that_share_it_is_there() -> None:
    world = living(3, generations=2)
    shared = world.generation(2).status.artifact.buffer
    third = world.generation(3)
    artifact = third.status.artifact.model_copy(update={"buffer": shared})
    status = third.status.model_copy(update={"artifact": artifact})
    world.generations["shop-g3"] = third.model_copy(update={"status": status})
    a_month_comes(world, 5)
    assert "shop-g2" not in world.generations
    assert shared.digest in asked_last(world).kept


def test_what_a_run_in_progress_reads_is_kept_even_if_a_user_deletes_its_parent() -> None:
    world = living(2)
    world.months = MONTHS[:4]
    while "shop-g3" not in world.generations:
        world.round()
    running, parent = world.generation(3), world.generation(2)
    read = names(world, 2)
    del world.generations["shop-g2"]
    first = world.generation(1)
    asked = unreferenced(world.seen(), first, world.now)
    assert asked is not None
    assert running.spec.parent.digest == parent.status.artifact.weights_digest
    assert read <= {*asked.kept}


def test_what_a_deleted_generation_left_is_not_kept_unless_it_is_served_or_the_initial_model():
    world = living(3)
    mine = names(world, 2) - names(world, 1) - names(world, 3)
    del world.generations["shop-g2"]
    first, weights = world.generation(1), mine - {None}

    def kept() -> set[str]:
        asked = unreferenced(world.seen(), first, world.now)
        assert asked is not None
        return {*asked.kept}

    assert len(weights) == 3
    assert not mine & kept()
    served = sorted(mine)[0]
    world.digests_elsewhere = frozenset({served})
    assert mine & kept() == {served}
    world.digests_elsewhere = frozenset()
    uri = f"file:///models/search/shop/artifacts/{served.replace(':', '-')}"
    initial = world.update.spec.model.initial.model_copy(update={"uri": uri})
    model = world.update.spec.model.model_copy(update={"initial": initial})
    spec = world.update.spec.model_copy(update={"model": model})
    world.update = world.update.model_copy(update={"spec": spec})
    assert mine & kept() == {served}


def test_a_recreated_update_leaves_what_was_written_before_it() -> None:
    world = living(3, generations=2)
    world.now += timedelta(days=5)
    world.recreate()
    created = world.now
    for count in range(5, 7):
        a_month_comes(world, count)
    assert asked_last(world).since == created


def test_values_of_a_newer_version_keep_everything() -> None:
    world = living(2)
    second = world.generation(2)
    status: Any = second.status.model_copy(update={"outcome": "Promoted"})
    world.generations["shop-g2"] = second.model_copy(update={"status": status})
    assert unreferenced(world.seen(), world.generation(1), world.now) is None


@pytest.mark.parametrize("seed", range(4))
def test_only_what_nothing_names_is_deleted_through_a_long_life(seed: int, monkeypatch) -> None:
    monkeypatch.setattr(module, "RETENTION", timedelta(minutes=30))
    rng = random.Random(seed)
    spec = {**SPEC, "training": a_training(rng), "history": {"generations": 2, "rejected": 1}}
    world = World(spec=spec, now=AFTER_ALL_MONTHS)
    checks = Invariants(world)
    world.settle()
    left: dict[str, int] = {}
    for month in range(16):
        a_month(world, rng)
        checks.check_at_rest()
        uri = f"file:///models/search/shop/buffers/{digest(f'{month}').replace(':', '-')}"
        left[uri] = month
        world.storage.write(world.now, uri)
    found = [month for uri, month in left.items() if uri not in world.storage.folders]
    assert len(found) > 4
