"""Tokens of prompts and responses, their likelihood, and the perplexity, by plain computations."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import TypeAdapter
from trainer import decoders

from springtide_api.update.gate import Metric
from springtide_api.update.task import CausalLMOptions
from springtide_judging.bounds import LOWER_IS_BETTER, UNBOUNDED, WITHOUT_POSITIVES, value_range
from springtide_trainer.artifact.tokens import tokenize
from springtide_trainer.errors import Refused
from springtide_trainer.evaluation.predicted_tokens import PredictedTokens, labels
from springtide_trainer.tasks.language.causal_lm import CausalLM
from springtide_trainer.tasks.language.decoder import sums
from springtide_trainer.tasks.language.response_tokens import MASK, ResponseTokenizer
from springtide_trainer.tasks.metrics import perplexity
from springtide_trainer.tasks.metrics.statistic import EncodedRows, whole

TASK = CausalLM(CausalLMOptions())
WORDS = decoders.WORDS


@pytest.fixture(params=[False, True], ids=["plain", "with a first token"])
def words(request) -> ResponseTokenizer:
    return ResponseTokenizer(decoders.tokenizer(first=request.param))


def read(words: ResponseTokenizer, ids: list[int]) -> list[str]:
    return words.tokenizer.convert_ids_to_tokens(ids)


def row(words: ResponseTokenizer, prompt: str, response: str | None, length: int):
    """Return the tokens of a row after its first token, and those that are learnt."""
    made = words.encode([(prompt, response)], length)
    (ids,), (mask,) = made["input_ids"], made[MASK]
    tokens = [token for token in read(words, ids) if token != "<first>"]
    return tokens, [token for token, part in zip(read(words, ids), mask, strict=True) if part]


def test_the_tokens_of_the_response_and_its_end_are_learnt(words):
    tokens, learnt = row(words, "red shoe", "blue lamp", 16)
    assert tokens == ["red", "shoe", "blue", "lamp", "<end>"]
    assert learnt == ["blue", "lamp", "<end>"]


def test_a_long_prompt_loses_its_beginning_and_the_response_nothing(words):
    prompt = " ".join(["cheap"] * 40 + ["small", "garden"])
    tokens, learnt = row(words, prompt, "blue lamp", 8)
    assert learnt == ["blue", "lamp", "<end>"]
    assert tokens[-5:] == ["small", "garden", "blue", "lamp", "<end>"]
    assert len(words.encode([(prompt, "blue lamp")], 8)["input_ids"][0]) == 8


def test_a_response_that_does_not_fit_has_no_end(words):
    tokens, learnt = row(words, "red", " ".join(WORDS * 3), 8)
    assert learnt == WORDS[:7]
    assert len(words.encode([("red", " ".join(WORDS * 3))], 8)["input_ids"][0]) == 8
    assert tokens[-7:] == WORDS[:7]


def test_the_first_token_of_a_row_is_not_learnt_because_nothing_predicts_it():
    plain = ResponseTokenizer(decoders.tokenizer())
    assert row(plain, "", "blue lamp", 16) == (["blue", "lamp", "<end>"], ["lamp", "<end>"])
    first = ResponseTokenizer(decoders.tokenizer(first=True))
    assert row(first, "", "blue lamp", 16) == (
        ["blue", "lamp", "<end>"],
        ["blue", "lamp", "<end>"],
    )


def test_a_prompt_has_the_same_tokens_with_and_without_a_response(words):
    alone, _ = row(words, "red shoe", None, 16)
    assert row(words, "red shoe", "lamp", 16)[0][: len(alone)] == alone
    assert read(words, words.prompt("red shoe", 10))[-2:] == ["red", "shoe"]
    assert words.prompt("red shoe " * 30, 5)[-1] == words.prompt("shoe", 5)[-1]
    assert len(words.prompt("red shoe " * 30, 5)) == 5
    assert len(words.prompt("", 5)) == 1


def test_texts_far_longer_than_a_row_are_cut_before_they_are_tokenized(words, monkeypatch):
    seen = []
    original = words.tokenizer.__class__.__call__
    monkeypatch.setattr(
        words.tokenizer.__class__,
        "__call__",
        lambda self, texts, **options: (
            seen.extend(map(len, texts)) or original(self, texts, **options)
        ),
    )
    long = "red " * 1_000_000
    (ids,) = words.encode([(f"{long}shoe", long)], 8)["input_ids"]
    assert len(ids) == 8
    assert max(seen) <= 4096


def test_rows_are_padded_on_the_right_without_a_padding_token(words):
    made = tokenize(words, [("red", "blue"), ("red shoe small", "blue lamp")], 16)
    batch = made.batch([0, 1])
    assert batch["attention_mask"][0].tolist() == sorted(batch["attention_mask"][0].tolist())[::-1]
    assert batch["input_ids"][0, -1] == words.end
    assert batch[MASK].sum(dim=1).tolist() == made.sums(MASK).tolist() == [2, 3]
    assert tokenize(words, [], 16).sums(MASK).tolist() == []


def test_the_sum_of_a_row_is_the_cross_entropy_of_its_tokens_with_its_gradient():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, generator=generator).requires_grad_()
    words = torch.randint(5, (2, 3), generator=generator)
    counted = torch.tensor([[True, False, True], [False, True, False]])
    found = sums(logits, words, counted)
    (gradient,) = torch.autograd.grad(found[:, 0].sum(), logits)
    expected = [0.0, 0.0]
    for at, place in ((0, 0), (0, 2), (1, 1)):
        share = logits[at, place].detach().softmax(0)
        expected[at] -= math.log(float(share[words[at, place]]))
        slope = share.clone()
        slope[words[at, place]] -= 1
        assert torch.allclose(gradient[at, place], slope, atol=1e-6)
    assert found[:, 0].tolist() == pytest.approx(expected, rel=1e-5)
    assert found[:, 1].tolist() == [2, 1]
    assert not gradient[0, 1].any()
    assert TASK.predict(found.detach())[:, 0].tolist() == pytest.approx(
        [expected[0] / 2, expected[1]]
    )


def test_perplexity_equals_a_plain_loop_for_any_weights_of_entities():
    rng = np.random.default_rng(2)
    tokens, entity = rng.integers(1, 30, 60), rng.integers(0, 7, 60)
    mean = rng.random(60)
    rows = EncodedRows(tokens[:, None], entity)
    weights = rng.integers(0, 4, (5, rows.entities))
    found = perplexity.statistic(rows, mean[:, None])(weights)
    for sample, value in zip(weights, found, strict=True):
        every = [
            (int(sample[who]), int(count), float(each))
            for who, count, each in zip(entity, tokens, mean, strict=True)
        ]
        total = sum(n * count * each for n, count, each in every)
        assert value == pytest.approx(math.exp(total / sum(n * count for n, count, _ in every)))


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary():
    rows = EncodedRows(np.array([[3], [5]]), np.arange(2))
    found = perplexity.statistic(rows, np.full((2, 1), math.log(50)))
    assert whole(found, rows) == pytest.approx(50)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_likelihood_that_is_not_finite_makes_the_perplexity_undefined(wrong):
    rows = EncodedRows(np.array([[3], [5]]), np.arange(2))
    assert math.isnan(whole(perplexity.statistic(rows, np.array([[1.0], [wrong]])), rows))


def test_the_trivial_baseline_knows_how_frequent_each_token_is():
    words = ResponseTokenizer(decoders.tokenizer())
    made = tokenize(words, [("red", "blue"), ("shoe", "blue lamp"), ("red red", "blue")], 16)
    found = labels(PredictedTokens.of(made))
    # blue 3, lamp 1, the end 3 of 7 tokens; the prompts do not count.
    entropy = -sum(n / 7 * math.log(n / 7) for n in (3, 1, 3))
    assert found[:, 0].tolist() == [2, 3, 2]
    assert TASK.trivial_baseline("perplexity", EncodedRows(found, np.arange(3))) == pytest.approx(
        math.exp(entropy)
    )
    none = labels(PredictedTokens.of(tokenize(words, [], 16)))
    empty = EncodedRows(none, np.empty(0, np.int64))
    assert math.isnan(TASK.trivial_baseline("perplexity", empty))


def test_perplexity_is_a_metric_of_the_api_that_is_better_when_lower():
    TypeAdapter(Metric).validate_python("perplexity")
    assert "perplexity" in LOWER_IS_BETTER & UNBOUNDED & WITHOUT_POSITIVES
    assert value_range("perplexity") == (1.0, math.inf)


def test_rows_need_a_response_that_is_more_than_spaces():
    with pytest.raises(Refused, match="3 of 4 train rows have no response"):
        TASK.check(pa.chunked_array([["hello", "", None, " \n"]], pa.string()), "train rows")
    column = pa.chunked_array([["hello", "you"]])
    assert TASK.check(column, "train rows") is column
    counts = TASK.count(column)
    assert (counts, TASK.positives(counts), TASK.shortage(counts)) == ({"response": 2}, 2, None)


@pytest.mark.parametrize(
    ("options", "length", "expected"),
    [
        ({}, 128, 64),
        ({"max_new_tokens": 20}, 128, 20),
        ({}, 9, 4),
        ({"max_new_tokens": 64}, 16, 15),
    ],
)
def test_a_response_leaves_room_for_the_prompt(options, length, expected):
    assert CausalLMOptions(**options).new_tokens(length) == expected
