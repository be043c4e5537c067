"""Tests of several processes that hang end, and say where."""

from __future__ import annotations

import pytest
from trainer.training.processes import spawning
from trainer.training.processes.in_parts import hang_in_the_first


def test_of_processes_of_which_one_hangs_each_says_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(spawning, "LEFT_SECONDS", 0.1)
    with pytest.raises(AssertionError) as failed:
        spawning.spawn(2, tmp_path, hang_in_the_first, seconds=20)
    first, second = str(failed.value).split("process 1 of 2, ")
    assert "process 0 of 2, exit code None" in first
    assert "in hang_in_the_first" in first
    assert "exit code 1" in second
    assert "Timed out waiting" in second
