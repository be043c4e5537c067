"""Hidden tokens and swapped words: which, of which rows, and always the same ones."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from trainer.architectures import ARCHITECTURES
from trainer.training.conftest import SPECIAL, tokenizer
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from springtide_api.update.robustness import Augmentation as Options
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path
from springtide_trainer.training import fit, session
from springtide_trainer.training.robustness.augmentation import (
    Augmentation,
    Vocabulary,
    hidden,
    swapped,
)
from springtide_trainer.training.rows import training_rows

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_trainer.training.session import Session

TEXTS = ["the lovely shoes for walking", "a lampshade very blue", "walking shoes the blue lamp"]
BOTH = {"augmentation": {"tokenDropout": "0.2", "wordSwap": "0.2"}}
SGD = {"batchSize": 8, "gradientAccumulation": 4, "optimizer": "SGD", "learningRate": "0.5"}


def trained_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Train a tokenizer whose tokens are parts of words."""
    rare = {"vocab_size": 45, "special_tokens": SPECIAL, "show_progress": False}
    match kind:
        case "WordPiece":
            made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
            made.pre_tokenizer, trainer = (
                pre_tokenizers.Whitespace(),
                trainers.WordPieceTrainer(**rare),
            )
        case "bytes":
            made = Tokenizer(models.BPE())
            made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
            trainer = trainers.BpeTrainer(**rare)
        case _:
            made = Tokenizer(models.Unigram())
            made.normalizer = normalizers.Lowercase()
            made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
            trainer = trainers.UnigramTrainer(**rare, unk_token="[UNK]")
    made.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]")


def test_the_numbers_of_tokens_may_have_gaps():
    words = json.loads(tokenizer().backend_tokenizer.to_str())
    words["model"]["vocab"]["good"] = 70
    gaps = Tokenizer.from_str(json.dumps(words))
    made = PreTrainedTokenizerFast(tokenizer_object=gaps, unk_token="[UNK]", pad_token="[PAD]")
    assert len(made) < 70
    known = Vocabulary.of(made)
    assert known.ordinary[70]
    assert known.begins[70]


@pytest.mark.parametrize("kind", ["WordPiece", "bytes", "SentencePiece"])
def test_words_begin_where_the_tokenizer_says(kind):
    words = trained_tokenizer(kind)
    known, several = Vocabulary.of(words), 0
    for text in TEXTS:
        encoded = words(text)
        numbers = np.array(encoded.word_ids())
        expected = np.append(True, np.diff(numbers) > 0)
        assert np.array_equal(known.begins[encoded["input_ids"]], expected)
        several += int((~expected).sum())
    assert several > 3, "words of several tokens"
    assert known.ordinary.sum() == len(words) - 1, "all but [PAD]"


def test_special_tokens_are_not_ordinary_and_an_unknown_word_is():
    known = Vocabulary.of(tokenizer())
    assert [SPECIAL[place] for place in np.flatnonzero(~known.ordinary)] == [
        "[PAD]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
    ]
    assert known.begins.all()


def test_tokens_that_mark_the_end_of_a_word_are_refused():
    made = Tokenizer(models.BPE({"a": 0, "b</w>": 1, "c</w>": 2}, [], end_of_word_suffix="</w>"))
    with pytest.raises(Refused, match="wordSwap needs their beginnings"):
        Vocabulary.of(PreTrainedTokenizerFast(tokenizer_object=made))


ROWS = st.lists(st.sampled_from("wc|"), min_size=1, max_size=30).map("".join)
"""Tokens of a row: the first one of a word, a later one, and a special one."""


def parts(row: str, order: Any) -> list[list[tuple[int, ...]]]:
    """Return the words of each text, each as the places of its tokens."""
    found: list[list[tuple[int, ...]]] = [[]]
    for place, token in zip(order, row, strict=True):
        kind = row[place]
        if token == "|":
            found.append([])
        elif kind == "w" or not found[-1] or place != found[-1][-1][-1] + 1:
            found[-1].append((int(place),))
        else:
            found[-1][-1] += (int(place),)
    return found


@given(ROWS, st.floats(0, 0.5), st.integers(0, 99))
def test_words_are_swapped_whole_and_within_their_text(row, share, seed):
    kinds = np.array(list(row))
    order = swapped(kinds != "|", kinds == "w", share, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(row)))
    assert np.array_equal(order[kinds == "|"], np.flatnonzero(kinds == "|"))
    for before, after in zip(parts(row, range(len(row))), parts(row, order), strict=True):
        assert sorted(before) == sorted(after)


def test_share_times_words_pairs_are_swapped_on_average():
    words, moved = np.ones(20, bool), []
    for seed in range(2000):
        order = swapped(words, words, 0.05, np.random.default_rng(seed))
        moved.append(np.count_nonzero(order != np.arange(20)))
    assert np.mean(moved) == pytest.approx(2, abs=0.05), "one swap of two words"
    for seed in range(200):
        order = swapped(words, words, 0.025, np.random.default_rng(seed))
        assert np.count_nonzero(order != np.arange(20)) in (0, 2)


def test_each_token_is_hidden_with_the_same_chance_and_never_all_of_a_row():
    places = np.arange(3, 13)
    found = [hidden(places, 0.3, np.random.default_rng(seed)) for seed in range(3000)]
    counts = np.bincount(np.concatenate(found), minlength=13)
    assert (counts[:3] == 0).all()
    np.testing.assert_allclose(counts[3:] / 3000, 0.3, atol=0.04)
    assert len(hidden(np.array([5]), 0.5, np.random.default_rng(1))) == 0
    assert max(len(hidden(places[:2], 0.5, np.random.default_rng(n))) for n in range(99)) == 1


def augmentation(seed: int = 17, **options: str) -> Augmentation:
    return Augmentation(Options(**options), Vocabulary.of(tokenizer()), seed)


def test_a_row_is_changed_by_seed_epoch_and_row_alone_whatever_its_batch():
    made = augmentation(token_dropout="0.2", word_swap="0.2")
    ids = torch.tensor([[2, *range(5, 15), 3], [2, *range(8, 18), 3]])
    ones = torch.ones_like(ids)
    given_rows = np.array([40, 7])
    batch = {"input_ids": ids, "token_type_ids": ones * 0, "attention_mask": ones}
    found = made(batch, given_rows, 3)
    padded = {name: torch.cat([value[1:], value[1:] * 0], 1) for name, value in batch.items()}
    alone = made(padded, given_rows[1:], 3)

    for name in batch:
        assert torch.equal(alone[name][0, :12], found[name][1])
        assert alone[name][0, 12:].eq(0).all()
    assert torch.equal(ids[0, 1:11], torch.arange(5, 15)), "the batch is not changed in place"
    assert sorted(found["input_ids"][0].tolist()) == sorted(ids[0].tolist())
    assert found["attention_mask"][:, [0, 11]].eq(1).all()
    others = [made(batch, given_rows, 4), made(batch, given_rows[::-1], 3)]
    others.append(augmentation(18, token_dropout="0.2", word_swap="0.2")(batch, given_rows, 3))
    for other in others:
        assert any(not torch.equal(other[name], found[name]) for name in batch)


def test_the_texts_of_a_pair_keep_their_words_and_their_types():
    made, types = augmentation(word_swap="0.5"), [0] * 5 + [1] * 5
    ids = torch.tensor([[2, 5, 6, 7, 3, 8, 9, 10, 11, 3]])
    batch = {"input_ids": ids, "token_type_ids": torch.tensor([types])}
    batch["attention_mask"] = torch.ones_like(ids)
    orders = set()
    for epoch in range(20):
        found = made(batch, np.array([0]), epoch)
        tokens = found["input_ids"][0].tolist()
        orders.add(tuple(tokens))
        assert sorted(tokens[1:4]) == [5, 6, 7]
        assert sorted(tokens[5:9]) == [8, 9, 10, 11]
        assert found["token_type_ids"][0].tolist() == types
        assert torch.equal(found["attention_mask"], batch["attention_mask"])
    assert len(orders) > 5


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_hidden_token_has_no_effect_and_leaves_no_nan(name):
    """Also the first one of a decoder, before which there is nothing to attend to."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(ARCHITECTURES[name])
    model.eval()
    ids = torch.tensor([[11, 12, 13, 14, 15, 16], [21, 22, 23, 24, 25, 26]])
    mask = torch.ones_like(ids)
    first = 0 if name in ("gpt2", "llama") else 1  # of an encoder, it is a special token
    mask[0, first : first + 2] = mask[1, 3] = 0
    other = ids.clone()
    other[0, first : first + 2] = other[1, 3] = 50
    logits = model(input_ids=ids, attention_mask=mask).logits
    logits.sum().backward()
    assert all(each.grad.isfinite().all() for each in model.parameters() if each.grad is not None)
    assert logits.isfinite().all()
    changed = model(input_ids=other, attention_mask=mask).logits
    torch.testing.assert_close(changed, logits, atol=1e-5, rtol=1e-4)


def prepared(world: Any, scratch: Path, **training: Any) -> Session:
    run, parent = world.run_file(**training), local_path(world.parent.uri)
    rows = training_rows.load(*world.data, run.recipe, parent=parent, scratch=scratch)
    return session.prepare(run, rows, parent, device=torch.device("cpu"), scratch=scratch)


def test_each_epoch_changes_training_rows_and_no_validation_row(world, tmp_path):
    stopping = {"everySteps": 100}
    tuned = {"hyperparameters": {"batchSize": 16, "epochs": 2}, "earlyStopping": stopping}
    made = prepared(world, tmp_path, robustness=BOTH, **tuned)
    plain = prepared(world, tmp_path, **tuned)
    per_epoch, changed = made.sampler.steps_per_epoch, [0, 0]
    whole = list(fit._steps(made, 1))
    for step, other in zip(whole, fit._steps(plain, 1), strict=True):
        for batch, before in zip(step.batches, other.batches, strict=True):
            assert torch.equal(batch.labels, before.labels)
            masks = batch.inputs["attention_mask"], before.inputs["attention_mask"]
            changed[0] += int((masks[0] != masks[1]).sum())
            changed[1] += int((batch.inputs["input_ids"] != before.inputs["input_ids"]).sum())
    assert min(changed) > 100
    rows = made.rows.examples.tokens, made.rows.validation
    assert torch.equal(
        rows[0].batch(rows[1])["input_ids"],
        plain.rows.examples.tokens.batch(plain.rows.validation)["input_ids"],
    )
    again = list(fit._steps(made, per_epoch))
    assert [step.number for step in again] == [step.number for step in whole[per_epoch - 1 :]]
    for step, same in zip(again, whole[per_epoch - 1 :], strict=True):
        for one, other in zip(step.batches, same.batches, strict=True):
            assert torch.equal(one.inputs["input_ids"], other.inputs["input_ids"])
            assert torch.equal(one.inputs["attention_mask"], other.inputs["attention_mask"])


def weights(made: Any) -> torch.Tensor:
    values = load_file(local_path(made.artifact.uri) / "model.safetensors").values()
    return torch.cat([value.flatten() for value in values])


def test_halved_passes_give_the_same_weights_within_rounding(world):
    more = {"hyperparameters": {**SGD, "precision": "FP32"}, "robustness": BOTH}
    whole, halved = (
        weights(world.train(world.run_file(f"of-{divisor}", divisor=divisor, **more)))
        for divisor in (1, 8)
    )
    torch.testing.assert_close(halved, whole, atol=1e-5, rtol=0)
    plain = weights(world.train(world.run_file("plain", hyperparameters=more["hyperparameters"])))
    effect, rounding = ((each - whole).abs().max() for each in (plain, halved))
    assert effect > 50 * rounding


def test_a_resumed_training_gives_the_same_weights(world):
    more = {
        "hyperparameters": {**SGD, "dropout": "0.1", "epochs": 2},
        "checkpoint": {"everySteps": 5, "keep": 9},
        "robustness": BOTH,
    }
    whole = world.train(world.run_file("whole", **more)).artifact
    for folder in world.home.checkpoints(1).iterdir():
        if folder.name != "step-000000010":
            shutil.rmtree(folder)
    assert world.train(world.run_file("resumed", **more)).artifact.digest == whole.digest
