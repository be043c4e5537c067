"""Adapters follow the lineage: continued from the live generation, with a base that is kept."""

from __future__ import annotations

from typing import Any

import pytest
from lifecycle.declared import SPEC
from lifecycle.lineage_scenes import (
    a_month_comes,
    deleted_paths,
    promote,
    reject_generation_two,
    roll_back_generation_three,
)
from lifecycle.world import MONTHS, World, digest

from springtide_api.generation.continuation import adapter_left
from springtide_operator.lifecycle.state.recipe import recipe, recipe_hash


def lora(**options: object) -> dict[str, Any]:
    return {"method": {"type": "LoRA", "lora": {"continuation": "Continue", **options}}}


def continuing(promotions: int, *, generations: int = 10, **options: object) -> World:
    history = {"generations": generations}
    world = World(spec={**SPEC, "training": lora(**options), "history": history})
    return promote(world, promotions)


def left_by(world: World, number: int):
    return world.generation(number).status.artifact.adapter


def taken_by(world: World, number: int):
    return world.generation(number).spec.continuation.adapter


def decided(world: World, number: int) -> str:
    return world.generation(number).spec.continuation.message


def method_of(world: World, number: int) -> str:
    return world.generation(number).spec.recipe.training.method.type


def collected(world: World) -> list[str]:
    return [path.rpartition("/")[2] for path in deleted_paths(world)]


def has(world: World, number: int) -> bool:
    return f"shop-g{number}" in world.generations


def folder(of: str) -> str:
    return of.replace(":", "-")


def test_a_promoted_generation_hands_its_adapter_to_the_next_run() -> None:
    world = continuing(3)
    base = world.generation(0).status.artifact.weights_digest

    assert taken_by(world, 1) is None
    assert decided(world, 1) == "starts a new adapter: shop-g0 left none"
    assert [taken_by(world, number) for number in (2, 3)] == [
        left_by(world, 1),
        left_by(world, 2),
    ]
    assert [left_by(world, number).generations for number in (1, 2, 3)] == [1, 2, 3]
    assert {left_by(world, number).base for number in (1, 2, 3)} == {base}
    assert decided(world, 3) == "continues the adapter of shop-g2, trained by 2 generations"
    (run,) = (s.run for s in world.runs.values() if s.run.stage == "train" and s.run.number == 3)
    assert run.train.adapter.digest == left_by(world, 2).digest
    assert run.train.adapter.uri == left_by(world, 2).uri
    assert run.train.adapter.base.digest == base
    assert run.train.adapter.base.uri == world.generation(0).status.artifact.uri
    assert run.train.parent.digest == world.generation(2).status.artifact.weights_digest


def test_the_report_of_an_evaluation_has_what_the_training_did_with_the_adapter() -> None:
    world = continuing(2)
    runs = [s.run for s in world.runs.values() if s.run.stage == "evaluate"]
    assert {run.evaluate.continuation for run in runs} == {decided(world, 1), decided(world, 2)}


def test_the_adapter_of_a_rejected_generation_is_not_continued() -> None:
    world = continuing(1)
    reject_generation_two(world)

    assert left_by(world, 2).generations == 2
    assert taken_by(world, 3) == left_by(world, 1)
    assert left_by(world, 3).generations == 2


def test_after_a_rollback_the_adapter_of_the_live_generation_is_continued() -> None:
    world = continuing(2)
    roll_back_generation_three(world)

    assert taken_by(world, 4) == left_by(world, 2) == taken_by(world, 3)
    assert left_by(world, 4).generations == 3


def test_after_enough_generations_of_an_adapter_a_full_update_starts_the_chain_again() -> None:
    world = continuing(6, rebaseEvery=2)
    methods = [method_of(world, number) for number in range(1, 7)]

    assert methods == ["LoRA", "LoRA", "Full", "LoRA", "LoRA", "Full"]
    assert decided(world, 3) == (
        "is a Full update instead of the adapter of shop-g2, trained by 2 generations"
        " (rebaseEvery 2)"
    )
    assert left_by(world, 3) is None
    assert decided(world, 4) == "starts a new adapter: shop-g3 left none"
    assert left_by(world, 4).base == world.generation(3).status.artifact.weights_digest
    assert left_by(world, 5).generations == 2


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({}, ["1e-3", "1e-3", "2e-5"]),
        ({"rebaseLearningRate": "5e-5"}, ["1e-3", "1e-3", "5e-5"]),
    ],
)
def test_a_full_update_has_a_learning_rate_of_its_own(options, rates) -> None:
    world = World(spec=SPEC)
    rate = {"hyperparameters": {"learningRate": "1e-3"}}
    world.edit(training={**lora(rebaseEvery=2, **options), **rate})
    for count in (2, 3, 4):
        a_month_comes(world, count)
    found = [world.generation(number).spec.recipe.training for number in (1, 2, 3)]
    assert [each.hyperparameters.learning_rate for each in found] == rates


def test_a_full_update_that_is_rejected_is_tried_again_and_replays_where_that_is_declared() -> None:
    world = continuing(2, rebaseEvery=2)
    replay = {"retention": {"replay": {}}}
    world.edit(training={**lora(rebaseEvery=2), **replay})
    world.aucs[MONTHS[3]] = (0.57, 0.60)
    a_month_comes(world, 4)
    assert world.generation(3).status.verdict == "Rejected"
    a_month_comes(world, 5)

    assert [method_of(world, number) for number in (3, 4)] == ["Full", "Full"]
    assert world.generation(4).spec.recipe.training.retention.replay is not None
    assert world.generation(4).status.outcome == "Live"


def test_a_rollback_of_a_full_update_leaves_it_due() -> None:
    world = continuing(2, rebaseEvery=2)
    roll_back_generation_three(world)

    assert method_of(world, 4) == "Full"


def test_an_adapter_with_other_options_is_not_continued_and_nothing_is_lost() -> None:
    world = continuing(2)
    hyper = {"hyperparameters": {"freeze": {"lowerLayers": 1}}}
    world.edit(training={**lora(rank=4), **hyper})
    a_month_comes(world, 4)

    assert taken_by(world, 3) is None
    assert decided(world, 3) == (
        "starts a new adapter, that of shop-g2 has other options: rank is 4, was 8, "
        "freeze.lowerLayers is 1, was 0"
    )
    assert left_by(world, 3).base == world.generation(2).status.artifact.weights_digest
    assert left_by(world, 3).generations == 1


def test_dropout_and_rebase_every_may_change_while_an_adapter_is_continued() -> None:
    world = continuing(1)
    world.edit(training=lora(dropout="0.1", rebaseEvery=5))
    a_month_comes(world, 3)
    assert taken_by(world, 2) == left_by(world, 1)


def test_a_method_that_leaves_no_adapter_ends_the_chain() -> None:
    world = continuing(1)
    world.edit(training={"method": {"type": "LoRA", "lora": {}}})
    a_month_comes(world, 3)
    assert world.generation(2).spec.continuation is None
    assert left_by(world, 2) is None
    world.edit(training=lora())
    a_month_comes(world, 4)
    assert decided(world, 3) == "starts a new adapter: shop-g2 left none"


def test_an_edit_while_a_run_is_in_progress_counts_for_the_next_one() -> None:
    world = continuing(1)
    world.months = MONTHS[:3]
    while "shop-g2" not in world.generations or not world.generation(2).status.training:
        world.round()
    world.edit(training={})
    world.rounds(10)
    assert taken_by(world, 2) == left_by(world, 1)
    assert world.generation(2).status.outcome == "Live"
    assert left_by(world, 2).generations == 2


def test_the_weights_of_a_base_are_deleted_with_the_last_adapter_that_belongs_to_them() -> None:
    world = continuing(5, generations=2, rebaseEvery=2)
    assert not has(world, 3)
    base = folder(left_by(world, 5).base)
    assert base not in collected(world)
    a_month_comes(world, 7)
    assert base not in collected(world)
    a_month_comes(world, 8)

    assert not has(world, 5)
    assert collected(world).count(base) == 1


def test_adapters_are_deleted_with_the_generations_that_left_them() -> None:
    world = continuing(2, generations=2)
    gone = folder(left_by(world, 1).digest)
    kept = folder(left_by(world, 2).digest)
    a_month_comes(world, 4)
    assert gone in collected(world)
    assert kept not in collected(world)


def test_a_base_that_is_still_served_elsewhere_is_kept_with_the_adapter_that_names_it() -> None:
    world = continuing(5, generations=2, rebaseEvery=2)
    base = left_by(world, 5).base
    world.digests_elsewhere = frozenset({base})
    for count in (7, 8):
        a_month_comes(world, count)
    assert has(world, 5)
    assert folder(base) not in collected(world)
    world.digests_elsewhere = frozenset()
    world.rounds(4)
    assert not has(world, 5)
    assert folder(base) in collected(world)


def test_the_live_weights_do_not_keep_the_generations_whose_adapters_belong_to_them() -> None:
    world = continuing(1)
    world.edit(history={"rejected": 1})
    for count in range(3, 9):
        world.aucs[MONTHS[count - 1]] = (0.55, 0.66)
        a_month_comes(world, count)
        world.ask(f"quarantine@{count}")
        world.rounds(6)
    world.aucs = {}
    world.ask("reject@hold")
    a_month_comes(world, 10)
    world.rounds(4)
    rejected = [g for g in world.generations.values() if g.status.verdict == "Rejected"]
    assert world.update.status.live.number > 1
    assert len(rejected) <= 1


def test_an_adapter_of_weights_that_a_generation_was_not_given_is_not_recorded() -> None:
    left = left_by(continuing(1), 1)

    def recorded(base: str):
        parent = digest("parent")
        return adapter_left(left.uri, left.digest, base, continued=left, parent=parent)

    assert recorded(digest("foreign")) is None
    assert recorded(digest("parent")).generations == 1
    assert recorded(left.base).generations == 2


def test_the_hash_of_a_recipe_has_the_method_that_is_used_and_not_when_a_full_update_is_due():
    def made(training: dict[str, Any]) -> str:
        world = World(spec={**SPEC, "training": training})
        return recipe_hash(recipe(world.seen()))

    plain = made({"method": {"type": "LoRA", "lora": {}}})
    assert made({"method": {"type": "LoRA", "lora": {"continuation": "Fresh"}}}) == plain
    assert made(lora()) != plain
    assert made(lora(rebaseEvery=2)) == made(lora(rebaseEvery=3, rebaseLearningRate="1e-5"))

    world = continuing(2, rebaseEvery=2)
    full = recipe(world.seen())
    assert (full.training.method.type, full.training.method.lora) == ("Full", None)
    assert recipe_hash(full) != world.generation(2).spec.recipe_hash


def test_without_continuation_nothing_about_it_is_in_spec_status_or_run_file() -> None:
    world = World()
    a_month_comes(world, 2)
    (run,) = (s.run for s in world.runs.values() if s.run.stage == "train")
    made = world.generation(1)

    assert "continuation" not in made.spec.plain()
    assert "adapter" not in made.status.artifact.plain()
    assert "adapter" not in run.train.plain()
