"""An evaluation of rows with several labels: from a CSV through probe and rules to the report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.metrics import f1_score
from trainer.evaluation.conftest import WORDS, Shop, commit_bert, with_window

from springtide_api.update.task import ClassificationOptions
from springtide_judging.bounds import measured
from springtide_trainer.artifact.models import load
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.snapshots.frozen_rows import inputs, read_rows
from springtide_trainer.stages.evaluate import evaluate
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact

LABELS = ["sport", "music", "travel"]
RULES = [
    {"name": "floor", "metric": "micro_f1", "min": "0.3"},
    {"name": "better", "metric": "pr_auc", "minImprovement": {"absolute": "0"}},
    {"name": "loss", "metric": "log_loss", "maxRegression": {"absolute": "1"}},
]
SEVERAL = ClassificationOptions(multi_label=True)


def make_model(home: Home, seed: int, labels: list[str]) -> CommittedArtifact:
    """Commit a random model with an output for each label."""
    preprocess = Preprocess(text="item", max_length=32, labels=labels, classification=SEVERAL)
    return commit_bert(home, seed, outputs=len(labels), preprocess=preprocess)


class Topics(Shop):
    """Two months of texts whose labels one model knows up to noise."""

    def recipe(self, **asked: object) -> dict:
        made = super().recipe(**asked)
        columns = {"text": "item", "label": "topics", "timestamp": "at", "entity": "shopper"}
        made["data"]["source"]["columns"] = columns
        made["model"] = {"initial": {"uri": "file:///models/x"}, "labels": LABELS}
        made["model"] |= {"classification": {"multiLabel": True}, "maxLength": 32}
        return made


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Topics:
    home = Home(tmp_path_factory.mktemp("topics") / "home")
    (home.path / "tmp").mkdir(parents=True)
    knowing, other = make_model(home, 1, LABELS), make_model(home, 2, LABELS[:2])
    source = home.path / "topics.csv"
    write(source, load(local_path(knowing.uri), knowing.digest))
    made = Topics(home, source, None, knowing, other)
    return with_window(made, "2026-03-02T00:00:00Z", rules=RULES)


def write(path: Path, model) -> None:
    random = np.random.default_rng(3)
    texts = [" ".join(random.choice(WORDS, size=random.integers(2, 9))) for _ in range(900)]
    has = model.predict([(text, None) for text in texts]) >= 0.5
    has ^= random.random(has.shape) < 0.1
    lines = ["item,topics,at,shopper"]
    for number, (text, row) in enumerate(zip(texts, has, strict=True)):
        month, names = 1 + number // 450, "|".join(np.array(LABELS)[row])
        at = f"2026-{month:02}-{1 + number % 27:02} 12:00:00"
        lines.append(f"{text},{names},{at},s{number % 90}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_candidate_and_live_are_compared_over_the_labels_of_live(topics):
    run = topics.run(topics.knowing, topics.other, job="topics", rules=RULES)
    with topics.home.tmp(run.job, "pod") as tmp:
        out = evaluate(run, topics.home, tmp)
    frozen = read_rows(local_path(topics.window.manifest), "holdout")
    scorer = load(local_path(topics.knowing.uri), topics.knowing.digest)
    truth = scorer.task.encode(frozen["label"], "rows")
    found = scorer.predict(scorer.preprocess.render(inputs(frozen))) >= 0.5
    numbers = measured(out)
    assert numbers["floor"].candidate.value == pytest.approx(
        f1_score(truth, found, average="micro"), rel=1e-4
    )
    assert numbers["better"].delta.low > 0
    assert numbers["floor"].positives == truth.sum(axis=0).min()
    for row in numbers.values():
        assert row.candidate.low < row.candidate.value < row.candidate.high
        assert np.isfinite(row.trivial_baseline)

    page = (local_path(out.report) / "report.html").read_text(encoding="utf-8")
    assert "A row has any number of the 3 labels" in page
    assert "the comparison uses the live model&#39;s 2 labels" in page.replace("'", "&#39;")
    written = json.loads((local_path(out.report) / "metrics.json").read_text(encoding="utf-8"))
    (holdout,) = written["datasets"]
    assert [one["label"] for one in holdout["by_label"]] == LABELS
    assert all(one["precision"] > 0.5 for one in holdout["by_label"])
