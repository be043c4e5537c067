"""A full disk fails a stage, leaves nothing partly written and does not count against the data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from trainer.evaluation.conftest import Shop, open_shop
from trainer.training.conftest import LABELS, World, freeze, imported, publish, recipe, toy_rows

from springtide_trainer.storage import Home

SCRIPT = Path(__file__).with_name("small_disk.py")


def why_unavailable() -> str:
    """Return why no small disk can be mounted; an empty string if it can."""
    if os.geteuid() != 0:
        return "a small disk is mounted for this: needs root"
    if shutil.which("unshare") is None:
        return "a small disk is mounted for this: needs unshare (util-linux)"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
    message = tried.stderr.strip()
    return f"a small disk is mounted for this: {message}" if tried.returncode else ""


HINDRANCE = why_unavailable()


@dataclass(frozen=True)
class Given:
    """The models and rows that the stages read, on a disk with free space."""

    published: Path
    world: World
    shop: Shop


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("given")
    published, home = publish(folder / "published"), Home(folder / "home")
    world = World(home, imported(published, home), freeze(home, toy_rows(240)))
    return Given(published, world, open_shop(folder / "shop", LABELS))


def run_of(stage: str, given: Given, home: Path) -> dict[str, Any]:
    """Return the run file of a stage that reads from another disk than it writes to."""
    shop = given.shop
    run = {
        "stage": stage,
        "namespace": "shop",
        "update": "ranker",
        "job": f"ranker-12345-{stage}-1",
        "recipe": shop.recipe(),
    }
    match stage:
        case "import":
            run |= {"recipe": recipe(), "import": {"uri": given.published.as_uri()}}
        case "probe":
            run |= {"probe": {"now": "2026-06-01T00:00:00Z", "referenced": []}}
        case "train":
            training = {
                "hyperparameters": {"maxSteps": 8},
                "checkpoint": {"everySteps": 3},
                "method": {"type": "LoRA", "lora": {"rank": 4, "continuation": "Continue"}},
                "retention": {"replay": {}},
            }
            run = given.world.run_file(**training).model_dump(mode="json", by_alias=True)
            run["train"]["checkpoints"] = str(home / "checkpoints" / "g1")
        case "evaluate":
            run = shop.run(shop.knowing, shop.other).model_dump(mode="json", by_alias=True)
    return {**run, "home": str(home)}


@pytest.mark.survives(
    "Data",
    "the storage is full, at many points of what a stage writes (import, probe, training, "
    "evaluation)",
    "exit code 75 with the free bytes and the claim to enlarge; nothing partial at a final "
    "path, no temporary files are left; with free space the same run gives the weights, rows "
    "or numbers of an undisturbed one",
)
@pytest.mark.skipif(bool(HINDRANCE), reason=HINDRANCE)
@pytest.mark.parametrize("stage", ["import", "probe", "train", "evaluate"])
def test_a_full_disk_leaves_nothing_partly_written_and_the_run_succeeds_with_space(
    stage: str, given: Given, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    run = tmp_path / "run.json"
    run.write_text(json.dumps(run_of(stage, given, disk / "shop" / "ranker")))
    called = ["unshare", "--mount", sys.executable, SCRIPT, run, disk]
    alike = {**os.environ, "OMP_NUM_THREADS": "1"}

    ran = subprocess.run(called, capture_output=True, text=True, env=alike)
    assert ran.returncode == 0, ran.stderr
    *full, through = [json.loads(line) for line in ran.stdout.splitlines()]

    assert through["code"] == 0
    assert len(full) >= 4
    assert {end["code"] for end in full} == {75}
    assert all(end["left"] == [] for end in full)
    assert all(end["again"] == 0 and end["same"] for end in full)
    failures = [end["failure"] for end in full]
    assert {each["reason"] for each in failures} == {"DiskFull"}
    assert {each["field"] for each in failures} == {"storage.volume.claimName"}
    message = failures[0]["message"]
    assert "no space left on the storage, 0 of 8,388,608 bytes are free" in message
    assert message.endswith("; enlarge the claim or delete files in it")
