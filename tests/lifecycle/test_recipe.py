"""The recipe of a run: defaults that depend on the task are resolved into it."""

import pytest
from lifecycle.world import with_generation_one

from springtide_operator.lifecycle.state.recipe import recipe


@pytest.mark.parametrize(
    ("task", "wanted", "resolved"),
    [
        ("Classification", {}, "log_loss"),
        ("Classification", {"metric": "auc"}, "auc"),
        ("Regression", {}, "rmse"),
        ("Regression", {"metric": "mae"}, "mae"),
    ],
)
def test_the_metric_of_early_stopping_follows_the_task(task, wanted, resolved) -> None:
    world = with_generation_one()
    world.edit(training={"earlyStopping": wanted}, model=world.spec["model"] | {"task": task})
    made = recipe(world.seen())
    assert made.training.early_stopping.metric == resolved
    world.edit(training={"earlyStopping": None})
    assert recipe(world.seen()).training.early_stopping is None
