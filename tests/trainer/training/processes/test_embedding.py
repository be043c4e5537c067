"""Queries that several processes share are compared with the documents of the whole step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.training.conftest import freeze, publish
from trainer.training.processes.against_one import assert_two_learn_as_one
from trainer.training.test_embedding import Retriever, imported, searches

from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from pathlib import Path


def test_two_processes_learn_from_the_negatives_that_one_learns_from(tmp_path: Path):
    home = Home(tmp_path / "models" / "shop" / "ranker")
    parent = imported(publish(tmp_path / "published"), home, {})
    world = Retriever(home, parent, freeze(home, searches(100)))
    world.options = {}
    assert_two_learn_as_one(world, "queries", tmp_path)
