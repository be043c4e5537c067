"""An evaluation of predicted prices: from a CSV through probe, rules and report to a verdict."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sklearn
from trainer.evaluation.conftest import WORDS, Shop, commit_bert, with_window

from springtide_api.update.gate import Gate
from springtide_api.update.task import RegressionOptions
from springtide_judging.bounds import measured
from springtide_judging.rules import judge_rule
from springtide_trainer.artifact.models import load
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.snapshots.frozen_rows import read_rows
from springtide_trainer.stages.evaluate import evaluate
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact

RULES = [
    {"name": "ceiling", "metric": "mae", "max": "6"},
    {"name": "better", "metric": "rmse", "minImprovement": {"absolute": "0"}},
    {"name": "share", "metric": "wape", "maxRegression": {"relative": "0.1"}},
    {"name": "percentage", "metric": "mape", "max": "0.08"},
    {"name": "explained", "metric": "r2", "min": "0.5"},
    {"name": "lasting", "metric": "mae", "maxCumulativeRegression": {"relative": "0.05"}},
]


def make_model(home: Home, seed: int, scale: tuple[str, str]) -> CommittedArtifact:
    """Commit a random model of one output, in the unit of its scale."""
    options = RegressionOptions(location=scale[0], spread=scale[1])
    preprocess = Preprocess(text="item", max_length=32, task="Regression", regression=options)
    return commit_bert(home, seed, outputs=1, preprocess=preprocess)


class Pricing(Shop):
    """Two months of prices that one model predicts up to noise; another one does not."""

    def recipe(self, **asked: object) -> dict:
        made = super().recipe(**asked)
        columns = {"text": "item", "label": "price", "timestamp": "at", "entity": "shopper"}
        made["data"]["source"]["columns"] = columns
        made["model"] = {"initial": {"uri": "file:///models/x"}, "task": "Regression"}
        made["model"]["maxLength"] = 32
        return made


@pytest.fixture(scope="module")
def pricing(tmp_path_factory: pytest.TempPathFactory) -> Pricing:
    home = Home(tmp_path_factory.mktemp("pricing") / "home")
    (home.path / "tmp").mkdir(parents=True)
    knowing, other = make_model(home, 1, ("100", "20")), make_model(home, 2, ("100", "1e-3"))
    source = home.path / "prices.csv"
    write(source, load(local_path(knowing.uri), knowing.digest))
    made = Pricing(home, source, None, knowing, other)
    made = with_window(made, "2026-03-02T00:00:00Z", rules=RULES)
    assert made.window.holdout_positives == made.window.holdout_rows
    return made


def write(path: Path, model) -> None:
    random = np.random.default_rng(3)
    texts = [" ".join(random.choice(WORDS, size=random.integers(2, 9))) for _ in range(900)]
    prices = model.predict([(text, None) for text in texts])[:, 0] + random.normal(0, 5, 900)
    months = np.sort(random.integers(1, 3, 900))
    lines = ["item,price,at,shopper"]
    lines += [
        f"{text},{price:.2f},2026-{month:02}-{1 + number % 27:02} 12:00:00,s{number % 90}"
        for number, (text, price, month) in enumerate(zip(texts, prices, months, strict=True))
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def evaluated(pricing: Pricing, job: str, **asked: object):
    run = pricing.run(pricing.knowing, pricing.other, job=job, rules=RULES, **asked)
    with pricing.home.tmp(run.job, "pod") as tmp:
        return evaluate(run, pricing.home, tmp)


def test_prices_are_judged_by_their_errors_with_intervals_over_entities(pricing):
    out = evaluated(pricing, "prices", reference=pricing.other)
    scores = pq.read_table(local_path(out.report) / "scores.parquet")
    price = np.array(scores["label"].to_pylist())
    found = np.array(scores["candidate"].to_pylist())[:, 0]
    assert (
        price.tolist()
        == read_rows(local_path(pricing.window.manifest), "holdout")["label"].to_pylist()
    )
    numbers = measured(out)
    assert numbers["ceiling"].candidate.value == pytest.approx(
        sklearn.mean_absolute_error(price, found), rel=1e-4
    )
    assert numbers["explained"].candidate.value == pytest.approx(
        sklearn.r2_score(price, found), rel=1e-4
    )
    for row in numbers.values():
        assert row.candidate.low < row.candidate.value < row.candidate.high
        assert row.candidate.value != row.trivial_baseline
    verdicts = {
        rule.name: judge_rule(rule, numbers[rule.name], baseline=True, on_holdout=True)
        for rule in Gate.model_validate({"rules": RULES}).rules
    }
    assert {name: each.result.verdict for name, each in verdicts.items()} == dict.fromkeys(
        verdicts, "Pass"
    )
    message = verdicts["better"].result.message
    assert message.startswith("better: rmse improved by ")
    assert message.endswith("contributing entities)")


def test_the_report_of_prices_speaks_of_errors_and_not_of_positives(pricing):
    out = evaluated(pricing, "report")
    page = (local_path(out.report) / "report.html").read_text(encoding="utf-8")
    assert "positives" not in page
    assert "MAPE is the mean of |error| / |label| over the rows whose label is not 0" in page
    written = json.loads((local_path(out.report) / "metrics.json").read_text(encoding="utf-8"))
    lowest, *_, highest = written["datasets"][0]["labels"]
    assert float(lowest) < float(highest)
    assert f"Labels from {lowest} to {highest}." in page
    assert "Rows by label" not in page
    assert written["task"] == "Regression"
    assert list(written["datasets"][0]["metrics"]) == ["rmse", "mae", "mape", "wape", "r2"]


def test_a_ceiling_above_the_error_of_a_constant_proves_nothing(pricing):
    trivial = measured(evaluated(pricing, "trivial"))["ceiling"].trivial_baseline
    rule = Gate.model_validate(
        {"rules": [{"name": "ceiling", "metric": "mae", "max": f"{trivial * 1.01:.6f}"}]}
    ).rules[0]
    numbers = measured(evaluated(pricing, "trivial"))["ceiling"]
    found = judge_rule(rule, numbers, baseline=True, on_holdout=True)
    assert found.reason == "FloorProvesNothing"


def test_a_guardrail_with_prices_is_read_like_the_source(pricing, tmp_path):
    rows = pricing.source.read_text(encoding="utf-8").splitlines()
    (tmp_path / "musts.csv").write_text("\n".join(rows[:60]) + "\n", encoding="utf-8")
    datasets = [
        {"name": "holdout", "role": "Holdout"},
        {"name": "musts", "role": "Guardrail", "uri": (tmp_path / "musts.csv").as_uri()},
        {"name": "memory", "role": "Historical"},
    ]
    guarded = [*RULES, {"name": "musts", "metric": "mae", "dataset": "musts", "max": "20"}]
    run = pricing.run(pricing.knowing, None, job="musts", rules=guarded, datasets=datasets)
    with pricing.home.tmp(run.job, "pod") as tmp:
        out = evaluate(run, pricing.home, tmp)
    assert 0 < measured(out)["musts"].candidate.value < 20
