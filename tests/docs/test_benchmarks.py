"""The page of benchmarks is generated from their results, and says which targets are missed."""

import json

import pytest
from bench.retention import sections
from bench.training import page
from docs.pages import ROOT

RESULT = {
    "title": "Training",
    "quality": {"name": "AUC", "tolerance": 0.005},
    "comparisons": [
        {"what": "training", "ours": "A", "other": "B", "least": 2.0, "least_bf16": 3.0}
    ],
}


def compared(ours, other, instructions=True):
    """Compare two sides, each a list of CPU seconds and AUC of a round."""
    measured = [
        {"round": number, "side": side, "rows": 60, "cpu_seconds": seconds, "quality": auc}
        for side, rounds in (("A", ours), ("B", other))
        for number, (seconds, auc) in enumerate(rounds, 1)
    ]
    machine = {"instructions": {"avx512_bf16": instructions}}
    (found,) = page.comparisons({**RESULT, "machine": machine, "measured": measured})
    return found


def test_the_page_is_made_from_the_results():
    text = (ROOT / page.PAGE).read_text(encoding="utf-8")
    assert text == page.page(), "run python -m bench.training.page with PYTHONPATH=tests"


def test_every_result_has_its_section():
    known = {*page.ORDER, *sections.NAMES, page.POD_START}
    assert {file.stem for file in page.RESULTS.glob("*.json")} <= known
    text = (ROOT / page.PAGE).read_text(encoding="utf-8")
    for file in page.RESULTS.glob("*.json"):
        assert f"# {json.loads(file.read_text())['title']}\n" in text


def test_a_target_is_met_if_each_round_reaches_it():
    found = compared(ours=[(1, 0.9), (2, 0.9)], other=[(3, 0.9), (8, 0.9)])
    assert found.ratios == [3.0, 4.0]
    assert found.missed == []
    assert found.row().endswith("| met |")


def test_a_target_is_missed_if_a_round_does_not_reach_it():
    found = compared(ours=[(1, 0.9), (2, 0.9)], other=[(3, 0.9), (5, 0.9)])
    assert found.missed == ["ratio reached in 1 of 2 rounds"]
    assert found.row().endswith("| **missed** |")


def test_the_target_depends_on_the_processor():
    sides = {"ours": [(1, 0.9)], "other": [(2.5, 0.9)]}
    assert compared(**sides).missed == ["ratio reached in 0 of 1 rounds"]
    assert compared(**sides, instructions=False).missed == []


@pytest.mark.parametrize(("auc", "missed"), [(0.896, False), (0.894, True), (0.95, False)])
def test_a_target_is_missed_if_the_model_is_worse(auc, missed):
    found = compared(ours=[(1, auc)], other=[(4, 0.9)])
    assert found.missed == (["AUC lower by more than 0.005"] if missed else [])
