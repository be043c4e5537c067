"""An evaluation of rankers: from a CSV through probe, rules and report to a verdict."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import ndcg_score
from trainer.evaluation.conftest import WORDS, Shop, commit_bert, with_window, write_csv

from springtide_api.update.gate import Gate
from springtide_api.update.task import RankingOptions
from springtide_judging.bounds import measured
from springtide_judging.rules import judge_rule
from springtide_trainer.artifact.models import load
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.errors import Refused
from springtide_trainer.stages.evaluate import evaluate
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact
    from springtide_trainer.artifact.models import Scorer

GAINS = {"irrelevant": "0", "partial": "1", "exact": "3"}
RULES = [
    {"name": "useful", "metric": "ndcg@10", "min": "0.85"},
    {"name": "better", "metric": "ndcg@3", "minImprovement": {"absolute": "0"}},
    {"name": "first", "metric": "mrr", "maxRegression": {"absolute": "0.02"}},
    {"name": "whole", "metric": "map", "min": "0.7"},
    {"name": "lasting", "metric": "ndcg@10", "maxCumulativeRegression": {"absolute": "0.05"}},
]
DATASETS = [{"name": "holdout", "role": "Holdout"}, {"name": "old", "role": "Historical"}]


def make_model(home: Home, seed: int) -> CommittedArtifact:
    """Commit a random ranker."""
    preprocess = Preprocess(
        text="query",
        text_pair="item",
        max_length=32,
        task="Ranking",
        ranking=RankingOptions(gains=GAINS),
    )
    return commit_bert(home, seed, outputs=1, preprocess=preprocess)


class Search(Shop):
    """Two months of lists that one model orders up to noise; another one does not."""

    def recipe(self, **asked: object) -> dict:
        made = super().recipe(**asked)
        made["data"]["source"]["columns"] |= {"entity": "list"}
        del made["model"]["labels"]
        made["model"] |= {"task": "Ranking", "ranking": {"gains": GAINS}}
        return made


def lists(model: Scorer, count: int = 300) -> list[dict[str, str]]:
    """Lists of 3 to 8 items of one query; the scores of the model, with noise, are the labels."""
    random = np.random.default_rng(5)
    rows = []
    for number in range(count):
        query = " ".join(random.choice(WORDS, 2))
        items = [" ".join(random.choice(WORDS, 4)) for _ in range(random.integers(3, 9))]
        scores = model.predict([(query, item) for item in items])[:, 0]
        order = (scores + random.normal(0, 0.2 * scores.std(), len(items))).argsort()[::-1]
        label = np.full(len(items), "irrelevant", dtype=object)
        label[order[:2]] = ["exact", "partial"]
        moment = f"2026-{1 + number * 2 // count:02}-{1 + number % 27:02} 12:00:00"
        rows += [
            {"at": moment, "list": f"l{number}", "query": query, "item": item, "clicked": each}
            for item, each in zip(items, label, strict=True)
        ]
    return rows


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    home = Home(tmp_path_factory.mktemp("search") / "home")
    (home.path / "tmp").mkdir(parents=True)
    knowing, other = make_model(home, 1), make_model(home, 2)
    source = write_csv(
        home.path / "lists.csv", lists(load(local_path(knowing.uri), knowing.digest))
    )
    made = Search(home, source, None, knowing, other)
    return with_window(made, "2026-06-01T00:00:00Z", rules=RULES)


def evaluated(search: Search, job: str, **asked: object):
    run = search.run(search.knowing, search.other, job=job, **({"rules": RULES} | asked))
    with search.home.tmp(run.job, "pod") as tmp:
        return evaluate(run, search.home, tmp)


def mean_ndcg(scores: dict, dataset: str, depth: int) -> float:
    """Average scikit-learn's NDCG over the lists of a dataset."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in scores:
        if row["dataset"] == dataset:
            own = found.setdefault(row["group"], [])
            own.append((float(GAINS[row["label"]]), row["candidate"][0]))
    each = [
        ndcg_score([[gain for gain, _ in rows]], [[score for _, score in rows]], k=depth)
        for rows in found.values()
    ]
    return float(np.mean(each))


def test_rankers_are_judged_by_the_order_of_their_lists(search):
    out = evaluated(search, "order", reference=search.other)
    scores = pq.read_table(search.report(out) / "scores.parquet").to_pylist()
    numbers = measured(out)
    for name, depth in (("useful", 10), ("better", 3)):
        expected = mean_ndcg(scores, "holdout", depth)
        assert numbers[name].candidate.value == pytest.approx(expected, rel=1e-4)
    for row in numbers.values():
        assert row.candidate.low < row.candidate.value < row.candidate.high
        assert row.entities <= search.window.holdout_entities
        assert row.positives == search.window.holdout_positives
    verdicts = {
        rule.name: judge_rule(rule, numbers[rule.name], baseline=True, on_holdout=True)
        for rule in Gate.model_validate({"rules": RULES}).rules
    }
    assert {name: each.result.verdict for name, each in verdicts.items()} == dict.fromkeys(
        verdicts, "Pass"
    )


def test_the_report_of_a_ranker_has_its_gains_and_metrics(search):
    out = evaluated(search, "report")
    page = (search.report(out) / "report.html").read_text(encoding="utf-8")
    assert "Gains: 0 for “irrelevant”, 1 for “partial”, 3 for “exact”." in page
    written = json.loads((search.report(out) / "metrics.json").read_text(encoding="utf-8"))
    assert (written["task"], written["labels"]) == ("Ranking", [["score"], ["score"]])
    (holdout,) = written["datasets"]
    assert set(holdout["metrics"]) == {"ndcg@3", "ndcg@10", "mrr", "map"}
    assert holdout["entities"] == search.window.holdout_entities
    assert holdout["labels"].keys() == GAINS.keys()
    assert holdout["by_label"] == []


def test_a_bound_below_a_random_order_proves_nothing(search):
    numbers = measured(evaluated(search, "trivial"))["useful"]
    bound = f"{numbers.trivial_baseline * 0.99:.6f}"
    rule = {"name": "useful", "metric": "ndcg@10", "min": bound}
    (judged,) = Gate.model_validate({"rules": [rule]}).rules
    found = judge_rule(judged, numbers, baseline=True, on_holdout=True)
    assert found.reason == "FloorProvesNothing"


def guarded(folder: Path, lines: list[str], **more: object) -> dict:
    (folder / "musts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    guardrail = {"name": "musts", "role": "Guardrail", "uri": (folder / "musts.csv").as_uri()}
    rules = [
        *RULES,
        {"name": "kept", "metric": "ndcg@10", "dataset": "old", "min": "0.8"},
        {"name": "musts", "metric": "mrr", "dataset": "musts", "min": "0.8"},
    ]
    return {"datasets": [*DATASETS, guardrail], "rules": rules, **more}


def test_reserved_lists_and_a_guardrail_are_evaluated_like_the_holdout(search, tmp_path):
    head, *lines = search.source.read_text(encoding="utf-8").splitlines()
    known = [line for line in lines if int(line.split(",")[1].removeprefix("l")) < 20]
    asked = guarded(tmp_path, [head, *known], historical=[search.window.manifest])
    out = evaluated(search, "sets", **asked)
    written = json.loads((search.report(out) / "metrics.json").read_text(encoding="utf-8"))
    sets = {each["name"]: each for each in written["datasets"]}
    assert (sets["musts"]["entities"], sets["musts"]["positives"]) == (20, 40)
    assert sets["old"]["rows"] == search.window.reserved_rows
    scores = pq.read_table(search.report(out) / "scores.parquet").to_pylist()
    numbers = measured(out)
    expected = mean_ndcg(scores, "old", 10)
    assert numbers["kept"].candidate.value == pytest.approx(expected, rel=1e-4)


def test_a_metric_that_is_1_in_every_list_is_decided_by_the_number_of_lists(search, tmp_path):
    head, *lines = search.source.read_text(encoding="utf-8").splitlines()
    known = [line for line in lines if int(line.split(",")[1].removeprefix("l")) < 20]
    numbers = measured(evaluated(search, "perfect", **guarded(tmp_path, [head, *known])))["musts"]
    assert (numbers.candidate.value, numbers.candidate.high) == (1, 1)
    assert numbers.candidate.low == pytest.approx(0.05 ** (1 / 20), rel=1e-4)
    for least, verdict in (("0.8", "Pass"), ("0.9", "Inconclusive")):
        rule = {"name": "musts", "metric": "mrr", "min": least, "minEntities": 10}
        (judged,) = Gate.model_validate({"rules": [rule]}).rules
        found = judge_rule(judged, numbers, baseline=True, on_holdout=False)
        assert found.result.verdict == verdict


def test_a_guardrail_with_a_label_without_gain_is_refused(search, tmp_path):
    head = search.source.read_text(encoding="utf-8").splitlines()[0]
    asked = guarded(tmp_path, [head, "2026-01-01 12:00:00,x,red,shoe,perfect"])
    with pytest.raises(Refused, match=r"not one of the 3 model\.ranking\.gains .*'perfect' \(1\)"):
        evaluated(search, "unknown", **asked)
