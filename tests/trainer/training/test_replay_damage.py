"""A damaged replay buffer is refused, and none is left that nothing refers to."""

from __future__ import annotations

import pytest
from trainer.training.test_replay import run_of, trained

from springtide_trainer.data.snapshots import replay_buffer
from springtide_trainer.errors import Diverged, Refused
from springtide_trainer.stages import train as stage
from springtide_trainer.storage import local_path


@pytest.mark.survives(
    "Data",
    "a flipped bit anywhere in the rows of a replay buffer",
    "refused with the file and what to do, or the rows that are read are the same",
)
def test_a_flipped_bit_in_a_buffer_is_refused_or_changes_no_row(world):
    run = run_of(world, "g1-train-1")
    buffer = trained(world, run).buffer
    rows, file = (
        replay_buffer.read(buffer, run.recipe, []).table,
        local_path(buffer.uri) / replay_buffer.ROWS,
    )
    content = file.read_bytes()
    refused = 0
    for place in range(0, len(content), 5):
        flipped = bytes([content[place] ^ 1 << place % 8])
        file.write_bytes(content[:place] + flipped + content[place + 1 :])
        try:
            found = replay_buffer.read(buffer, run.recipe, []).table
        except Refused as damaged:
            assert damaged.failure.reason == "DigestMismatch"  # noqa: PT017
            refused += 1
        else:
            assert found == rows
    assert refused > 100


def test_a_training_whose_weights_are_not_finite_leaves_no_buffer(world, monkeypatch):
    def infinite(*_: object) -> None:
        raise Diverged(6, float("nan"))

    monkeypatch.setattr(stage, "check_tensors", infinite)
    with pytest.raises(Diverged):
        world.train(run_of(world, "g1-train-1"))
    assert not (world.home.path / "buffers").exists()
