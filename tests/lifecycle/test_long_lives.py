"""Many generations of one update: what each leaves for the next is kept as long as it is needed.

The histories of `test_invariants` are short and of any kind; these are long: a month, a run, and
now and then an edit, a rejection, a rollback or a quarantine.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from lifecycle.declared import SPEC
from lifecycle.invariants import Invariants
from lifecycle.world import MONTHS, World

METHODS = [
    {"type": "Full"},
    {"type": "LoRA", "lora": {}},
    {"type": "LoRA", "lora": {"continuation": "Continue"}},
    {"type": "LoRA", "lora": {"continuation": "Continue", "rank": 4}},
    {"type": "LoRA", "lora": {"continuation": "Continue", "rebaseEvery": 2}},
]
RETENTIONS = [
    {"retention": {"replay": {}}},
    {"retention": {"replay": {"ratio": "0.5"}}},
    {"retention": {"interpolation": {}}, "earlyStopping": {}},
    {},
]
AFTER_ALL_MONTHS = datetime(2027, 1, 1, 12, tzinfo=UTC)
GAIN, LOSS, SHUFFLED = (0.70, 0.60), (0.55, 0.66), (0.50, 0.50)


def a_training(rng: random.Random) -> dict[str, object]:
    method = rng.choice(METHODS)
    continuing = method.get("lora", {}).get("continuation") == "Continue"
    allowed = [one for one in RETENTIONS if not (continuing and "earlyStopping" in one)]
    return {"method": method, **rng.choices(allowed, [6, 2, 1, 1][: len(allowed)])[0]}


def a_month(world: World, rng: random.Random) -> None:
    """A month arrives, and its run ends in one of many ways."""
    if rng.random() < 0.25:
        world.edit(training=a_training(rng))
    world.aucs[world.next_month()] = rng.choices([GAIN, LOSS, SHUFFLED], [6, 1, 1])[0]
    world.months.append(world.next_month())
    world.pods_ready = rng.random() < 0.85
    world.rounds(10)
    world.pods_ready = True
    world.rounds(3)
    if world.update.status.phase == "OnHold" or rng.random() < 0.2:
        verb = rng.choice(["quarantine", "release", "retry", "reject"])
        world.ask(f"{verb}@{len(world.asked)}")
        world.rounds(6)
    if rng.random() < 0.1:
        world.recreate(cascade=rng.random() < 0.5)
        world.rounds(3)


@pytest.mark.parametrize("seed", range(8))
def test_what_a_generation_leaves_follows_the_lineage_through_a_long_life(seed: int) -> None:
    rng = random.Random(seed)
    spec = {**SPEC, "training": a_training(rng), "history": {"generations": 2, "rejected": 1}}
    world = World(spec=spec, now=AFTER_ALL_MONTHS)
    checks = Invariants(world)
    world.settle()
    for _ in MONTHS[:-2]:
        a_month(world, rng)
        checks.check_at_rest()
    assert len(world.generations) < world.update.status.live.number
