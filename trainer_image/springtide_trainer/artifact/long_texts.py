"""Shortens very long texts before they are tokenized.

Tokenizers truncate to `max_length` only after tokenizing everything: 4 MiB of short words took 8 s
and 1.2 GB. The shortened text has the same first `max_length` tokens as the whole text; the same
last ones, where a tokenizer truncates the beginnings of texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CHARACTERS_PER_TOKEN = 32
SHORTEST_PIECE = 4096
"""Minimum characters of a piece; a piece has CHARACTERS_PER_TOKEN for each token that is kept."""
LONGEST_WORD = 128
"""Maximum tokens of a part of a word whose whole is one unknown token: WordPiece does not split
words of more than 100 characters."""


def shorten(
    text: str, max_length: int, count: Callable[[str], int], *, keep_end: bool = False
) -> str:
    """Return a prefix of the text that has the same first `max_length` tokens.

    Texts of one piece are returned unchanged. If both texts of a pair are longer, the tokenizer
    divides `max_length` between them as for the whole texts, up to one token.

    Args:
        text: Any text.
        max_length: Number of tokens that are kept.
        count: Returns the number of tokens of a text, without special tokens.
        keep_end: Return the end of the text instead, with the same last tokens.
    """
    piece = max(SHORTEST_PIECE, CHARACTERS_PER_TOKEN * max_length)
    if len(text) <= piece:
        return text
    end, tokens, last = (len(text), 0, 0) if keep_end else (0, 0, len(text))
    following = _boundary_before if keep_end else _boundary
    while end != last and tokens < max_length + LONGEST_WORD:
        start, end = end, following(text, end, piece)
        cuts = _inside_word(text, start) + _inside_word(text, end)
        tokens += max(0, count(text[min(start, end) : max(start, end)]) - cuts * LONGEST_WORD)
    return text[end:] if keep_end else text[:end]


def _boundary_before(text: str, end: int, piece: int) -> int:
    """Return the start of the piece that ends here: at a space if it has one."""
    start = end - piece
    if start <= 0:
        return 0
    space = text.find(" ", start, end - 1)
    return start if space < 0 else space


def _boundary(text: str, start: int, piece: int) -> int:
    """Return the end of a piece: before a space if it has one, so that no word is split."""
    end = start + piece
    if end >= len(text):
        return len(text)
    space = text.rfind(" ", start + 1, end)
    return end if space < 0 else space


def _inside_word(text: str, place: int) -> bool:
    return 0 < place < len(text) and text[place] != " "
