"""A run with every part that has a state is resumed bit-equal: all options at once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from trainer.training.conftest import LABELS, freeze, toy_rows
from trainer.training.test_replay_of_slices import in_seasons, later, sliced
from trainer.training.test_replay_of_tasks import run_of, trained, world_of

from springtide_trainer.data.snapshots import next_buffer

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import RunFile

REPLAY = {"ratio": "0.1", "rowsPerClass": 5, "rowsPerSlice": 9, "halfLife": "24h", "bufferRows": 70}
ALL: dict[str, Any] = {
    "hyperparameters": {
        "maxSteps": 10,
        "batchSize": 8,
        "gradientAccumulation": 2,
        "learningRate": "1e-3",
        "dropout": "0.1",
    },
    "earlyStopping": {"everySteps": 3, "patience": 9},
    "checkpoint": {"everySteps": 4, "keep": 9},
    "robustness": {
        "averaging": {"ema": "0.9"},
        "adversarial": {"epsilon": "0.5"},
        "augmentation": {"tokenDropout": "0.1", "wordSwap": "0.1"},
    },
}
CONTINUED = {"type": "LoRA", "lora": {"rank": 4, "dropout": "0.1", "continuation": "Continue"}}
FOCAL = {"labels": LABELS, "classification": {"loss": {"type": "Focal", "focal": {}}}}


@pytest.mark.survives(
    "Model",
    "a training with all options at once is killed after a checkpoint",
    "the next attempt leaves the same weights, adapter and buffer, and reports the same rows",
)
@pytest.mark.parametrize("adapters", [False, True], ids=["Full, interpolated", "LoRA, continued"])
def test_a_run_with_every_stateful_part_is_resumed_bit_equal(
    tmp_path: Path, monkeypatch, caplog, adapters
):
    method = {"method": CONTINUED} if adapters else {}
    more = {} if adapters else {"interpolation": {"alphas": ["1", "0.6"]}}
    world = world_of(tmp_path, FOCAL, in_seasons(toy_rows(120), "winter", "summer"))
    first = trained(world, sliced(run_of(world, "g1-train-1", **REPLAY)))
    world.data = freeze(world.home, later(in_seasons(toy_rows(100, 1), "summer"), 1))

    def run(job: str) -> RunFile:
        made = sliced(run_of(world, job, first.buffer, training={**ALL, **method}, **REPLAY))
        plain = made.model_dump(mode="json", by_alias=True, exclude_none=True)
        plain["recipe"]["training"]["retention"] |= {"distillation": {}} | more
        return type(made).model_validate(plain)

    whole = trained(world, run("g2-train-1"))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(next_buffer, "build", die)
        with pytest.raises(KeyboardInterrupt):
            world.train(run("g2-train-2"))
    kept, *newer = sorted(world.home.checkpoints(1).iterdir())
    assert kept.name == "step-000000004"
    for folder in newer:
        shutil.rmtree(folder)
    with caplog.at_level("INFO"):
        resumed = world.train(run("g2-train-3"))
    assert "resumed" in caplog.messages
    assert resumed.artifact.digest == whole.artifact.digest != first.artifact.digest
    assert (resumed.buffer, resumed.adapter) == (whole.buffer, whole.adapter)
    assert resumed.replay == whole.replay
    assert (whole.adapter is not None) == adapters
    assert ("alpha" in whole.metrics) != adapters
