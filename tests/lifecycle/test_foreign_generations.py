"""A generation of another client is trained only as the operator would have created it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from lifecycle.declared import SPEC
from lifecycle.world import MONTHS, World, digest

from springtide_api.generation.continuation import Continuation
from springtide_operator.lifecycle.state.recipe import recipe
from springtide_operator.lifecycle.training.outdated_generation import outdated_reason

if TYPE_CHECKING:
    from springtide_api.generation.spec import GenerationSpec

TRAINING = {
    "method": {"type": "LoRA", "lora": {"continuation": "Continue"}},
    "retention": {"replay": {}},
}


HELD = {"retention": {"ewc": {"strength": "100"}}}


def after_two_generations(training: dict[str, Any] = TRAINING) -> World:
    world = World(spec={**SPEC, "training": training})
    for count in (2, 3):
        world.months = MONTHS[:count]
        world.rounds(10)
    return world


def of_the_next_run(world: World) -> GenerationSpec:
    """What the operator would create now."""
    copied, seen = world.generation(2).spec, world.seen()
    live = seen.lineage.live
    left = live.status.artifact
    origin = copied.parent.model_copy(
        update={"name": live.metadata.name, "digest": left.weights_digest}
    )
    window = copied.data.windows[0].model_copy(update={"from_": seen.lineage.cursor})
    taken = {"windows": [window], "buffer": left.buffer, "fisher": left.fisher}
    changes = {
        "number": 3,
        "parent": origin,
        "baseline": origin,
        "continuation": Continuation(adapter=left.adapter, message="continues"),
        "data": copied.data.model_copy(update=taken),
        "recipe": recipe(seen),
    }
    return copied.model_copy(update=changes)


def refusal_of(world: World, spec: GenerationSpec, **changes: Any) -> str:
    made = world.generation(2).model_copy(update={"spec": spec.model_copy(update=changes)})
    return outdated_reason(world.seen(), made, world.now)


@pytest.mark.parametrize("training", [TRAINING, HELD])
def test_a_generation_as_the_operator_would_create_it_is_trained(training) -> None:
    world = after_two_generations(training)
    assert refusal_of(world, of_the_next_run(world)) == ""


@pytest.mark.survives(
    "People",
    "another client creates a generation that continues other weights, or an adapter or a replay"
    " buffer of its own choice",
    "it fails as `SpecChanged` before anything is trained",
)
def test_a_generation_with_other_weights_adapter_or_buffer_than_those_of_live_is_not_trained():
    world = after_two_generations()
    spec, left = of_the_next_run(world), world.generation(2).status.artifact
    foreign = digest("foreign")

    parent = spec.parent.model_copy(update={"digest": foreign})
    assert refusal_of(world, spec, parent=parent) == "its parent is not shop-g2"
    adapter = left.adapter.model_copy(update={"digest": foreign})
    continued = Continuation(adapter=adapter, message="continues")
    assert refusal_of(world, spec, continuation=continued) == (
        f"its adapter is not {left.adapter.digest}"
    )
    buffer = left.buffer.model_copy(update={"digest": foreign})
    data = spec.data.model_copy(update={"buffer": buffer})
    assert refusal_of(world, spec, data=data) == f"its replay buffer is not {left.buffer.digest}"
    without = spec.data.model_copy(update={"buffer": None})
    assert refusal_of(world, spec, data=without) == (
        f"its replay buffer is not {left.buffer.digest}"
    )


@pytest.mark.survives(
    "People",
    "another client creates a generation that takes Fisher information of its own choice",
    "it fails as `SpecChanged` before anything is trained",
)
def test_a_generation_with_other_fisher_information_than_that_of_live_is_not_trained():
    world = after_two_generations(HELD)
    spec, left = of_the_next_run(world), world.generation(2).status.artifact.fisher
    for other in (digest("foreign"), None):
        data = spec.data.model_copy(update={"fisher": other})
        assert refusal_of(world, spec, data=data) == f"its Fisher information is not {left}"


def test_a_first_generation_that_continues_other_weights_than_the_import_is_not_trained() -> None:
    world = World(spec={**SPEC, "training": TRAINING})
    world.months = MONTHS[:2]
    while "shop-g1" not in world.generations:
        world.round(0)
    made = world.generation(1)
    parent = made.spec.parent.model_copy(update={"digest": digest("foreign")})
    spec = made.spec.model_copy(update={"parent": parent})
    assert outdated_reason(world.seen(), made, world.now) == ""
    assert outdated_reason(world.seen(), made.model_copy(update={"spec": spec}), world.now) == (
        "its parent is not shop-g0"
    )
