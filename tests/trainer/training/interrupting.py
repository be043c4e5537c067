"""A training that is interrupted and resumed, beside one that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from springtide_trainer.errors import Interrupted
from springtide_trainer.training import fit

if TYPE_CHECKING:
    from trainer.training.conftest import World

    from springtide_api.contract import TrainOutput

STEP = 11


def whole_and_resumed(
    world: World, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[TrainOutput, TrainOutput]:
    """Train at a stretch, and with an interruption after step 11; return both outputs."""
    undisturbed = world.train(world.run_file("whole", **options))
    for path in world.home.checkpoints(1).iterdir():
        path.rename(world.home.path / path.name)

    def interrupted(stops: object, last: object) -> Any:
        return lambda step: fit.INTERRUPTED if step == STEP else None

    with monkeypatch.context() as patched:
        patched.setattr(fit, "_first_of", interrupted)
        with pytest.raises(Interrupted):
            world.train(world.run_file("cut", **options))
    return undisturbed, world.train(world.run_file("resumed", **options))
