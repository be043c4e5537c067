"""Responses that several processes share count by all tokens of the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer import decoders
from trainer.training.conftest import World, freeze, imported
from trainer.training.processes.against_one import assert_two_learn_as_one
from trainer.training.test_causal_lm import MODEL, WORDS, dialogues

from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from pathlib import Path


def test_two_processes_learn_what_one_learns(tmp_path: Path):
    home = Home(tmp_path / "models" / "shop" / "ranker")
    parent = imported(decoders.publish(tmp_path / "decoder", WORDS), home, model=MODEL)
    world = World(home, parent, freeze(home, dialogues(100)), MODEL)
    assert_two_learn_as_one(world, "responses", tmp_path)
