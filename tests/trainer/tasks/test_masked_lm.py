"""Which tokens of a text are hidden, their likelihood, and the metrics, by plain computations."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from trainer.training.conftest import PLAIN, SPECIAL, tokenizer
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

from springtide_api.update.gate import Metric
from springtide_judging.bounds import LOWER_IS_BETTER, WITHOUT_POSITIVES, value_range
from springtide_trainer.artifact.tokens import tokenize
from springtide_trainer.evaluation.predicted_tokens import PredictedTokens, labels
from springtide_trainer.tasks.language import masked_encoder
from springtide_trainer.tasks.language.masked_lm import MaskedLM
from springtide_trainer.tasks.language.masked_tokens import (
    CHOSEN,
    ORIGINAL,
    FreshMasks,
    MaskingTokenizer,
)
from springtide_trainer.tasks.metrics.statistic import UNDEFINED, EncodedRows, whole

TASK = MaskedLM()
LONG = " ".join(PLAIN * 20)
COUNT = round(0.15 * 200)


@pytest.fixture
def words() -> MaskingTokenizer:
    return MaskingTokenizer(tokenizer())


def texts(count: int) -> list[tuple[str, None]]:
    rng = np.random.default_rng(1)
    return [(" ".join(rng.choice(PLAIN, rng.integers(1, 14))), None) for _ in range(count)]


def test_of_the_chosen_tokens_80_percent_are_masked_10_replaced_and_10_stay(words):
    plain = np.array(tokenizer()(LONG)["input_ids"])
    mask, kinds, places = tokenizer().mask_token_id, Counter(), Counter()
    for seed in range(400):
        found, chosen = words.masks.hide(plain, np.random.default_rng(seed))
        assert chosen.sum() == COUNT
        assert (found[~chosen] == plain[~chosen]).all()
        places.update(np.flatnonzero(chosen).tolist())
        kinds["masked"] += int((found[chosen] == mask).sum())
        kinds["same"] += int((found[chosen] == plain[chosen]).sum())
        assert not np.isin(found, [0, 1]).any(), "no token is replaced by a special one"
    total = 400 * COUNT
    assert kinds["masked"] / total == pytest.approx(0.8, abs=0.015)
    # One of the 18 ordinary tokens replaces a token, so it may be the same one.
    assert kinds["same"] / total == pytest.approx(0.1 + 0.1 / 18, abs=0.015)
    assert set(places) == set(range(1, 201)), "each but the special tokens"
    assert max(places.values()) / 400 < 0.15 + 0.07


@pytest.mark.parametrize(("length", "expected"), [(0, 0), (1, 1), (6, 1), (10, 2), (13, 2)])
def test_each_text_has_at_least_one_hidden_token_if_it_has_a_token(words, length, expected):
    text = " ".join((PLAIN * 2)[:length])
    assert tokenize(words, [(text, None)], 32).sums(CHOSEN).tolist() == [expected]
    unknown = tokenize(words, [("what is unknown here", None)], 32)
    assert unknown.sums(CHOSEN).tolist() == [0], "[UNK] is special"


def test_a_row_has_the_same_hidden_tokens_beside_any_rows_and_others_in_each_epoch(words):
    rows = texts(40)
    alone = tokenize(words, rows[7:8], 32)
    every = tokenize(words, rows, 32)
    for name in ("input_ids", CHOSEN, ORIGINAL):
        whole_row = every.values[name][every.starts[7] : every.starts[8]]
        assert whole_row.tolist() == alone.values[name].tolist()
    assert tokenize(tokenizer(), rows, 32).values["input_ids"].tolist() == (
        every.values[ORIGINAL].tolist()
    )

    fresh, chosen = FreshMasks(words.masks, seed=5), np.array([7, 3, 21])
    batch = every.batch(chosen)
    first, again, second = (fresh(batch, chosen, epoch) for epoch in (0, 0, 1))
    other = fresh(every.batch(chosen[::-1]), chosen[::-1], 0)
    for name in batch:
        assert torch.equal(first[name], again[name])
        assert torch.equal(first[name], other[name].flip(0))
    assert not torch.equal(first[CHOSEN], second[CHOSEN])
    assert not torch.equal(first[CHOSEN], batch[CHOSEN])
    assert not torch.equal(first[CHOSEN], FreshMasks(words.masks, seed=6)(batch, chosen, 0)[CHOSEN])
    for made in (first, second):  # the divisor of a step is known before its tokens are hidden
        assert made[CHOSEN].sum(dim=1).tolist() == every.sums(CHOSEN)[chosen].tolist()
        assert (made[CHOSEN] <= made["attention_mask"]).all()
        assert torch.equal(made[ORIGINAL], batch[ORIGINAL])


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_the_loss_is_that_of_transformers_on_the_same_tokens_with_its_gradient(
    words, tmp_path, kind
):
    torch.manual_seed(0)
    size = {"vocab_size": len(tokenizer()), "max_position_embeddings": 32}
    if kind == "bert":
        config = BertConfig(
            **size,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            initializer_range=0.3,
        )
        BertForMaskedLM(config).save_pretrained(tmp_path)
        plain = BertForMaskedLM.from_pretrained(tmp_path).eval()
    else:
        config = DistilBertConfig(**size, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
        DistilBertForMaskedLM(config).save_pretrained(tmp_path)
        plain = DistilBertForMaskedLM.from_pretrained(tmp_path).eval()
    own = TASK.load(tmp_path).eval()
    batch = tokenize(words, texts(8), 32).batch(range(8))
    if kind == "distilbert":
        batch.pop("token_type_ids", None)
    labels = torch.where(batch[CHOSEN] == 1, batch[ORIGINAL], -100)
    known = {name: value for name, value in batch.items() if name not in {CHOSEN, ORIGINAL}}

    expected = plain(**known, labels=labels)
    found = own(**batch).logits
    assert found[:, 2].tolist() == (labels != -100).sum(dim=1).tolist()
    loss = found[:, 0].sum() / found[:, 2].sum()
    assert loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
    right = (expected.logits.argmax(dim=-1) == labels).sum(dim=1)
    assert found[:, 1].tolist() == right.tolist()
    assert torch.allclose(own(**known).logits, expected.logits), "other passes are as they were"

    loss.backward()
    expected.loss.backward()
    for (name, weight), other in zip(own.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(weight.grad, other.grad, atol=1e-6), name


def test_a_head_that_does_not_call_its_last_layer_has_the_same_sums():
    """As that of MobileBERT: its logits are those of all tokens."""
    chosen = torch.tensor([[False, True, True], [True, False, False]])
    words, logits = torch.arange(6).reshape(2, 3), torch.randn(2, 3, 6)
    masked_encoder._CHOSEN.set((chosen, words))
    made = masked_encoder._after(None, (), type("Output", (), {"logits": logits}))
    expected = masked_encoder.sums(logits[chosen], words[chosen], chosen)
    assert torch.equal(made.logits, expected)
    losses = -logits.log_softmax(dim=-1)
    first = losses[0, 1, 1] + losses[0, 2, 2]
    assert made.logits[:, 0].tolist() == pytest.approx([float(first), float(losses[1, 0, 3])])


def test_accuracy_and_perplexity_equal_a_plain_loop_for_any_weights_of_entities():
    rng = np.random.default_rng(2)
    tokens, entity = rng.integers(1, 9, 60), rng.integers(0, 7, 60)
    right = rng.integers(0, tokens + 1)
    mean = rng.random(60)
    rows = EncodedRows(np.stack([tokens, tokens, tokens], axis=1), entity)
    predictions = np.stack([mean, right / tokens], axis=1)
    weights = rng.integers(0, 4, (5, rows.entities))
    shares = TASK.statistic("masked_accuracy", rows, predictions)(weights)
    values = TASK.statistic("perplexity", rows, predictions)(weights)
    for sample, share, value in zip(weights, shares, values, strict=True):
        times = sample[entity]
        assert share == pytest.approx((times * right).sum() / (times * tokens).sum())
        total = (times * mean * tokens).sum() / (times * tokens).sum()
        assert value == pytest.approx(math.exp(total))


def test_rows_without_a_hidden_token_make_the_metrics_undefined():
    rows = EncodedRows(np.zeros((2, 3)), np.arange(2))
    assert TASK.statistic("masked_accuracy", rows, np.zeros((2, 2))) is UNDEFINED
    assert math.isnan(whole(TASK.statistic("perplexity", rows, np.zeros((2, 2))), rows))
    for metric in TASK.metrics:
        assert math.isnan(TASK.trivial_baseline(metric, rows))
        empty = EncodedRows(np.empty((0, 3)), np.empty(0, np.int64))
        assert math.isnan(TASK.trivial_baseline(metric, empty))


def test_the_trivial_baseline_knows_how_frequent_each_hidden_token_is(words):
    made = tokenize(words, texts(300), 32)
    hidden = Counter(made.values[ORIGINAL][made.values[CHOSEN].astype(bool)].tolist())
    shares = np.array([*hidden.values()]) / hidden.total()
    rows = EncodedRows(labels(PredictedTokens.of(made)), np.arange(300))
    assert rows.label[:, 0].tolist() == made.sums(CHOSEN).tolist()
    assert TASK.trivial_baseline("perplexity", rows) == pytest.approx(
        math.exp(-(shares * np.log(shares)).sum())
    )
    assert TASK.trivial_baseline("masked_accuracy", rows) == pytest.approx(shares.max())
    assert labels(PredictedTokens.of(tokenize(words, [], 32))).shape == (0, 3)


def test_hidden_tokens_of_parts_are_described_as_those_of_all_rows(words):
    rows = [*texts(300), ("", None)]
    cuts = (rows[:7], rows[7:200], rows[200:200], rows[200:])
    parts = [PredictedTokens.of(tokenize(words, part, 32)) for part in cuts]
    whole = labels(PredictedTokens.of(tokenize(words, rows, 32)))
    assert np.array_equal(labels(PredictedTokens.join(parts)), whole)
    assert whole[-1].tolist() == [0, 0, 0], "a row without a token"


def test_masked_accuracy_is_a_metric_of_the_api_that_is_better_when_higher():
    TypeAdapter(Metric).validate_python("masked_accuracy")
    assert "masked_accuracy" in WITHOUT_POSITIVES - LOWER_IS_BETTER
    assert value_range("masked_accuracy") == (0.0, 1.0)


def test_special_tokens_are_those_of_the_tokenizer(words):
    known = tokenizer().get_vocab()
    special = {known[token] for token in SPECIAL}
    assert {*words.masks.words.tolist()} == {*known.values()} - special
    assert np.flatnonzero(words.masks.ordinary).tolist() == words.masks.words.tolist()
