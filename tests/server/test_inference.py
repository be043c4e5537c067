"""The scores of /infer equal the scores of the evaluation."""

import json
import random

import numpy as np
import pytest

from springtide_trainer.artifact import models
from springtide_trainer.storage import local_path

WORDS = [
    "red",
    "blue",
    "shoe",
    "dress",
    "lamp",
    "for",
    "garden",
    "winter",
    "small",
    "cheap",
    "xylo",
    "42",
    ".",
    ",",
]


def sentences(many: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(0, 60))) for _ in range(many)]


def probabilities(answer) -> np.ndarray:
    tensor = next(output for output in answer["outputs"] if output["name"] == "probabilities")
    assert tensor["datatype"] == "FP32"
    return np.array(tensor["data"]).reshape(tensor["shape"])


async def test_200_rows_scored_by_infer_equal_the_scores_of_the_evaluation(pairs, serve, ask):
    rows = {"text": sentences(200, 1), "text_pair": sentences(200, 2)}
    scorer = models.load(local_path(pairs.artifact.uri), pairs.artifact.digest)
    expected = scorer.predict(scorer.preprocess.render(rows))

    async with serve(pairs.settings) as client:
        answer = (await client.post("/v2/models/model/infer", json=ask(**rows))).json()

    np.testing.assert_allclose(probabilities(answer), expected, atol=1e-5, rtol=0)
    labels = next(output for output in answer["outputs"] if output["name"] == "label")
    assert labels["data"] == [["no", "yes"][best] for best in expected.argmax(axis=1)]
    assert expected.std(axis=0).min() > 0.01, "a model that answers the same to all proves nothing"


@pytest.mark.parametrize("field", ["id", "parameters", "outputs"])
async def test_a_null_field_is_treated_as_absent(texts, serve, ask, field):
    asked = ask(text=["red shoe"])
    asked["inputs"][0]["parameters"] = None
    async with serve(texts.settings) as client:
        plain = await client.post("/v2/models/model/infer", json=ask(text=["red shoe"]))
        answer = await client.post("/v2/models/model/infer", json={**asked, field: None})
    assert (answer.status_code, answer.json()) == (200, plain.json())


async def test_scores_do_not_depend_on_the_batch(texts, serve, ask):
    rows = sentences(40, 3)
    async with serve(texts.settings) as client:
        together = (await client.post("/v2/models/model/infer", json=ask(text=rows))).json()
    async with serve(texts.settings, max_batch=1, max_delay=0.0) as client:
        alone = [
            (await client.post("/v2/models/model/infer", json=ask(text=[row]))).json()
            for row in rows
        ]

    np.testing.assert_allclose(
        probabilities(together), np.concatenate([*map(probabilities, alone)]), atol=1e-5, rtol=0
    )


async def test_features_are_rendered_by_the_template_of_the_artifact(features, serve, ask):
    rows = {"title": ["red {price}", "lamp"], "price": ["3.50", "{title}"]}
    scorer = models.load(local_path(features.artifact.uri), features.artifact.digest)
    expected = scorer.predict([("red {price} for 3.50", None), ("lamp for {title}", None)])

    async with serve(features.settings) as client:
        answer = (await client.post("/v2/models/model/infer", json=ask(**rows))).json()

    np.testing.assert_allclose(probabilities(answer), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("generation", "version"), [("3", "3"), ("", "the first 12 digits of the digest")]
)
async def test_the_response_has_request_id_model_and_generation(
    texts, serve, ask, generation, version
):
    digest = texts.artifact.digest
    async with serve(texts.settings, generation=generation, model_name="ranker") as client:
        asked = {**ask(text=["red shoe"]), "id": "r-1", "parameters": {"any": True}}
        answer = (await client.post("/v2/models/ranker/infer", json=asked)).json()

    assert answer["id"] == "r-1"
    assert answer["model_name"] == "ranker"
    assert answer["model_version"] == (version if generation else digest[7:19])
    assert answer["parameters"] == {"digest": digest}


async def test_only_requested_outputs_are_returned(texts, serve, ask):
    async with serve(texts.settings) as client:
        asked = {**ask(text=["red shoe"]), "outputs": [{"name": "label"}]}
        answer = (await client.post("/v2/models/model/infer", json=asked)).json()

    assert [output["name"] for output in answer["outputs"]] == ["label"]
    assert answer["outputs"][0]["shape"] == [1]


async def test_the_model_metadata_lists_its_tensors(pairs, serve):
    async with serve(pairs.settings) as client:
        server = (await client.get("/v2")).json()
        described = (await client.get("/v2/models/model")).json()

    assert server["name"] == "springtide-server"
    assert described["versions"] == ["3"]
    assert described["inputs"] == [
        {"name": "text", "datatype": "BYTES", "shape": [-1]},
        {"name": "text_pair", "datatype": "BYTES", "shape": [-1]},
    ]
    assert [(o["name"], o["datatype"], o["shape"]) for o in described["outputs"]] == [
        ("probabilities", "FP32", [-1, 2]),
        ("label", "BYTES", [-1]),
    ]
    assert described["outputs"][0]["parameters"] == {"labels": '["no", "yes"]'}


async def test_a_model_with_features_has_one_input_per_feature(features, serve):
    async with serve(features.settings) as client:
        described = (await client.get("/v2/models/model")).json()

    assert [tensor["name"] for tensor in described["inputs"]] == ["title", "price"]


async def test_a_predicted_price_is_served_as_one_value_for_each_row(prices, serve, ask):
    scorer = models.load(local_path(prices.artifact.uri), prices.artifact.digest)
    rows = {"text": sentences(20, 3)}
    expected = scorer.predict(scorer.preprocess.render(rows))[:, 0]

    async with serve(prices.settings) as client:
        described = (await client.get("/v2/models/model")).json()
        answer = (await client.post("/v2/models/model/infer", json=ask(**rows))).json()

    (value,) = answer["outputs"]
    assert (value["name"], value["datatype"], value["shape"]) == ("value", "FP32", [20])
    np.testing.assert_allclose(value["data"], expected, rtol=1e-5)
    assert described["outputs"] == [{"name": "value", "datatype": "FP32", "shape": [-1]}]
    assert expected.std() > 1, "a model that answers the same to all proves nothing"


async def test_a_ranker_serves_the_score_of_the_evaluation_for_each_row(ranker, serve, ask):
    scorer = models.load(local_path(ranker.artifact.uri), ranker.artifact.digest)
    rows = {"text": sentences(60, 4), "text_pair": sentences(60, 5)}
    expected = scorer.predict(scorer.preprocess.render(rows))[:, 0]

    async with serve(ranker.settings) as client:
        described = (await client.get("/v2/models/model")).json()
        answer = (await client.post("/v2/models/model/infer", json=ask(**rows))).json()

    (score,) = answer["outputs"]
    assert (score["name"], score["datatype"], score["shape"]) == ("score", "FP32", [60])
    np.testing.assert_allclose(score["data"], expected, atol=1e-5, rtol=0)
    assert described["outputs"] == [{"name": "score", "datatype": "FP32", "shape": [-1]}]
    assert expected.std() > 0.01, "a model that answers the same to all proves nothing"


async def test_several_labels_are_served_as_a_json_array_for_each_row(topics, serve, ask):
    scorer = models.load(local_path(topics.artifact.uri), topics.artifact.digest)
    rows = {"text": sentences(20, 3)}
    expected = scorer.predict(scorer.preprocess.render(rows))

    async with serve(topics.settings) as client:
        answer = (await client.post("/v2/models/model/infer", json=ask(**rows))).json()

    np.testing.assert_allclose(probabilities(answer), expected, atol=1e-5, rtol=0)
    labels = next(output for output in answer["outputs"] if output["name"] == "labels")
    counts = [len(json.loads(one)) for one in labels["data"]]
    assert counts == (expected >= 0.5).sum(axis=1).tolist()
    assert not np.allclose(expected.sum(axis=1), 1), "they are independent"
