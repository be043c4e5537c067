"""A full disk fails a stage, leaves nothing half-written and is no fault of data or model."""

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


def hindrance() -> str:
    """Say why this machine has no small disk; nothing where it has one."""
    if os.geteuid() != 0:
        return "a small disk is mounted for this: needs root"
    if shutil.which("unshare") is None:
        return "a small disk is mounted for this: needs unshare (util-linux)"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
    said = tried.stderr.strip()
    return f"a small disk is mounted for this: {said}" if tried.returncode else ""


HINDRANCE = hindrance()


@dataclass(frozen=True)
class Given:
    """What the stages read: models and rows on a disk that has room."""

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
    """Return the run file of a stage whose home is elsewhere than all that it reads."""
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
            steps = {"hyperparameters": {"maxSteps": 8}, "checkpoint": {"everySteps": 3}}
            run = given.world.run_file(**steps).model_dump(mode="json", by_alias=True)
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
def test_a_full_disk_leaves_nothing_half_written_and_the_same_run_gets_through_with_room(
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
    said = failures[0]["message"]
    assert "no space left on the storage, 0 of 8,388,608 bytes are free" in said
    assert said.endswith("; enlarge the claim or delete files in it")
