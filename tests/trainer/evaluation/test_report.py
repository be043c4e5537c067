"""The content of the report, and that it contains no code."""

import json

import pytest

from springtide_trainer.evaluation.report import render


@pytest.fixture(scope="module")
def described(shop) -> dict:
    out = shop.evaluate(shop.knowing, shop.other, job="page")
    return json.loads((shop.report(out) / "metrics.json").read_text())


def test_the_report_shows_rule_numbers_bound_interval_and_counts(described) -> None:
    page = render(described)
    assert "ranker, generation 2" in page
    assert "fine-tuned from generation 1" in page
    assert "2026-02-01T00:00:00+00:00" in page
    assert "auc &gt;= 0.55" in page
    assert "delta &gt; 0" in page
    assert page.count("<svg") == 2
    assert page.count('class="tag Pass"') == 3
    assert f"{described['datasets'][0]['entities']} entities" in page


def test_the_report_loads_no_external_resources(described) -> None:
    page = render(described)
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


@pytest.mark.survives(
    "Update",
    "markup in names of datasets and labels",
    "shown as text in the report",
)
def test_names_of_users_are_escaped_in_the_report(described) -> None:
    evil = "<script>alert(1)</script>"
    page = render(
        described
        | {
            "labels": [["no", evil], ["no", evil]],
            "datasets": [described["datasets"][0] | {"labels": {evil: 3}, "name": evil}],
        }
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_undefined_numbers_are_dashes_and_inconclusive(described) -> None:
    gaps = [[row[0], *[None] * 11, 30, 10] for row in described["rules"]]
    page = render(described | {"rules": gaps})
    assert page.count('class="tag Inconclusive"') == 3
    assert "<svg" not in page
    assert "no value of auc for the candidate" in page
