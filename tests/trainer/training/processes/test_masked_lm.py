"""Texts that several processes share have the hidden tokens that one process would choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.training.conftest import World, freeze, imported
from trainer.training.processes.against_one import assert_two_learn_as_one
from trainer.training.test_masked_lm import MODEL, publish_head, texts

from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from pathlib import Path


def test_two_processes_learn_what_one_learns(tmp_path: Path):
    home = Home(tmp_path / "models" / "shop" / "ranker")
    parent = imported(publish_head(tmp_path / "encoder"), home, model=MODEL)
    world = World(home, parent, freeze(home, texts(100)), MODEL)
    assert_two_learn_as_one(world, "hidden", tmp_path)
