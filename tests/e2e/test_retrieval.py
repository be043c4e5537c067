"""Retrieval on a cluster: a query gets its vector from the server, and an index finds documents.

The model of queries is trained; the index keeps the vectors of the encoder that was imported.
"""

import json

import numpy as np
import pytest
import torch
from e2e import served_answers, small_model
from transformers import AutoModel, AutoTokenizer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def served(tasks):
    """An update whose first trained generation is live."""
    with tasks("test_retrieval") as example:
        example.goes_live(1, seconds=420)
        yield example


def artifact(example, number):
    """The folder of a generation's model."""
    return example.files(example.generations()[number]["status"]["artifact"]["uri"])


def computed(folder, texts, variant=None):
    """The vectors of texts by transformers alone: the mean over their tokens, with length 1."""
    model = AutoModel.from_pretrained(folder, variant=variant, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    limit = {"truncation": True, "max_length": small_model.TOKENS}
    tokens = tokenizer(texts, padding=True, return_tensors="pt", **limit)
    with torch.no_grad():
        states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    mean = (states * mask).sum(dim=1) / mask.sum(dim=1)
    return torch.nn.functional.normalize(mean, dim=1).numpy()


def answered(example, **texts):
    """The vectors of the server, and what identifies its models."""
    answer = served_answers.inferred(example, **texts)
    (vectors,) = answer["outputs"]
    assert (vectors["name"], answer["model_version"]) == ("vector", "1")
    return np.array(vectors["data"]).reshape(vectors["shape"]), answer["parameters"]


@pytest.fixture(scope="module")
def searched(served):
    """Ranks that the evaluation found, and the rows: a query and the document that it is for."""
    scores, rows = served_answers.evaluated(served, 1)
    return np.array([one["candidate"][0] for one in scores]), rows


def test_the_trained_queries_are_accepted_by_their_recall(served):
    generation = served.generations()[1]
    assert generation["spec"]["recipe"]["model"]["embedding"]["trainTower"] == "Query"
    assert generation["status"]["verdict"] == "Accepted"
    (useful, *_) = generation["status"]["evaluation"]["results"]
    assert (useful["metric"], useful["verdict"]) == ("recall@10", "Pass")


def test_the_served_vectors_are_those_that_transformers_computes_of_the_two_models(
    served, searched
):
    _, rows = searched
    queries = sorted({row["text"] for row in rows})
    documents = sorted({row["text_pair"] for row in rows})
    first, parameters = answered(served, text=queries)
    second, _ = answered(served, text_pair=documents)
    trained, imported = artifact(served, 1), artifact(served, 0)
    assert np.abs(first - computed(trained, queries)).max() < 1e-5
    assert np.abs(second - computed(imported, documents, "document")).max() < 1e-5
    assert np.abs(first - computed(imported, queries)).max() > 0.1, "the queries were trained"
    assert parameters["digest"] == served.generations()[1]["status"]["artifact"]["servedDigest"]


def test_the_live_index_finds_as_many_documents_as_in_the_evaluation(served, searched):
    ranks, rows = searched
    titles = {row["label"]: row["text_pair"] for row in rows}
    # The index was filled before anything was trained.
    index = computed(artifact(served, 0), [*titles.values()], "document")
    queries, _ = answered(served, text=[row["text"] for row in rows])
    products = queries @ index.T
    places = {label: place for place, label in enumerate(titles)}
    own = products[np.arange(len(rows)), [places[row["label"]] for row in rows]]
    found = (products > own[:, None] - 1e-6).sum(axis=1)

    report = served.files(served.generations()[1]["status"]["evaluation"]["report"])
    metrics = json.loads((report / "metrics.json").read_text())["datasets"][0]["metrics"]
    recall = metrics["recall@10"]["candidate"]["value"]
    assert np.mean(found == ranks) > 0.99
    assert np.mean(found <= 10) == pytest.approx(recall, abs=0.005)
    assert recall > 0.6
