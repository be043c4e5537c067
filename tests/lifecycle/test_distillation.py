"""What a training knows of the model whose outputs it learns."""

from __future__ import annotations

import pytest
from lifecycle.declared import SPEC
from lifecycle.world import MONTHS, World

DISTILLED = {**SPEC, "training": {"retention": {"distillation": {}}}}


@pytest.mark.parametrize("seeded", [True, False])
def test_a_training_knows_whether_the_head_of_its_parent_is_untrained(seeded):
    world = World(spec=DISTILLED, seeded=seeded)
    for count in (2, 3):
        world.months = MONTHS[:count]
        world.rounds(10)
    runs = {s.run.number: s.run for s in world.runs.values() if s.run.stage == "train"}

    assert [runs[number].train.seeded_head for number in (1, 2)] == [seeded, False]


def test_the_recipe_has_the_default_temperature_and_a_hash_of_its_own():
    plain, distilled = World(), World(spec=DISTILLED)
    for world in (plain, distilled):
        world.months = MONTHS[:2]
        world.rounds(10)
    one, other = (world.generation(1).spec for world in (plain, distilled))

    assert other.recipe.training.retention.distillation.plain() == {
        "weight": "1",
        "temperature": "2",
    }
    assert one.recipe_hash != other.recipe_hash
