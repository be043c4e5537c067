"""Losses within a margin must not add up from generation to generation: judging.md, Verdicts 6."""

from __future__ import annotations

from datetime import UTC, datetime

from lifecycle.declared import SPEC
from lifecycle.world import MONTHS, World

AFTER_ALL_MONTHS = datetime(2027, 2, 1, tzinfo=UTC)
START, STEP = 0.80, 0.008
FLOOR, NOT_WORSE = SPEC["gate"]["rules"]
LASTING = {"name": "lasting", "metric": "auc", "maxCumulativeRegression": {"absolute": "0.03"}}
"""A margin of 0.01 for each generation, and of 0.03 for all of them together."""


def declared(*rules: dict, **more: object) -> World:
    spec = SPEC | {"gate": {"rules": [FLOOR, NOT_WORSE, *rules]}} | more
    world = World(spec=spec, now=AFTER_ALL_MONTHS)
    world.error = 0.0005
    world.settle()
    return world


def month(world: World, change: float) -> None:
    """Add a month whose holdout shows a candidate better than live by this much."""
    name = MONTHS[len(world.months)]
    live = world.update.status.live
    digest = live.digest if live else None
    quality = world.qualities.get(digest, START)
    world.aucs[name] = (START if live is None else quality + change, quality)
    world.months.append(name)
    world.rounds(6)


def quality_of_live(world: World) -> float:
    return world.qualities[world.update.status.live.digest]


def started(world: World) -> World:
    month(world, 0.0)
    month(world, 0.0)
    assert quality_of_live(world) == START
    return world


def test_without_a_cumulative_rule_twenty_small_losses_all_pass() -> None:
    world = started(declared())
    for _ in range(20):
        month(world, -STEP)
    assert quality_of_live(world) < START - 19 * STEP


def test_twenty_generations_at_four_fifths_of_the_margin_do_not_all_pass() -> None:
    world = started(declared(LASTING))
    for _ in range(20):
        month(world, -STEP)
        assert quality_of_live(world) > START - 0.03
    rejected = [g for g in world.generations.values() if g.status.verdict == "Rejected"]
    assert rejected
    assert all(g.spec.reference.name == "shop-g1" for g in rejected)
    assert "lasting: auc regressed by 0.0320 against the reference" in rejected[0].status.message


def test_the_reference_is_the_last_generation_that_was_proven_better() -> None:
    world = started(declared(LASTING))
    month(world, +0.05)
    month(world, -STEP)
    month(world, -STEP)
    names = {number: world.generation(number).spec.reference for number in (1, 2, 3, 4)}
    assert names[1] is None, "there is nothing to compare the first one with"
    assert [names[number].name for number in (2, 3, 4)] == ["shop-g1", "shop-g2", "shop-g2"]


def test_a_pinned_reference_stays_whatever_is_promoted() -> None:
    world = started(declared(LASTING, evaluation={"reference": {"generation": 1}}))
    month(world, +0.05)
    month(world, -STEP)
    assert world.generation(3).spec.reference.name == "shop-g1"


def test_a_pinned_reference_that_was_never_promoted_decides_nothing() -> None:
    world = started(declared(LASTING, evaluation={"reference": {"generation": 77}}))
    month(world, +0.05)
    second = world.generation(2)
    assert second.spec.reference is None
    assert second.status.verdict == "Inconclusive"
    assert "no value of auc for the comparison with the reference" in second.status.message


def test_the_reference_is_kept_beyond_the_history() -> None:
    world = started(declared(LASTING, history={"generations": 1}))
    for _ in range(3):
        month(world, -0.001)
    assert world.update.status.live.number == 4
    assert "shop-g1" in world.generations
    assert "shop-g2" not in world.generations


def test_a_result_of_another_reference_is_foreign() -> None:
    world = started(declared(LASTING))
    world.spoil_next_result = "another reference"
    month(world, +0.05)
    assert world.generation(2).status.reason == "ResultMismatch"
