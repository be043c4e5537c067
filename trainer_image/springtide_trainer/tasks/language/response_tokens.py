"""Tokens of prompts and responses: what is cut, and which tokens are of the response.

A row is the first token of the model (if it has one), the end of the prompt, the response and the
token that ends it. Prompt and response are tokenized apart, so the tokens of a prompt are the same
with and without a response: the served model reads what it was trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

MASK = "response_mask"
"""The input that is 1 for the tokens of the response which are predicted."""
CHARACTERS_PER_TOKEN = 32
SHORTEST_END = 4096
"""Minimum characters of a long text that are tokenized; more for a higher maximum length."""


class ResponseTokenizer:
    """Encodes pairs of a prompt and a response, in place of a tokenizer of the library.

    A row is padded on the right, where no token sees it, with any token: a model needs no padding
    token.

    Args:
        tokenizer: A fast tokenizer with a token that ends texts.
    """

    model_input_names = ("input_ids", "attention_mask", MASK)
    padding_side = "right"
    pad_token_type_id = 0

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.end = int(tokenizer.eos_token_id)
        self.pad_token_id = self.end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        alone = tokenizer("")["input_ids"]
        self._first = alone[:1] if alone[:1] == [tokenizer.bos_token_id] else []

    def get_vocab(self) -> dict[str, int]:
        """Return the number of each token."""
        known: dict[str, int] = self.tokenizer.get_vocab()
        return known

    def encode(
        self, pairs: Sequence[tuple[str, str | None]], max_length: int
    ) -> dict[str, list[list[int]]]:
        """Encode rows: the tokens of each, and the mask of its response.

        A response is kept as far as it fits beside one token before it; a prompt is cut at its
        beginning. A response that is cut has no token that ends it.

        Args:
            pairs: Prompts and responses; a row without a response is its prompt.
            max_length: Maximum tokens of a row.
        """
        words: list[list[int]] = []
        masks: list[list[int]] = []
        prompts = self._words([_end(prompt, max_length) for prompt, _ in pairs])
        beginnings = [_beginning(response or "", max_length) for _, response in pairs]
        responses = self._words(beginnings)
        for (_, given), prompt, response in zip(pairs, prompts, responses, strict=True):
            answer = [] if given is None else [*response, self.end][: max_length - 1]
            before = self._before(prompt, max_length - len(answer))
            words.append([*before, *answer])
            # Nothing predicts the first token of a row.
            masks.append([0] * len(before) + [1] * len(answer))
            masks[-1][:1] = [0]
        return {"input_ids": words, MASK: masks}

    def prompt(self, text: str, most: int) -> list[int]:
        """Return the tokens of a prompt, at least one: its last `most` ones."""
        (words,) = self._words([_end(text, most)])
        return self._before(words, most) or [self.end]

    def text(self, words: Sequence[int]) -> str:
        """Return the text of generated tokens, up to the one that ends it."""
        kept = list(words)
        if self.end in kept:
            kept = kept[: kept.index(self.end)]
        made = self.tokenizer.decode(
            kept, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(made)

    def _before(self, prompt: list[int], most: int) -> list[int]:
        """Return what comes before a response: the first token, and the end of the prompt."""
        room = most - len(self._first)
        return [*self._first, *prompt[max(0, len(prompt) - room) :]]

    def _words(self, texts: list[str]) -> list[list[int]]:
        made: Any = self.tokenizer(texts, add_special_tokens=False, verbose=False)
        found: list[list[int]] = made["input_ids"]
        return found


def _end(text: str, tokens: int) -> str:
    """Return the end of a text, with more than this many tokens."""
    return text[-max(SHORTEST_END, CHARACTERS_PER_TOKEN * tokens) :]


def _beginning(text: str, tokens: int) -> str:
    """Return the beginning of a text, with more than this many tokens."""
    return text[: max(SHORTEST_END, CHARACTERS_PER_TOKEN * tokens)]
