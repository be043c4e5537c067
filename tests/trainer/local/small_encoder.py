"""An encoder that knows the words of these tests alone: a run of it takes a second.

What the commands do with real weights is shown by the page that is followed line by line, and by
the run whose form is smaller than its weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from pathlib import Path

LIKED = ["wool coat", "winter boots", "warm scarf", "knitted gloves", "thermal socks"]
OTHER = ["garden hose", "lawn mower", "flower pot", "patio chair", "sun umbrella"]
GIFTS = ["gift card", "wrapping paper", "greeting card", "gift box", "scented candle"]
TOYS = ["toy robot", "wooden train", "teddy bear", "building blocks", "spinning top"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def publish(folder: Path) -> Path:
    """Write a Hugging Face folder without a head; returns it.

    Its weights are larger than those that pretraining begins with, so that words differ at once.
    """
    torch.manual_seed(5)
    words = _tokenizer()
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=256,
        max_position_embeddings=32,
        initializer_range=0.1,
    )
    BertModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    known = {word: None for text in (*LIKED, *OTHER, *GIFTS, *TOYS) for word in text.split()}
    numbers = {word: number for number, word in enumerate([*SPECIAL, *known])}
    made = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])],
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    special = {f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=32, **special)
