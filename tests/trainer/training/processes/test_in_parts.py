"""Models and tensors of which each process has a part are those of one process."""

from __future__ import annotations

import json

import pytest
from trainer.training.processes.in_parts import (
    compare_architectures,
    read_parts,
    tensors,
    write_parts,
)
from trainer.training.processes.spawning import spawn

from springtide_trainer.training.engine.state_files import OneFile


def test_every_architecture_learns_in_parts_what_it_learns_whole(tmp_path):
    spawn(2, tmp_path, compare_architectures)


@pytest.mark.parametrize("count", [2, 4])
def test_parts_are_read_by_any_number_of_processes(tmp_path, count):
    folder = tmp_path / "state"
    folder.mkdir()
    spawn(count, tmp_path, write_parts, folder)

    for path in folder.iterdir():  # safetensors, nothing else: no format that runs code
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert {*header} - {"__metadata__"} <= {*tensors()}
    assert len(list(folder.iterdir())) == count

    spawn(3, tmp_path, read_parts, folder)
    whole = OneFile().read(folder)
    assert whole.keys() == tensors().keys()
    for name, expected in tensors().items():
        assert whole[name].numpy().tobytes() == expected.numpy().tobytes(), name


def test_whole_tensors_are_read_in_parts(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    OneFile().write(tensors(), folder)
    spawn(2, tmp_path, read_parts, folder)
