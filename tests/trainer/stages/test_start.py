"""A training pod imports only what it needs: imports are much of the time to the first step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from trainer.training.conftest import World, freeze, imported, publish, toy_rows
from trainer.training.sharded_rows import tokenizing, with_shards

from springtide_trainer.stages.launcher import INDEX
from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import RunFile

PROGRAM = """
import json, sys
from springtide_trainer.__main__ import main
code = main()
json.dump(sorted(sys.modules), sys.stdout)
sys.exit(code)
"""
UNUSED = {
    *("peft", "sklearn", "pandas", "datasets", "matplotlib", "rich", "httpx", "tensorboard"),
    *("transformers.trainer", "transformers.optimization", "torch.utils.tensorboard"),
    *("springtide_trainer.evaluation", "springtide_trainer.local", "springtide_server"),
    *("springtide_trainer.stages.evaluate", "springtide_trainer.stages.probe"),
    *("springtide_trainer.tasks.metrics.classification", "springtide_trainer.data.source.formats"),
}
"""Modules that training with method Full does not need."""


def modules_of(tmp_path: Path, **training: object) -> set[str]:
    """Train in a process of its own; return the modules that it imported."""
    return modules_of_stage(world_of(tmp_path).run_file(**training), tmp_path)


def world_of(tmp_path: Path, rows: int = 64) -> World:
    home = Home(tmp_path / "models")
    parent = imported(publish(tmp_path / "published"), home)
    return World(home, parent, freeze(home, toy_rows(rows)))


def modules_of_stage(run: RunFile, tmp_path: Path, **more: str) -> set[str]:
    path = tmp_path / "run.json"
    path.write_text(run.model_dump_json(by_alias=True, exclude_none=True))
    environ = {
        **os.environ,
        "SPRINGTIDE_RUN_FILE": str(path),
        "SPRINGTIDE_TERMINATION_LOG": str(tmp_path / "termination"),
        **more,
    }
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environ, stdout=subprocess.PIPE, check=True
    )
    return set(json.loads(ended.stdout))


@pytest.fixture
def plain(tmp_path: Path) -> set[str]:
    return modules_of(tmp_path, hyperparameters={"maxSteps": 2})


def test_full_training_imports_neither_peft_nor_other_stages(plain):
    assert "transformers" in plain
    assert sorted(plain & UNUSED) == []


def test_lora_imports_peft_and_adafactor_its_own_module(tmp_path):
    found = modules_of(
        tmp_path,
        method={"type": "LoRA", "lora": {"rank": 2}},
        hyperparameters={"maxSteps": 2, "optimizer": "Adafactor"},
    )
    assert {"peft", "transformers.optimization"} <= found


def test_a_pod_that_tokenizes_imports_nothing_that_trains(tmp_path):
    world = world_of(tmp_path, rows=1001)
    run = tokenizing(with_shards(world.run_file(), 1000), pods=2)
    found = modules_of_stage(run, tmp_path, **{INDEX: "1"})
    assert len([*world.home.checkpoints(1).glob("tokens-*")]) == 1
    assert "springtide_trainer.training.rows.token_shards" in found
    training = {f"springtide_trainer.{name}" for name in ("training.fit", "methods", "optimise")}
    assert sorted(found & (UNUSED | training)) == []
