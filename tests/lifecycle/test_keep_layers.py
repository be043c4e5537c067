"""model.keepLayers: what lost layers at its import is the parent of generation 1, never served."""

from __future__ import annotations

from lifecycle.declared import SPEC
from lifecycle.world import World

from springtide_operator.lifecycle.state.recipe import recipe, recipe_hash


def test_generation_0_without_some_layers_is_trained_before_anything_is_served():
    plain = World()
    plain.settle()
    world = World(spec={**SPEC, "model": {**SPEC["model"], "keepLayers": [0, 2]}}, seeded=True)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    status = world.generation(0).status
    assert status.reason == "SeededHead"
    assert status.message.startswith(
        "the layers of model.keepLayers were kept at import and it is untrained since"
    )
    assert recipe_hash(recipe(world.seen())) != recipe_hash(recipe(plain.seen()))
    first = world.generation(1).status
    assert first.outcome == "Live"
    assert world.served == [first.artifact.served_digest]
