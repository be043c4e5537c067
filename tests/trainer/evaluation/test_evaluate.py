"""An evaluation from run file to report, on rows frozen by a probe, with tiny models."""

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from trainer.evaluation.conftest import Shop, commit_bert, with_window

from springtide_api.contract import TERMINATION_LIMIT, Result
from springtide_api.update.model import Optimise
from springtide_judging.bounds import numbers
from springtide_trainer.artifact import manifest
from springtide_trainer.artifact.models import load
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.snapshots.frozen_rows import inputs, read_rows
from springtide_trainer.errors import Refused
from springtide_trainer.evaluation.datasets import EvaluationDataset
from springtide_trainer.optimise import form
from springtide_trainer.stages.termination_message import compact
from springtide_trainer.storage import local_path
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.metrics.classification import value

MARGIN = {"absolute": "0.5"}


@dataclass
class Features(Shop):
    """The shop with a template of these features in place of texts."""

    read: tuple[str, ...] = ()

    @property
    def template(self) -> str:
        return " ".join(f"{{{name}}}" for name in self.read)

    def recipe(self, **asked: Any) -> dict[str, Any]:
        made = super().recipe(**asked)
        columns = made["data"]["source"]["columns"]
        del columns["text"], columns["textPair"]
        columns |= {"features": list(self.read), "template": self.template}
        return made

    def model(self, seed: int) -> Any:
        read, labels = list(self.read), ["no", "yes"]
        rendered = {"features": read, "template": self.template, "labels": labels}
        return commit_bert(
            self.home, seed, outputs=2, preprocess=Preprocess(max_length=32, **rendered)
        )


def test_candidate_and_live_are_measured_on_the_same_rows(shop) -> None:
    out = shop.evaluate(shop.knowing, shop.other)

    floor, better = (numbers(row) for row in out.rules)
    assert (out.candidate_digest, out.baseline_digest) == (shop.knowing.digest, shop.other.digest)
    assert out.holdout_digest == shop.window.digest
    assert floor.candidate.low > 0.55
    assert better.delta.low > 0
    assert better.delta.value == pytest.approx(floor.candidate.value - floor.live.value, abs=1e-4)
    assert (floor.entities, floor.positives) == (
        shop.window.holdout_entities,
        shop.window.holdout_positives,
    )

    scores = pq.read_table(shop.report(out) / "scores.parquet")
    frozen = read_rows(local_path(shop.window.manifest), "holdout")
    assert scores["label"].to_pylist() == frozen["label"].to_pylist()
    label = np.array(frozen["label"].to_pylist()) == "yes"
    positive = np.array(scores["candidate"].to_pylist())[:, 1]
    assert floor.candidate.value == pytest.approx(roc_auc_score(label, positive), abs=1e-5)

    scorer = load(local_path(shop.other.uri), shop.other.digest)
    again = scorer.predict(scorer.preprocess.render(inputs(frozen)))
    np.testing.assert_allclose(again, np.array(scores["baseline"].to_pylist()), atol=1e-6)


def test_the_same_evaluation_gives_the_same_numbers_and_its_report_is_written_once(shop) -> None:
    first = shop.evaluate(shop.knowing, shop.other, job="once")
    page = (shop.report(first) / "report.html").stat().st_mtime_ns
    again = shop.evaluate(shop.knowing, shop.other, job="once")
    assert (again.rules, again.report) == (first.rules, first.report)
    assert (shop.report(again) / "report.html").stat().st_mtime_ns == page


def test_metrics_json_has_all_metrics_with_bounds_for_those_of_rules(shop) -> None:
    out = shop.evaluate(shop.knowing, shop.other, job="all")
    written = json.loads((shop.report(out) / "metrics.json").read_text())

    (holdout,) = written["datasets"]
    assert list(holdout["metrics"]) == [
        "auc", "pr_auc", "log_loss", "accuracy", "macro_f1", "ece", "ndcg@10",
    ]  # fmt: skip
    for metric, measured in holdout["metrics"].items():
        for part in ("candidate", "live", "delta"):
            if metric == "auc":
                assert measured[part]["low"] <= measured[part]["value"] <= measured[part]["high"]
                assert measured[part]["error"] > 0
            else:
                assert measured[part]["value"] is not None
                assert measured[part]["low"] is None
    assert holdout["rows"] == shop.window.holdout_rows
    assert sum(holdout["labels"].values()) == holdout["rows"]


def test_a_rule_is_told_what_an_answer_without_a_model_scores(shop) -> None:
    rules = [
        {"name": "floor", "metric": "auc", "min": "0.55"},
        {"name": "right", "metric": "accuracy", "min": "0.5"},
        {"name": "loss", "metric": "log_loss", "max": "0.5"},
        {"name": "order", "metric": "ndcg@10", "min": "0.5"},
        {"name": "honest", "metric": "ece", "max": "0.5"},
    ]
    out = shop.evaluate(shop.knowing, shop.other, job="floors", rules=rules)
    auc, accuracy, loss, order, honest = out.trivial_baseline
    positive = shop.window.holdout_positives / shop.window.holdout_rows
    assert (auc, honest) == (0.5, None)
    assert accuracy == pytest.approx(max(positive, 1 - positive), abs=1e-4)
    entropy = -(positive * np.log(positive) + (1 - positive) * np.log(1 - positive))
    assert loss == pytest.approx(entropy, abs=1e-4)
    assert 0.4 < order < numbers(out.rules[3]).candidate.value


def test_the_first_generation_has_no_metrics_of_a_live_model(shop) -> None:
    out = shop.evaluate(shop.knowing, None, job="first")
    floor, better = (numbers(row) for row in out.rules)
    assert out.baseline_digest is None
    assert floor.candidate.low > 0.55
    assert all(map(math.isnan, (*floor.live, *better.delta)))
    page = (shop.report(out) / "report.html").read_text()
    assert "First generation" in page
    assert "skipped" in page


def test_historical_and_guardrail_datasets_are_evaluated(shop, tmp_path) -> None:
    guard = tmp_path / "guard.csv"
    head, *lines = shop.source.read_text().splitlines()
    guard.write_text("\n".join([head, *lines[:90]]) + "\n")
    out = shop.evaluate(
        shop.knowing,
        shop.other,
        job="three-sets",
        datasets=[
            {"name": "holdout", "role": "Holdout"},
            {"name": "old", "role": "Historical"},
            {"name": "guard", "role": "Guardrail", "uri": guard.as_uri()},
        ],
        historical=[shop.window.manifest],
        rules=[
            {"name": "floor", "metric": "auc", "min": "0.55"},
            {"name": "kept", "metric": "ndcg@3", "dataset": "old", "min": "0.1"},
            {"name": "right", "metric": "accuracy", "dataset": "guard", "min": "0.1"},
        ],
    )
    written = json.loads((shop.report(out) / "metrics.json").read_text())
    rows = {each["name"]: each["rows"] for each in written["datasets"]}
    assert rows == {
        "holdout": shop.window.holdout_rows,
        "old": shop.window.reserved_rows,
        "guard": 90,
    }
    assert all(each["digest"].startswith("sha256:") for each in written["datasets"])
    assert all(math.isfinite(numbers(row).candidate.low) for row in out.rules)


def test_a_historical_dataset_without_rows_has_undefined_metrics(shop) -> None:
    out = shop.evaluate(
        shop.knowing,
        shop.other,
        job="no-history",
        datasets=[
            {"name": "holdout", "role": "Holdout"},
            {"name": "old", "role": "Historical"},
        ],
        rules=[
            {"name": "floor", "metric": "auc", "min": "0.55"},
            {"name": "kept", "metric": "auc", "dataset": "old", "min": "0.1"},
        ],
    )
    assert out.rules[1] == ("kept", *[None] * 11, 0, 0)
    page = (shop.report(out) / "report.html").read_text()
    assert '<span class="tag Pass">Pass</span></h1>' in page
    assert page.count('class="tag none">skipped') == 1
    assert "Inconclusive</span>" not in page


def test_rows_from_before_a_column_was_read_are_scored_without_it(shop) -> None:
    """A feature was added to the recipe, and reserved rows of earlier windows lack it."""
    before, after = (
        with_window(Features(**vars(shop), read=read), "2026-06-01T00:00:00Z")
        for read in (("query", "item"), ("query", "list", "item"))
    )
    candidate, live = after.model(11), before.model(12)
    shards = [before.window.manifest, after.window.manifest]
    for job, historical in (("old", shards[:1]), ("both", shards)):
        out = after.evaluate(
            candidate,
            live,
            job=f"columns-{job}",
            historical=historical,
            datasets=[
                {"name": "holdout", "role": "Holdout"},
                {"name": "old", "role": "Historical"},
            ],
            rules=[
                {"name": "floor", "metric": "auc", "min": "0.55"},
                {"name": "kept", "metric": "auc", "dataset": "old", "maxRegression": MARGIN},
            ],
        )
        kept = numbers(out.rules[1])
        assert math.isfinite(kept.delta.low)
        assert kept.entities > 0


def test_rows_from_before_there_was_a_group_have_no_metrics_of_groups() -> None:
    group = pa.array([None, "first", "first"], pa.string())
    named = {"label": ["yes", "no", "yes"], "entity": ["a", "b", "c"], "group": group}
    rows = EvaluationDataset("old", "Historical", "", pa.table(named)).encoded(
        Classification(["no", "yes"])
    )
    shares = np.array([[0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    assert rows.group is None
    assert math.isnan(value("ndcg@10", rows, shares))
    assert value("auc", rows, shares) == 1


def test_a_feature_that_live_reads_cannot_be_removed(shop) -> None:
    """A comparison without it would be unfair: live was trained to read it."""
    after, before = (
        with_window(Features(**vars(shop), read=read), "2026-06-01T00:00:00Z")
        for read in (("query", "item"), ("query", "list", "item"))
    )
    with pytest.raises(Refused) as refused:
        after.evaluate(after.model(13), before.model(14), job="removed")
    failure = refused.value.failure
    assert (failure.reason, failure.field) == ("MissingColumn", "spec.data.source.columns.features")
    assert "rows of dataset 'holdout' have no ['list'], and the live model" in failure.message


@pytest.mark.survives(
    "Data",
    "frozen rows that do not match their digest",
    "refused with both digests",
)
def test_rows_that_do_not_match_their_digest_are_refused(shop) -> None:
    window = shop.window
    shop = replace(shop, window=window.model_copy(update={"digest": "sha256:" + "0" * 64}))
    with pytest.raises(Refused) as refused:
        shop.evaluate(shop.knowing, shop.other)
    assert refused.value.failure.reason == "DigestMismatch"
    assert (
        f"has digest {window.digest}, expected digest sha256:{'0' * 64}; restore"
        in refused.value.failure.message
    )


def test_sixteen_rules_fit_the_termination_message(shop) -> None:
    rules = [
        {
            "name": f"{number:02}" + "x" * 61,
            "metric": "log_loss",
            "max": "0.5",
            **({"maxCumulativeRegression": {"absolute": "0.1"}} if number < 4 else {}),
        }
        for number in range(16)
    ]
    job = "sixteen-" + "j" * 40
    out = shop.evaluate(shop.knowing, shop.other, reference=shop.model(4), job=job, rules=rules)
    result = Result(job="j" * 63, stage="evaluate", number=1000, ok=True, evaluate=out)
    message = compact(result)
    assert len(message) <= TERMINATION_LIMIT
    assert Result.model_validate_json(message).evaluate == out


def test_the_reference_is_scored_on_the_same_rows_if_a_rule_needs_it(shop) -> None:
    third = shop.model(3)
    rules = [
        {"name": "floor", "metric": "auc", "min": "0.55"},
        {"name": "lasting", "metric": "log_loss", "maxCumulativeRegression": {"absolute": "0.5"}},
    ]
    out = shop.evaluate(shop.knowing, shop.other, reference=third, job="reference", rules=rules)
    written = json.loads((shop.report(out) / "metrics.json").read_text())

    assert (out.reference_digest, out.versus_reference[0]) == (third.digest, None)
    value, delta, low, high = out.versus_reference[1]
    assert low < delta < high
    assert value + delta == pytest.approx(
        written["datasets"][0]["metrics"]["log_loss"]["candidate"]["value"], abs=1e-4
    )
    assert "delta to the reference" in (shop.report(out) / "report.html").read_text()

    live = shop.evaluate(shop.knowing, shop.other, reference=shop.other, job="live", rules=rules)
    assert live.versus_reference[1] == (numbers(live.rules[1]).live.value, *live.rules[1][7:10])


def test_three_labels_are_evaluated(three_labels) -> None:
    out = three_labels.evaluate(
        three_labels.knowing, three_labels.other, labels=["no", "click", "buy"]
    )
    floor, better = (numbers(row) for row in out.rules)
    assert floor.candidate.low > floor.live.value
    assert better.delta.low > 0
    assert floor.positives == three_labels.window.holdout_positives
    page = (three_labels.report(out) / "report.html").read_text()
    assert "With 3 labels" in page


def test_the_report_has_precision_and_recall_of_each_label(shop) -> None:
    out = shop.evaluate(shop.knowing, shop.other, job="by-label")
    written = json.loads((shop.report(out) / "metrics.json").read_text())
    (holdout,) = written["datasets"]
    assert [one["label"] for one in holdout["by_label"]] == ["no", "yes"]
    assert sum(one["rows"] for one in holdout["by_label"]) == holdout["rows"]
    page = (shop.report(out) / "report.html").read_text()
    assert "Precision and recall of the candidate" in page
    assert "its most probable label" in page


@pytest.mark.parametrize(
    ("optimise", "words"),
    [
        ({"quantization": "Int8Dynamic"}, "Int8Dynamic"),
        ({"pruning": {"sparsity": "0.05"}}, "sparsity 0.05"),
    ],
)
def test_each_model_is_scored_in_the_form_in_which_it_is_served(shop, optimise, words) -> None:
    folder = shop.home.path / "tmp" / "form"
    form.write(local_path(shop.other.uri), folder, Optimise.model_validate(optimise))
    served = manifest.commit(folder, shop.home)

    asked = {"optimise": optimise}
    out = shop.evaluate(shop.knowing, served, job=f"forms-{words[:4].lower()}", serving=asked)
    page = (shop.report(out) / "report.html").read_text()
    assert f"<dt>Scored and served as</dt><dd>{words}, not as trained</dd>" in page

    assert (out.candidate_digest, out.baseline_digest) == (shop.knowing.digest, served.digest)
    scores = pq.read_table(shop.report(out) / "scores.parquet")
    rows = inputs(read_rows(local_path(shop.window.manifest), "holdout"))
    for column, made, same in (
        ("candidate", shop.knowing, True),
        ("baseline", served, True),
        ("baseline", shop.other, False),
    ):
        scorer = load(local_path(made.uri), made.digest)
        again = scorer.predict(scorer.preprocess.render(rows))
        found = np.array(scores[column].to_pylist())
        assert np.allclose(again, found, atol=1e-6) is same
        np.testing.assert_allclose(again, found, atol=0.4)
    folders = [path.name for path in local_path(shop.window.manifest).iterdir()]
    assert sum(name.startswith("tokens-") for name in folders) == 1, "both forms share the tokens"
