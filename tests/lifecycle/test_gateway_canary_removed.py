"""The end of a canary by Gateway before its promotion: requests return first, then pods go."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from lifecycle.canary_scenes import later
from lifecycle.declared import SPEC
from lifecycle.gateway_scenes import TARGET, rollout_of, route_record, started

from springtide_operator.lifecycle.state.plan import DeleteCanary

OTHER = [{"targetRef": {"name": "reranker"}, "container": "server"}]


def test_a_rejected_canary_loses_its_requests_at_once_and_its_pods_after_the_drain() -> None:
    world = started()
    deleted_at: list[tuple[int, ...]] = []

    def note(seen: object, action: object) -> None:
        if isinstance(action, DeleteCanary):
            deleted_at.append(world.weights())

    world.on_action = note
    world.ask("rollback.g2@1")
    world.settle()
    assert world.weights() == (100, 0)
    assert world.canaries
    assert not deleted_at
    assert world.plan.wake_after <= timedelta(seconds=15)
    world.now += timedelta(seconds=16)
    world.settle()
    assert not world.canaries
    assert deleted_at == [(100, 0)]
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.target.number == 1


def test_a_pin_restores_the_weights_and_the_steps_start_again_after_it() -> None:
    world = started()
    world.pin(1)
    later(world, 2)
    assert (world.weights(), world.canaries, rollout_of(world).step) == ((100, 0), {}, None)
    world.pin(None)
    later(world, 3)
    assert world.weights() == (90, 10)
    assert route_record(world).withdrawn_at is None


def test_a_pin_removed_before_the_canary_is_gone_continues_with_its_weight() -> None:
    world = started()
    world.pin(1)
    world.settle()
    assert world.weights() == (100, 0)
    world.pin(None)
    later(world, 2)
    assert world.weights() == (90, 10)
    assert rollout_of(world).weight_seen_at is not None


def test_a_deleted_update_takes_the_requests_from_its_canary_before_the_pods_go() -> None:
    world = started()
    world._meta(deletion_timestamp=world.now)
    world.settle()
    assert world.weights() == (100, 0)
    assert world.canaries
    assert world.update.metadata.finalizers
    later(world, 1)
    assert not world.canaries
    assert world.update.metadata.finalizers == ()


def test_a_strategy_without_steps_ends_the_canary_and_its_weight_goes_back() -> None:
    world = started()
    kept = {k: v for k, v in TARGET.items() if k not in {"service", "httpRoute"}}
    world.edit(rollout={"targets": [kept], "deadline": "10m"})
    later(world, 4)
    assert world.weights() == (100, 0)
    assert not world.canaries
    assert world.generation(2).status.outcome == "Live"


@pytest.mark.survives(
    "People",
    "a user deletes the ModelGeneration of a canary by Gateway, and removes the HTTPRoute or the "
    "target from the spec",
    "the canary's Deployment names its route: it gets weight 0, then its pods go",
)
@pytest.mark.parametrize("targets", [SPEC["rollout"]["targets"], OTHER], ids=["no route", "other"])
def test_a_canary_without_a_record_and_a_route_in_the_spec_loses_its_requests_first(
    targets: list[dict[str, Any]],
) -> None:
    world = started()
    world.create_target_of(OTHER[0])
    assert world.weights() == (90, 10)
    world.check.__self__.forget_generation("shop-g2")
    world.delete_generation("shop-g2")
    world.edit(rollout={"targets": targets, "deadline": "10m"})
    world.settle()
    assert world.weights() == (100, 0)
    assert world.canaries, "the gateway may not have followed yet"
    later(world, 1)
    assert not world.canaries
    assert world.update.metadata.finalizers == ()


def test_a_canary_whose_annotations_name_nothing_that_is_there_is_deleted() -> None:
    world = started()
    wrong = {"route": "No Route", "service": "-"}
    world.canaries["ranker-canary"] = replace(world.canaries["ranker-canary"], **wrong)
    world.check.__self__.forget_generation("shop-g2")
    world.delete_generation("shop-g2")
    world.edit(rollout=SPEC["rollout"])
    later(world, 1)
    assert not world.canaries
