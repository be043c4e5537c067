"""A checkpoint is only used if it is complete and belongs to the run."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Refused
from springtide_trainer.training.checkpoints import Checkpoints, State

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    (tmp_path / "scratch").mkdir()
    return Checkpoints(
        folder=tmp_path / "g1",
        scratch=tmp_path / "scratch",
        identity={"data": "sha256:1"},
        environment={"threads": 1},
        keep=2,
    )


def state(step: int) -> State:
    return State(step, {"weight/a": torch.full((3,), float(step))}, {"scaler": {}})


def test_the_newest_checkpoint_is_restored_bit_equal(checkpoints):
    odd = torch.tensor([0.1, -0.0, 1e-42, float("inf")])
    checkpoints.save(State(7, {"weight/a": odd}, {"moments": {"0": {"step": 3, "rms": 0.1}}}))
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 7
    assert found.tensors["weight/a"].numpy().tobytes() == odd.numpy().tobytes()
    assert found.numbers == {"moments": {"0": {"step": 3, "rms": 0.1}}}


UNREADABLE = {
    "an object store that does not answer": Refused(
        "StorageUnavailable", "no answer", code=ExitCode.ENVIRONMENT
    ),
    "a disk with an error": OSError(errno.EIO, "Input/output error"),
    "a full disk of the pod": OSError(errno.ENOSPC, "No space left on device"),
}


@pytest.mark.survives(
    "Model",
    "the storage cannot be read when a training looks for its checkpoint",
    "the attempt fails and is repeated; the checkpoint stays",
)
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_checkpoint_that_cannot_be_read_now_stays(checkpoints, monkeypatch, name):
    checkpoints.save(state(10))

    def fail(_: object) -> None:
        raise UNREADABLE[name]

    with monkeypatch.context() as patched:
        patched.setattr("springtide_trainer.training.checkpoints.local_path", fail)
        with pytest.raises(type(UNREADABLE[name])):
            checkpoints.newest()
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 10


def test_only_the_newest_checkpoints_are_kept(checkpoints):
    for step in (10, 20, 1000):
        checkpoints.save(state(step))
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == [
        "step-000000020",
        "step-000001000",
    ]


@pytest.mark.survives(
    "Model",
    "a damaged checkpoint",
    "set aside; training resumes from the one before",
)
@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "springtide-manifest.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_damaged_checkpoint_is_removed_and_the_one_before_is_used(checkpoints, name, damage):
    checkpoints.save(state(10))
    checkpoints.save(state(20))
    path = checkpoints.folder / "step-000000020" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    match damage:
        case "flipped":
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case _:
            path.unlink()

    found = checkpoints.newest()

    assert found is not None
    assert found.step == 10
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-000000010"]


def test_a_checkpoint_of_another_run_is_not_used_and_makes_room_for_that_of_this_one(
    checkpoints, caplog
):
    checkpoints.save(state(10))
    other = replace(checkpoints, identity={"data": "sha256:2"})
    assert other.newest() is None
    assert "checkpoint belongs to another run and was removed" in caplog.text
    other.save(state(10))
    assert other.newest() is not None
    assert checkpoints.newest() is None


def test_a_checkpoint_of_another_environment_is_used_with_a_warning(checkpoints, caplog):
    checkpoints.save(state(10))
    other = replace(checkpoints, environment={"threads": 2})
    assert other.newest() is not None
    assert "weights will not be bit-equal" in caplog.text


def test_a_second_checkpoint_of_a_step_changes_nothing(checkpoints):
    checkpoints.save(state(10))
    before = (checkpoints.folder / "step-000000010" / "state.json").read_bytes()
    late = replace(checkpoints, environment={"threads": 8})
    late.save(state(10))
    assert (checkpoints.folder / "step-000000010" / "state.json").read_bytes() == before


def test_a_crash_at_any_write_never_leaves_an_incomplete_checkpoint(checkpoints, monkeypatch):
    """Count the system calls of one save, then fail each of them in turn."""
    calls = 0
    fatal = -1

    def counted(function):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == fatal:
                raise OSError(28, "No space left on device")
            return function(*arguments, **options)

        return call

    for name in ("open", "fsync", "rename", "mkdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    checkpoints.save(state(10))
    needed = calls
    assert needed > 5

    for number in range(1, needed + 1):
        calls, fatal = 0, number
        with contextlib.suppress(OSError):
            checkpoints.save(state(10 + number))
        fatal = -1
        for folder in checkpoints.folder.iterdir():
            assert json.loads((folder / "state.json").read_bytes())["step"] == int(folder.name[5:])
        assert checkpoints.newest() is not None
