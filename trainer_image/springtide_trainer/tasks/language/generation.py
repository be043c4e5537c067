"""Generates responses: the most probable token of each step, until the one that ends a response.

Greedy, so that the response to a prompt is a function of the weights. Settings of the imported
model, such as a temperature, are not used: they are not what was evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, StoppingCriteria

from springtide_trainer.tasks.prompt import with_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from springtide_trainer.tasks.language.response_tokens import ResponseTokenizer

UNFINISHED = "\ufffd"
"""What a text ends with whose last character has further bytes."""


@dataclass(frozen=True)
class Limits:
    """How long prompts and responses are.

    Attributes:
        length: Maximum tokens of prompt and response together.
        new: Maximum tokens of a response.
    """

    length: int
    new: int

    def at_most(self, new: int | None) -> Limits:
        """Return the limits of a request that may ask for less."""
        return self if new is None else Limits(self.length, min(new, self.new))


def responses(
    model: Any,
    tokenizer: ResponseTokenizer,
    prompts: Sequence[str],
    limits: Limits,
    observe: Callable[[str], bool] | None = None,
) -> list[str]:
    """Generate the response to each prompt. Of a long prompt the last tokens are read.

    Rows are padded on the left, so that the last token of each is its newest. Rounding depends on
    what is generated together: where two tokens are equally probable, so can the response.

    Args:
        model: A decoder, in evaluation mode.
        tokenizer: Its tokenizer.
        prompts: At least one.
        limits: How long prompts and responses are.
        observe: Called with the text of the first row after each token; returns whether to go on.
    """
    most = limits.length - limits.new
    rows = [tokenizer.prompt(prompt, most) for prompt in prompts]
    width = max(map(len, rows))
    padded = [[tokenizer.pad_token_id] * (width - len(row)) + row for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    inputs = with_prompt(
        model,
        {
            "input_ids": torch.tensor(padded, device=model.device),
            "attention_mask": torch.tensor(mask, device=model.device),
        },
    )
    width = inputs["input_ids"].shape[1]
    stops = [_Observer(tokenizer, width, observe)] if observe else []
    plain = {"eos_token_id": tokenizer.end, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(**plain)  # type: ignore[no-untyped-call]
    greedy = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, max_new_tokens=limits.new, **plain
    )
    with torch.inference_mode():
        made: Tensor = model.generate(
            **inputs,
            generation_config=greedy,
            stopping_criteria=stops,
        )
    return [tokenizer.text(row) for row in made[:, width:].tolist()]


class _Observer(StoppingCriteria):
    """Shows the text of the first row as it grows, and stops all rows on request."""

    def __init__(
        self, tokenizer: ResponseTokenizer, width: int, observe: Callable[[str], bool]
    ) -> None:
        self._tokenizer, self._width, self._observe = tokenizer, width, observe

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        text = self._tokenizer.text(input_ids[0, self._width :].tolist())
        goes_on = self._observe(text.rstrip(UNFINISHED))
        return torch.full((len(input_ids),), not goes_on, device=input_ids.device)
