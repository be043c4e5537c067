"""Importing tokenizers: padding, numbers of tokens, and the limit of positions."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from trainer import decoders
from trainer.training.test_import import edit
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    FNetConfig,
    FNetModel,
    GPT2Config,
    GPT2Model,
    RobertaConfig,
    RobertaModel,
    XLNetConfig,
    XLNetModel,
)

from springtide_api.contract import RunFile
from springtide_trainer.artifact.models import load
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from pathlib import Path


def decoder(folder: Path, pad_token_id: int | None) -> Path:
    """Write a decoder as a Hugging Face folder."""
    words = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(4)
    config = GPT2Config(
        vocab_size=len(words), n_embd=32, n_layer=2, n_head=2, n_positions=32, bos_token_id=2
    )
    config.eos_token_id, config.pad_token_id = 3, pad_token_id
    shutil.rmtree(folder)
    GPT2Model(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.mark.survives(
    "Model",
    "a decoder whose pad_token_id is missing or not its tokenizer's",
    "refused at import with both numbers and what to write",
)
@pytest.mark.parametrize("pad_token_id", [None, 4])
def test_a_decoder_without_the_right_padding_token_is_refused(
    published, import_folder, pad_token_id
):
    with pytest.raises(Refused, match=f"pad_token_id is {pad_token_id}, .* is 0;") as refused:
        import_folder(decoder(published, pad_token_id))
    assert refused.value.failure.reason == "MissingPadToken"
    assert '"pad_token_id": 0' in refused.value.failure.message


def test_scores_of_a_decoder_do_not_depend_on_padding(published, import_folder):
    made = import_folder(decoder(published, 0))
    scorer = load(local_path(made.uri), made.digest)
    texts = [("good", None), ("bad lamp for the red dress", None), ("a very fine shoe", None)]
    for text, row in zip(texts, scorer.predict(texts), strict=True):
        assert scorer.predict([text])[0] == pytest.approx(row, abs=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_with_a_position_for_each_column_is_padded_on_the_right(
    published, import_folder, side
):
    edit(decoder(published, 0) / "tokenizer_config.json", padding_side=side)
    made = import_folder(published)
    scorer = load(local_path(made.uri), made.digest)
    assert scorer.tokenizer.padding_side == "right"
    texts = [("good", None), ("bad lamp for the red dress", None), ("a very fine shoe", None)]
    for text, row in zip(texts, scorer.predict(texts), strict=True):
        assert scorer.predict([text])[0] == pytest.approx(row, abs=1e-6)


@pytest.mark.survives(
    "Model",
    "a model whose scores depend on padding, because it does not read the attention mask",
    "refused at import",
)
def test_a_model_whose_scores_depend_on_padding_is_refused(published, import_folder):
    words = AutoTokenizer.from_pretrained(published)
    shutil.rmtree(published)
    torch.manual_seed(4)
    config = FNetConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    FNetModel(config).save_pretrained(published)
    words.save_pretrained(published)
    with pytest.raises(Refused, match="'fnet' depend on the padding of a row") as refused:
        import_folder(published)
    assert refused.value.failure.reason == "UnsupportedModel"


@pytest.mark.survives(
    "Data",
    "an empty text, where the tokenizer adds no special tokens",
    "read as one token; its score does not depend on the rows beside it",
)
def test_an_empty_text_has_one_score_where_a_tokenizer_adds_no_tokens(tmp_path, import_folder):
    words = decoders.tokenizer()
    words.pad_token = decoders.END
    torch.manual_seed(4)
    config = GPT2Config(
        vocab_size=len(words), n_embd=32, n_layer=2, n_head=2, n_positions=32, bos_token_id=1
    )
    config.eos_token_id = config.pad_token_id = 1
    GPT2Model(config).save_pretrained(tmp_path / "bare")
    words.save_pretrained(tmp_path / "bare")
    made = import_folder(tmp_path / "bare")
    scorer = load(local_path(made.uri), made.digest)
    alone = scorer.predict([("", None)])
    beside = scorer.predict([("", None), ("red shoe for winter", None), (" ", None)])
    assert alone[0] == pytest.approx(beside[0], abs=1e-6)
    assert alone[0] == pytest.approx(beside[2], abs=1e-6)


def test_a_max_length_above_the_models_limit_is_refused(published, import_folder):
    edit(published / "config.json", max_position_embeddings=8)
    edit(published / "tokenizer_config.json", model_max_length=8)
    with pytest.raises(Refused):
        import_folder(published)


def test_a_max_length_above_the_tokenizers_limit_is_refused_with_both_numbers(
    published, import_folder
):
    edit(published / "tokenizer_config.json", model_max_length=8)
    with pytest.raises(Refused, match="maxLength is 16, the model's limit 8 tokens") as refused:
        import_folder(published)
    assert refused.value.failure.field == "spec.model.maxLength"


def test_positions_of_roberta_start_after_the_padding_token(published, import_folder):
    words = AutoTokenizer.from_pretrained(published)
    config = RobertaConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    shutil.rmtree(published)
    words.save_pretrained(published)
    RobertaModel(config).save_pretrained(published)
    with pytest.raises(Refused, match="maxLength is 16, the model's limit 15 tokens"):
        import_folder(published)
    config.max_position_embeddings = 17
    RobertaModel(config).save_pretrained(published)
    made = import_folder(published)
    longest = load(local_path(made.uri), made.digest).predict([("good " * 40, None)])
    assert longest.shape == (1, 2)


def test_token_numbers_with_gaps_are_stored_and_bounded_by_the_highest(published, import_folder):
    words = json.loads((published / "tokenizer.json").read_text())
    words["model"]["vocab"]["good"] = 70_000
    (published / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(Refused, match="numbers tokens up to 70,001, the model has 23") as refused:
        import_folder(published)
    assert refused.value.failure.reason == "UnsupportedTokenizer"

    config = BertConfig.from_pretrained(published)
    config.vocab_size = 70_001
    BertModel(config).save_pretrained(published)
    made = import_folder(published)
    scores = load(local_path(made.uri), made.digest).predict([("good", None), ("bad", None)])
    assert scores.shape == (2, 2)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_model_of_relative_positions_has_no_limit_and_is_padded_where_its_head_does_not_read(
    published, import_folder, side
):
    words = AutoTokenizer.from_pretrained(published)
    shutil.rmtree(published)
    config = XLNetConfig(
        vocab_size=len(words), d_model=32, n_layer=1, n_head=2, d_inner=64, pad_token_id=0
    )
    XLNetModel(config).save_pretrained(published)
    words.save_pretrained(published)
    edit(published / "tokenizer_config.json", padding_side=side)
    made = import_folder(published)
    scorer = load(local_path(made.uri), made.digest)
    assert scorer.tokenizer.padding_side == "left"
    texts = [("good", None), ("bad lamp for the red dress", None)]
    for text, row in zip(texts, scorer.predict(texts), strict=True):
        assert scorer.predict([text])[0] == pytest.approx(row, abs=1e-5)


def test_a_max_length_that_is_raised_above_the_models_limit_stops_the_training(world):
    run = world.run_file().model_dump(mode="json", by_alias=True, exclude_none=True)
    run["recipe"]["model"]["maxLength"] = 33
    with pytest.raises(Refused, match="maxLength is 33, the model's limit 32 tokens") as refused:
        world.train(RunFile.model_validate(run))
    assert refused.value.failure.field == "spec.model.maxLength"
