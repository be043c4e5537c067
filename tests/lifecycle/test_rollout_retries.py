"""A rollout that failed for a cause that is not the generation's own is rolled out again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.invariants import Invariants
from lifecycle.world import World, with_generation_one


def failed(trouble: str = "image pull failed: registry/server:2 not found") -> World:
    """Generation 2 was not available by its deadline, for this reason."""
    world = with_generation_one()
    Invariants(world)
    world.edit(rollout={**world.spec["rollout"], "rollback": {"freezeAfter": 1}})
    world.months.append("2025-03")
    world.pods_ready = False
    while world.target.number != 2:
        world.round()
    world.target = replace(world.target, trouble=trouble)
    world.rounds(8)
    world.pods_ready, world.target = True, replace(world.target, trouble="")
    world.rounds(2)
    return world


@pytest.mark.survives(
    "Deployments",
    "a rollout fails because an image cannot be pulled, no node fits, a quota refuses the pods, or "
    "a Secret that their template names is missing",
    "outcome `RolloutFailed`: it does not count as rolled back, and `retry.g<number>` rolls it out "
    "again",
)
@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        ("image pull failed: registry/server:2 not found", "ImagePullFailed"),
        ("no node fits: 0/3 nodes are available", "Unschedulable"),
        ("node lost: node 10.0.0.3 reports nothing any more", "NodeLost"),
        ("no node has a free nvidia.com/gpu: 0/3 nodes", "Unschedulable"),
        ("quota exceeded: exceeded quota: team, requested: pods=1", "QuotaExceeded"),
        ("Pod Security refuses its pods: violates PodSecurity", "PodsForbidden"),
        ("its pods are refused: denied by policy", "PodsForbidden"),
        ('CreateContainerConfigError: secret "keys" not found', "ContainerNotCreated"),
        ("CreateContainerError: failed to prepare subPath", "ContainerNotCreated"),
    ],
)
def test_a_failed_rollout_is_repeated_by_request(trouble: str, cause: str) -> None:
    world = failed(trouble)
    second = world.generation(2).status
    assert (second.outcome, second.phase) == ("RolloutFailed", "RolloutFailed")
    assert second.rollout.failure == cause
    assert world.update.status.counters.rolled_back == 0
    assert world.seen().lineage.excluded == ()
    assert world.update.status.last_run.summary == "RolloutFailed g2"
    assert world.condition("LastRunSucceeded").reason == "RolloutFailed"
    assert world.update.status.phase != "Frozen"
    world.ask("retry.g2@1")
    world.rounds(4)
    assert world.update.status.last_request.message == "shop-g2 rolls out again"
    second = world.generation(2).status
    assert (second.outcome, second.rollout.rollback_reason) == ("Live", "")
    (attempt,) = second.rollout.attempts
    assert attempt.outcome == "RolloutFailed"
    assert trouble in attempt.reason
    assert world.update.status.live.number == 2


def test_pods_that_crash_are_the_generations_own_fault() -> None:
    world = failed("container server ended with code 1: cannot load")
    assert world.generation(2).status.outcome == "RolledBack"
    world.ask("retry.g2@1")
    world.rounds(1)
    last = world.update.status.last_request
    assert (last.result, last.message) == (
        "Refused",
        "the rollout of shop-g2 did not fail (status.outcome is RolledBack)",
    )


def test_a_crash_between_the_writes_of_the_request_gives_the_same_answer() -> None:
    world = failed()
    world.ask("retry.g2@1")
    world.crash_after(1)
    world.rounds(3)
    assert world.update.status.last_request.result == "Accepted"
    assert len(world.generation(2).status.rollout.attempts) == 1
    assert world.update.status.live.number == 2


def test_a_retry_is_refused_once_its_parent_is_no_longer_live() -> None:
    world = failed()
    world.months.append("2025-04")
    world.rounds(8)
    assert world.update.status.live.number == 3
    world.ask("retry.g2@1")
    world.rounds(1)
    assert world.update.status.last_request.message == "shop-g3 is live, which is not its parent"


def test_a_retry_is_refused_in_a_mode_that_would_retire_it() -> None:
    world = failed()
    world.edit(mode="Observe")
    world.ask("retry.g2@1")
    world.rounds(2)
    assert world.update.status.last_request.message == (
        "spec.mode is Observe, which would retire shop-g2; change it first"
    )
    world.edit(mode="Enforce")
    world.ask("retry.g2@2")
    world.rounds(4)
    assert world.update.status.live.number == 2
