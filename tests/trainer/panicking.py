"""A library in Rust that panics: a tokenizer, on characters of two bytes."""

from tokenizers import Tokenizer, models, normalizers

WORD = "\u200c"
"""A word that a BERT's normalizer makes nothing of: it then matches in the middle of characters."""
TEXT = "shoe for \u00a3 5"
"""What a tokenizer with this word panics on."""


def panic() -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, "[UNK]"))
    words.normalizer = normalizers.BertNormalizer()
    words.add_tokens([WORD])
    words.encode(TEXT)
