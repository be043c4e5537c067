"""The loss, the vectors and the metrics of a bi-encoder, compared with plain computations."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch

from springtide_api.update.task import EmbeddingOptions, Vectors
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.embedding import Embedding, identities
from springtide_trainer.tasks.metrics import retrieval
from springtide_trainer.tasks.metrics.statistic import EncodedRows, whole
from springtide_trainer.tasks.task import Candidates
from springtide_trainer.tasks.towers import in_batch, pool
from springtide_trainer.training.rows.document_vectors import log_q


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_the_softmax_over_the_documents_that_are_not_masked_with_its_gradient():
    queries, vectors = drawn(3, 4).requires_grad_(), drawn(5, 4, seed=1)
    chance = torch.tensor([0.9, 0.5, 0.1, 0.2, 0.3])
    own, excluded = torch.tensor([0, 4, 0]), torch.zeros(3, 5, dtype=torch.bool)
    excluded[1, 2] = excluded[2, 4] = True
    candidates = Candidates(vectors, chance.log(), own, excluded)
    losses = in_batch(queries, candidates, scale=0.5)
    (gradient,) = torch.autograd.grad(losses.sum(), queries)

    asked, expected, slopes = queries.detach(), [], []
    for row in range(3):
        kept = [at for at in range(5) if not excluded[row, at]]
        weights = [
            math.exp(float(asked[row] @ vectors[at]) / 0.5) / float(chance[at]) for at in kept
        ]
        share = {at: weight / sum(weights) for at, weight in zip(kept, weights, strict=True)}
        expected.append(-math.log(share[int(own[row])]))
        # The derivative of a softmax: the mean of the candidates minus the right one.
        mean = sum(part * vectors[at] for at, part in share.items())
        slopes.append((mean - vectors[own[row]]) / 0.5)
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(gradient, torch.stack(slopes), atol=1e-5)


def test_the_chance_that_a_step_has_a_document_is_that_of_many_drawn_steps():
    rng = np.random.default_rng(3)
    share = np.array([0.5, 0.2, 0.1, 0.1, 0.1])
    of_row = rng.choice(5, 4000, p=share)
    found = np.exp(log_q(of_row, 6, 8))
    drawn_steps = rng.choice(5, (40_000, 8), p=np.bincount(of_row) / len(of_row))
    counted = [(drawn_steps == document).any(axis=1).mean() for document in range(5)]
    assert found[:5].tolist() == pytest.approx(counted, abs=0.01)
    assert found[5] == 1, "a document that is not trained on is no candidate"
    assert np.isfinite(log_q(np.zeros(4, np.int64), 1, 2)).all(), "the only document"


@pytest.mark.parametrize(("pooling", "expected"), [("Mean", [[2.0, 3.0]]), ("First", [[1.0, 2.0]])])
def test_padding_and_hidden_tokens_have_no_part_in_a_vector(pooling, expected):
    states = torch.tensor([[[1.0, 2.0], [9.0, 9.0], [3.0, 4.0], [7.0, 7.0]]])
    mask = torch.tensor([[1, 0, 1, 0]])
    assert pool(states, mask, pooling).tolist() == expected


def test_a_vector_is_normalized_unless_the_options_say_otherwise():
    given = torch.tensor([[3.0, 4.0]])
    plain = EmbeddingOptions(vectors=Vectors(normalized=False))
    assert Embedding(EmbeddingOptions()).predict(given).tolist() == [pytest.approx([0.6, 0.8])]
    assert Embedding(plain).predict(given).tolist() == [[3.0, 4.0]]
    assert (EmbeddingOptions().scale, plain.scale) == (0.05, 1.0)


def plain_ranks(queries, documents, own) -> list[int]:
    """Sort all documents for each query; of equal ones, its own is the last."""
    made = []
    for query, right in zip(queries, own, strict=True):
        scores = [float(query @ document) for document in documents]
        order = sorted(range(len(scores)), key=lambda at: (-scores[at], at == right))
        made.append(order.index(right) + 1)
    return made


@pytest.mark.parametrize("block", [1, 50, 1 << 24])
def test_ranks_are_those_of_sorting_all_documents(monkeypatch, block):
    monkeypatch.setattr(retrieval, "BLOCK", block)
    rng = np.random.default_rng(5)
    queries = rng.integers(-2, 3, (40, 3)).astype(np.float32)
    documents = rng.integers(-2, 3, (25, 3)).astype(np.float32)
    own = rng.integers(0, 25, 40)
    found = retrieval.ranks(queries, documents, own)
    assert found[:, 0].tolist() == plain_ranks(queries, documents, own)


def test_a_model_that_gives_all_texts_one_vector_finds_nothing():
    alike = np.ones((4, 3), np.float32)
    assert retrieval.ranks(alike, alike, np.arange(4)).tolist() == [[4.0]] * 4


def test_a_metric_is_undefined_where_a_vector_is_not_finite():
    vectors = np.eye(3, dtype=np.float32)
    vectors[1, 1] = np.nan
    rows = EncodedRows(np.arange(3), np.arange(3))
    found = retrieval.ranks(vectors, np.eye(3, dtype=np.float32), np.arange(3))
    assert math.isnan(whole(retrieval.statistic("mrr", rows, found[:, 0]), rows))


@pytest.mark.parametrize(
    ("metric", "worth"),
    [
        ("recall@1", lambda rank: rank <= 1),
        ("recall@10", lambda rank: rank <= 10),
        ("mrr", lambda rank: 1 / rank),
        ("mrr@3", lambda rank: 1 / rank if rank <= 3 else 0),
    ],
)
def test_metrics_equal_a_plain_loop_for_any_weights_of_entities(metric, worth):
    rng = np.random.default_rng(2)
    rank, entity = rng.integers(1, 30, 60), rng.integers(0, 7, 60)
    rows = EncodedRows(np.arange(60), entity)
    weights = rng.integers(0, 4, (5, rows.entities))
    found = retrieval.statistic(metric, rows, rank.astype(np.float32))(weights)
    for sample, value in zip(weights, found, strict=True):
        pairs = [(int(sample[who]), worth(int(at))) for who, at in zip(entity, rank, strict=True)]
        expected = sum(n * each for n, each in pairs) / sum(n for n, _ in pairs)
        assert value == pytest.approx(expected)


def test_the_recall_of_rows_is_that_of_queries_with_several_documents():
    """A query with 4 relevant documents of which 3 are found has 4 rows, 3 of them found."""
    rank = np.array([1.0, 2.0, 9.0, 11.0], np.float32)
    rows = EncodedRows(np.arange(4), np.zeros(4, np.int64))
    assert whole(retrieval.statistic("recall@10", rows, rank), rows) == 0.75


def test_the_trivial_baseline_orders_documents_by_their_frequency():
    task = Embedding(EmbeddingOptions())
    rows = EncodedRows(np.array([7, 7, 7, 2, 2, 5]), np.arange(6))
    assert task.trivial_baseline("recall@1", rows) == pytest.approx(3 / 6)
    assert task.trivial_baseline("recall@10", rows) == 1
    assert task.trivial_baseline("mrr", rows) == pytest.approx((3 + 2 / 2 + 1 / 3) / 6)
    empty = EncodedRows(np.empty(0, np.int64), np.empty(0, np.int64))
    assert math.isnan(task.trivial_baseline("mrr", empty))


def test_a_document_has_the_same_hash_in_all_parts_of_rows():
    whole_ = identities(pa.chunked_array([["a", "b", "a", "ü"]]))
    parts = [identities(pa.chunked_array([[name]])) for name in ("a", "b", "a", "ü")]
    assert whole_.tolist() == np.concatenate(parts).tolist()
    assert len(set(whole_.tolist())) == 3
    assert identities(pa.chunked_array([], pa.string())).shape == (0,)


def test_rows_need_a_document_and_a_window_needs_two():
    task = Embedding(EmbeddingOptions())
    with pytest.raises(Refused, match="1 of 2 train rows have no document"):
        task.check(pa.chunked_array([["d1", ""]]), "train rows")
    assert task.shortage(task.count(pa.chunked_array([["d1", "d2", "d1"]]))) is None
    one = task.count(pa.chunked_array([["d1", "d1"]]))
    assert "all 2 training rows have document 'd1'" in (task.shortage(one) or "")
    assert task.positives(Counter({"d1": 2, "other documents": 3})) == 5


def test_the_text_of_a_document_is_that_of_its_newest_row():
    newest, of_row = retrieval.newest_rows(np.array([4, 9, 4, 7, 9]))
    assert sorted(newest.tolist()) == [2, 3, 4]
    assert newest[of_row].tolist() == [2, 4, 2, 3, 4]
