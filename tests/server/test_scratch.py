"""The folder for the copy of a model, and those that killed processes left."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import pytest

from springtide_server.loading.scratch import scratch

COPY = """
import sys
from springtide_server.loading.scratch import scratch
with scratch() as folder:
    (folder / "model.safetensors").write_bytes(b"weights")
    print(folder.name, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def room(tmp_path, monkeypatch):
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.mark.survives(
    "Model",
    "a server that is killed while it copies a model from an object store, again and again",
    "each start deletes the copy of the one before",
)
def test_the_copy_of_a_killed_process_is_deleted_and_that_of_a_running_one_is_kept(room):
    command = [sys.executable, "-c", COPY]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as runs:
        held = room / runs.stdout.readline().strip()
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as killed:
            left = room / killed.stdout.readline().strip()
            killed.kill()
        assert (left / "model.safetensors").exists()
        (room / "springtide-model").mkdir()

        with scratch() as folder:
            assert sorted(room.iterdir()) == sorted({folder, held, room / "springtide-model"})
            assert list(folder.iterdir()) == []
        assert not folder.exists()
        assert (held / "model.safetensors").exists()
        runs.stdin.close()
