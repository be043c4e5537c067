"""An evaluation of bi-encoders: from a CSV through probe, rules and report to a verdict."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from trainer.evaluation.conftest import WORDS, Shop, in_shards, tokenizer, with_window, write_csv
from transformers import BertConfig, BertModel

from springtide_api.update.gate import Gate
from springtide_api.update.task import EmbeddingOptions, Vectors
from springtide_judging.bounds import measured
from springtide_judging.rules import judge_rule
from springtide_trainer.artifact import manifest
from springtide_trainer.artifact.models import Scorer, load
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.errors import Refused
from springtide_trainer.stages.evaluate import evaluate
from springtide_trainer.storage import Home, local_path, warm_up_file
from springtide_trainer.tasks.towers import DOCUMENT_WEIGHTS, QUERY_WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact, EvaluateOutput

RULES = [
    {"name": "useful", "metric": "recall@5", "min": "0.6"},
    {"name": "better", "metric": "mrr", "minImprovement": {"absolute": "0"}},
    {"name": "lasting", "metric": "recall@1", "maxCumulativeRegression": {"absolute": "0.05"}},
]
DATASETS = [{"name": "holdout", "role": "Holdout"}, {"name": "old", "role": "Historical"}]


def weights(folder: Path, seed: int) -> Path:
    """Write a random encoder: texts with common words have similar vectors."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.05,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder / QUERY_WEIGHTS


def make_model(
    home: Home, queries: int, documents: int, *, max_length: int = 32
) -> CommittedArtifact:
    """Commit a random bi-encoder."""
    options = EmbeddingOptions(vectors=Vectors(dimensions=32))
    folder = home.path / "tmp" / f"model-{queries}-{documents}-{max_length}"
    shutil.copyfile(weights(folder.with_suffix(".other"), documents), _in(folder, DOCUMENT_WEIGHTS))
    weights(folder, queries)
    tokenizer().save_pretrained(folder)
    Preprocess(
        text="query",
        text_pair="item",
        max_length=max_length,
        task="Embedding",
        embedding=options,
    ).write(folder)
    return manifest.commit(folder, home)


def _in(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    return folder / name


class Search(Shop):
    """Two months of searches: a model with like queries and documents finds most of them."""

    def recipe(self, **asked: Any) -> dict[str, Any]:
        made = super().recipe(**asked)
        del made["data"]["source"]["columns"]["group"]
        del made["model"]["labels"]
        made["model"] |= {"task": "Embedding"}
        return made


def searches(count: int = 1200) -> list[dict[str, str]]:
    """Searches for one of 40 documents by its text without a word; some by a text of others."""
    random = np.random.default_rng(5)
    texts = [" ".join(random.choice(WORDS, 5, replace=False)) for _ in range(40)]
    rows = []
    for at in range(count):
        own, other = random.integers(0, 40, 2)
        words = texts[other if random.random() < 0.1 else own].split()
        del words[random.integers(0, 5)]
        rows.append(
            {
                "at": f"2026-{1 + (at * 2) // count:02}-{1 + at % 27:02} 12:00:00",
                "shopper": f"s{(at // 5) % 60}",
                "query": " ".join(words),
                "item": texts[own],
                "clicked": f"d{own}",
            }
        )
    return rows


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    home = Home(tmp_path_factory.mktemp("search") / "home")
    knowing, other = make_model(home, 2, 2), make_model(home, 3, 2)
    source = write_csv(home.path / "searches.csv", searches())
    made = Search(home, source, None, knowing, other)
    return with_window(made, "2026-06-01T00:00:00Z", rules=RULES)


def evaluated(search: Search, job: str, **asked: Any) -> EvaluateOutput:
    run = search.run(search.knowing, search.other, job=job, **({"rules": RULES} | asked))
    with search.home.tmp(run.job, "pod") as tmp:
        return evaluate(run, search.home, tmp)


def plain_values(
    search: Search, made: CommittedArtifact, index: CommittedArtifact | None = None
) -> dict[str, float]:
    """Search the holdout's documents, as `index` makes their vectors, one query after the other."""
    rows = pq.read_table(local_path(search.window.manifest) / "holdout.parquet").to_pylist()
    scorer = load(local_path(made.uri), made.digest)
    texts = {row["label"]: row["text_pair"] for row in rows}
    names = list(texts)
    maker = load(local_path(index.uri), index.digest) if index else scorer
    vectors = maker.predict_documents([(text, None) for text in texts.values()])
    places = []
    for row in rows:
        (query,) = scorer.predict([(row["text"], None)])
        order = sorted(names, key=lambda name: -float(query @ vectors[names.index(name)]))
        places.append(order.index(row["label"]) + 1)
    values = {f"recall@{k}": np.mean([place <= k for place in places]) for k in (1, 5)}
    return values | {"mrr": np.mean([1 / place for place in places])}


def test_rules_on_recall_decide_by_the_ranks_in_the_documents_of_the_holdout(search):
    made = evaluated(search, "verdict", reference=search.other, datasets=DATASETS)
    numbers, gate = measured(made), Gate.model_validate({"rules": RULES})
    for rule in gate.rules:
        result = judge_rule(rule, numbers[rule.name], baseline=True, on_holdout=True).result
        assert result.verdict == "Pass", result.message
    knowing, other = (plain_values(search, each) for each in (search.knowing, search.other))
    assert numbers["useful"].candidate.value == pytest.approx(knowing["recall@5"], abs=1e-4)
    assert numbers["useful"].live.value == pytest.approx(other["recall@5"], abs=1e-4)
    assert numbers["better"].candidate.value == pytest.approx(knowing["mrr"], abs=1e-4)
    assert numbers["better"].delta.value == pytest.approx(knowing["mrr"] - other["mrr"], abs=1e-4)
    assert numbers["lasting"].reference == pytest.approx(other["recall@1"], abs=1e-4)


def test_the_report_says_what_was_searched_and_has_no_vectors(search):
    made = evaluated(search, "report")
    folder = search.report(made)
    written = json.loads((folder / "metrics.json").read_text())
    assert (written["task"], written["labels"]) == ("Embedding", [["vector"], ["vector"]])
    names = ["recall@1", "recall@10", "recall@100", "mrr", "recall@5"]
    assert sorted(written["datasets"][0]["metrics"]) == sorted(names)
    assert "are searched by the inner product" in (folder / "report.html").read_text()
    scores = pq.read_table(folder / "scores.parquet")
    ranks = np.stack(scores["candidate"].to_numpy())
    assert ranks.shape == (len(scores), 1)
    assert ((ranks >= 1) & (ranks == ranks.round())).all()


@pytest.mark.parametrize(("documents", "times"), [(2, 1), (4, 2)], ids=["same", "others"])
def test_models_with_one_model_of_documents_share_the_vectors_of_a_dataset(
    search, monkeypatch, documents, times
):
    called = []
    predict = Scorer.predict_documents

    def counted(scorer: Scorer, *given: Any) -> Any:
        called.append(scorer.documents.digest)
        return predict(scorer, *given)

    monkeypatch.setattr(Scorer, "predict_documents", counted)
    live = search.other if documents == 2 else make_model(search.home, 3, documents)
    search.evaluate(search.knowing, live, job=f"shared-{documents}", rules=RULES[:2])
    assert len(called) == len(set(called)) == times


def test_shared_documents_are_cut_as_in_the_index_of_live(search):
    """maxLength was raised: the index still has the vectors of the shorter texts."""
    live = make_model(search.home, 3, 2, max_length=6)
    made = search.evaluate(search.knowing, live, job="longer", rules=RULES[:2])
    numbers = measured(made)
    for of, expected in (
        ("candidate", plain_values(search, search.knowing, live)),
        ("live", plain_values(search, live)),
    ):
        found = {name: getattr(row, of).value for name, row in numbers.items()}
        assert found["useful"] == pytest.approx(expected["recall@5"], abs=1e-4)
        assert found["better"] == pytest.approx(expected["mrr"], abs=1e-4)
    assert plain_values(search, search.knowing) != plain_values(search, search.knowing, live)


def test_a_model_that_finds_nothing_is_rejected(search):
    made = search.evaluate(search.other, search.knowing, job="rejected", rules=RULES[:2])
    numbers, gate = measured(made), Gate.model_validate({"rules": RULES[:2]})
    verdicts = [
        judge_rule(rule, numbers[rule.name], baseline=True, on_holdout=True).result.verdict
        for rule in gate.rules
    ]
    assert verdicts == ["Reject", "Reject"]


def test_warm_up_queries_are_queries_alone(search):
    evaluated(search, "warm-up")
    file = warm_up_file(local_path(search.knowing.uri))
    asked = json.loads(file.read_text())["requests"]
    assert {tensor["name"] for request in asked for tensor in request["inputs"]} == {"text"}


def test_shards_are_refused_because_a_rank_needs_the_documents_of_all_rows(search):
    run = in_shards(search.run(search.knowing, search.other, rules=RULES), 100)
    with search.home.tmp(run.job, "pod") as tmp, pytest.raises(Refused) as refused:
        evaluate(run, search.home, tmp)
    assert refused.value.failure.field == "spec.data.window.rowsPerShard"
