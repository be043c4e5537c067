"""A bi-encoder answers with the vectors of queries, or of documents."""

from __future__ import annotations

import asyncio
import shutil

import numpy as np
import pytest
import torch
from server.conftest import Made, tokenizer
from transformers import BertConfig, BertModel

from springtide_api.update.task import EmbeddingOptions, Vectors
from springtide_server.settings import Settings
from springtide_trainer.artifact import manifest, models
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.storage import Home, local_path
from springtide_trainer.tasks.towers import DOCUMENT_WEIGHTS, QUERY_WEIGHTS

TEXTS = ["red shoe", "", "a small lamp for the garden", "winter dress"]


def made(home, *, normalized: bool = True) -> Made:
    """Commit a bi-encoder with different models of queries and documents."""
    words, folder = tokenizer(), home / "tmp" / "made"
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    for seed in (1, 2):
        torch.manual_seed(seed)
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
        if seed == 1:
            shutil.move(folder / QUERY_WEIGHTS, folder / DOCUMENT_WEIGHTS)
    words.save_pretrained(folder)
    vectors = Vectors(normalized=normalized, dimensions=32, document_prefix="for ")
    Preprocess(
        text="query",
        text_pair="item",
        max_length=32,
        task="Embedding",
        embedding=EmbeddingOptions(vectors=vectors),
    ).write(folder)
    committed = manifest.commit(folder, Home(home))
    return Made(
        committed,
        Settings(
            model_uri=committed.uri, model_digest=committed.digest, generation="3", max_batch=16
        ),
    )


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("retriever"))


def vectors(answer) -> np.ndarray:
    (tensor,) = answer["outputs"]
    assert (tensor["name"], tensor["datatype"]) == ("vector", "FP32")
    return np.array(tensor["data"]).reshape(tensor["shape"])


async def test_queries_and_documents_get_the_vectors_of_their_own_model(retriever, serve, ask):
    scorer = models.load(local_path(retriever.artifact.uri), retriever.artifact.digest)
    queries = scorer.predict(scorer.preprocess.render({"text": TEXTS}))
    documents = scorer.predict_documents([(f"for {text}", None) for text in TEXTS])
    async with serve(retriever.settings) as client:
        answers = [
            (await client.post("/v2/models/model/infer", json=ask(**{name: TEXTS}))).json()
            for name in ("text", "text_pair")
        ]
    np.testing.assert_allclose(vectors(answers[0]), queries, atol=1e-5)
    np.testing.assert_allclose(vectors(answers[1]), documents, atol=1e-5)
    assert np.abs(queries - documents).max() > 0.1
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)


async def test_queries_and_documents_of_one_batch_are_told_apart(retriever, serve, ask):
    async with serve(retriever.settings, max_delay=0.2) as client:
        alone = [
            vectors((await client.post("/v2/models/model/infer", json=ask(**{name: TEXTS}))).json())
            for name in ("text", "text_pair")
        ]
        together = await asyncio.gather(
            *(
                client.post("/v2/models/model/infer", json=ask(**{name: TEXTS}))
                for name in ("text", "text_pair", "text")
            )
        )
    for answer, expected in zip(together, [*alone, alone[0]], strict=True):
        np.testing.assert_allclose(vectors(answer.json()), expected, atol=1e-5)


async def test_a_response_names_the_model_of_documents_whose_index_it_fits(retriever, serve, ask):
    folder = local_path(retriever.artifact.uri)
    known = manifest.read_manifest(folder, retriever.artifact.digest)
    (tower,) = (file["sha256"] for file in known if file["path"] == DOCUMENT_WEIGHTS)
    expected = {"digest": retriever.artifact.digest, "documents": f"sha256:{tower}"}
    async with serve(retriever.settings) as client:
        described = (await client.get("/v2/models/model")).json()
        answer = (await client.post("/v2/models/model/infer", json=ask(text=["red"]))).json()
    assert described["parameters"] == answer["parameters"] == expected
    assert [tensor["name"] for tensor in described["inputs"]] == ["text", "text_pair"]
    assert described["outputs"] == [
        {
            "name": "vector",
            "datatype": "FP32",
            "shape": [-1, 32],
            "parameters": {"normalized": "true"},
        }
    ]


async def test_vectors_have_their_length_where_the_options_say_so(tmp_path, serve, ask):
    plain = made(tmp_path, normalized=False)
    async with serve(plain.settings) as client:
        described = (await client.get("/v2/models/model")).json()
        answer = (await client.post("/v2/models/model/infer", json=ask(text=TEXTS))).json()
    assert described["outputs"][0]["parameters"] == {"normalized": "false"}
    assert np.ptp(np.linalg.norm(vectors(answer), axis=1)) > 0.01


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text": ["red"], "text_pair": ["shoe"]},
            "inputs[1].name 'text_pair' is unknown; this model reads text, or text_pair in another"
            " request",
        ),
        (
            {"text_pair": ["red"], "text": ["shoe"]},
            "inputs[1].name 'text' is unknown; this model reads text_pair, or text in another"
            " request",
        ),
        (
            {"title": ["red"]},
            "inputs[0].name 'title' is unknown; this model reads text, or text_pair in another"
            " request",
        ),
    ],
)
async def test_a_request_has_either_queries_or_documents(retriever, serve, ask, columns, message):
    async with serve(retriever.settings) as client:
        answer = await client.post("/v2/models/model/infer", json=ask(**columns))
    assert (answer.status_code, answer.json()) == (400, {"error": message})
