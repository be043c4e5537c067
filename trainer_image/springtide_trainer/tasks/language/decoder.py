"""A decoder whose passes end in the likelihood of responses: [rows, 2] in place of all its logits.

The logits of all tokens would be [rows, tokens, vocabulary]: gigabytes. A pass that says which
tokens are of the response computes those before them alone, and returns their sum for each row.
Hooks do this, so that plain transformers loads the weights, and generates with the same model.
"""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from springtide_trainer.tasks import parts
from springtide_trainer.tasks.language.response_tokens import MASK

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

_MASK: ContextVar[Tensor | None] = ContextVar("response", default=None)
"""The mask of the pass that this thread computes: a server generates in other threads."""
_KEPT = "logits_to_keep"
"""The argument of most models that names the tokens of which logits are computed."""


class Sums(NamedTuple):
    """The output of a pass with responses."""

    logits: Tensor
    """float32 [rows, 2]: the negative log likelihood of the tokens of a response, and their
    number."""


def load(folder: Path, **options: Any) -> Any:
    """Load a decoder in FP32 from safetensors, without custom code or network access.

    Args:
        folder: A Hugging Face folder that has been checked.
        options: Arguments of `from_pretrained`, such as fields of the model's configuration.

    Returns:
        The model; with `output_loading_info=True` also the report of missing weights.
    """
    loaded = parts.load(AutoModelForCausalLM, folder, **options)
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    model.register_forward_pre_hook(_before, with_kwargs=True)
    model.register_forward_hook(_after, with_kwargs=True)
    return loaded


def _before(model: nn.Module, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Take the mask from the inputs, and ask for the logits before the tokens of responses."""
    mask: Tensor | None = named.pop(MASK, None)
    _MASK.set(mask)
    if mask is not None:
        named |= {"use_cache": False}
        if _KEPT in inspect.signature(model.forward).parameters:
            named |= {_KEPT: _places(mask)}
    return given, named


def _after(model: nn.Module, given: Any, named: dict[str, Any], made: Any) -> Sums | None:
    """Return the sums of a pass with responses; other passes keep their output."""
    mask = _MASK.get()
    if mask is None:
        return None
    places = _places(mask)
    logits: Tensor = made.logits if _KEPT in named else made.logits[:, places]
    return Sums(sums(logits, named["input_ids"][:, places + 1], mask[:, places + 1].bool()))


def _places(mask: Tensor) -> Tensor:
    """Return the places before a token of any response: int64 [places]."""
    return mask[:, 1:].any(dim=0).nonzero().squeeze(1)


def sums(logits: Tensor, words: Tensor, counted: Tensor) -> Tensor:
    """Add up the cross-entropy of tokens, for each row.

    Args:
        logits: [rows, places, vocabulary].
        words: int64 [rows, places], the token after each place.
        counted: bool [rows, places], whether it is one of the response.

    Returns:
        float32 [rows, 2], the sum and the number of tokens.
    """
    losses = functional.cross_entropy(logits[counted].float(), words[counted], reduction="none")
    spread = torch.zeros(counted.shape, device=losses.device).masked_scatter(counted, losses)
    return torch.stack([spread.sum(dim=1), counted.sum(dim=1).float()], dim=1)
