"""Small decoders as Hugging Face folders: GPT-2, with the weights of its head those of its words
and without a padding token, and Llama, with a head of its own and a first token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WORDS = ["red", "blue", "shoe", "dress", "lamp", "garden", "winter", "small", "cheap", "kids"]
END = "<end>"
POSITIONS = 48


def tokenizer(words: Sequence[str] = WORDS, *, first: bool = False) -> PreTrainedTokenizerFast:
    """Return a tokenizer of words; with `first`, each text begins with a token of the model."""
    every = ["<unk>", END, *(["<first>"] if first else []), *words]
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(every)}, "<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "eos_token": END}
    if first:
        made.post_processor = processors.TemplateProcessing(
            single="<first> $A", special_tokens=[("<first>", 2)]
        )
        special["bos_token"] = "<first>"
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=POSITIONS, **special)


def decoder(vocabulary: int, *, llama: bool = False, spread: float = 0.1, seed: int = 3) -> Any:
    torch.manual_seed(seed)
    if llama:
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                intermediate_size=64,
                max_position_embeddings=POSITIONS,
                initializer_range=spread,
                bos_token_id=2,
                eos_token_id=1,
                tie_word_embeddings=False,
            )
        )
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_embd=32,
            n_layer=2,
            n_head=2,
            n_positions=POSITIONS,
            initializer_range=spread,
            bos_token_id=1,
            eos_token_id=1,
        )
    )


def publish(
    folder: Path, words: Sequence[str] = WORDS, *, llama: bool = False, **options: Any
) -> Path:
    """Write a random decoder."""
    known = tokenizer(words, first=llama)
    decoder(len(known), llama=llama, **options).save_pretrained(folder)
    known.save_pretrained(folder)
    return folder
