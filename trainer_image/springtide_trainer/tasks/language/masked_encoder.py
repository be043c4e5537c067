"""An encoder whose passes end in the likelihood of hidden tokens: [rows, 3] in place of all logits.

The logits of all tokens would be [rows, tokens, vocabulary]: gigabytes. The last layer gets the
chosen tokens alone. Hooks do this, so that plain transformers loads the weights.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional
from transformers import AutoModelForMaskedLM

from springtide_trainer.tasks.language.masked_tokens import CHOSEN, ORIGINAL
from springtide_trainer.tasks.loading import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

_CHOSEN: ContextVar[tuple[Tensor, Tensor] | None] = ContextVar("chosen", default=None)
"""Which tokens the pass of this thread predicts, and what they are: [rows, tokens] each."""


class Sums(NamedTuple):
    """The output of a pass with hidden tokens."""

    logits: Tensor
    """float32 [rows, 3]: the negative log likelihood of the hidden tokens, how many of them are the
    most probable ones, and their number."""


def load(folder: Path, **options: Any) -> Any:
    """Load an encoder with the head of a masked language model, as `load_model` does.

    Args:
        folder: A Hugging Face folder that has been checked.
        options: Arguments of `from_pretrained`, such as fields of the model's configuration.

    Returns:
        The model; with `output_loading_info=True` also the report of missing weights.
    """
    loaded = load_model(AutoModelForMaskedLM, folder, **options)
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    model.register_forward_pre_hook(_before, with_kwargs=True)
    model.register_forward_hook(_after)
    model.get_output_embeddings().register_forward_pre_hook(_only_chosen)
    return loaded


def _before(model: nn.Module, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Take from the inputs what is predicted."""
    chosen, words = named.pop(CHOSEN, None), named.pop(ORIGINAL, None)
    _CHOSEN.set(None if chosen is None or words is None else (chosen.bool(), words))
    return given, named


def _only_chosen(head: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    """Give the last layer the chosen tokens: [chosen tokens, width]."""
    pass_, (states, *others) = _CHOSEN.get(), given
    if pass_ is None or states.shape[:-1] != pass_[0].shape:
        return None
    return (states[pass_[0]], *others)


def _after(model: nn.Module, given: Any, made: Any) -> Sums | None:
    """Return the sums of a pass with hidden tokens; other passes keep their output."""
    pass_ = _CHOSEN.get()
    if pass_ is None:
        return None
    chosen, words = pass_
    # Some heads multiply by the weights of the last layer without calling it.
    logits: Tensor = made.logits if made.logits.ndim == 2 else made.logits[chosen]
    return Sums(sums(logits, words[chosen], chosen))


def sums(logits: Tensor, words: Tensor, chosen: Tensor) -> Tensor:
    """Add up the cross-entropy of the chosen tokens, for each row.

    Args:
        logits: [chosen tokens, vocabulary].
        words: int64 [chosen tokens], what they are.
        chosen: bool [rows, tokens], their places.

    Returns:
        float32 [rows, 3]: the sum, how many are the most probable ones, and their number.
    """
    losses = functional.cross_entropy(logits.float(), words, reduction="none")
    right = (logits.argmax(dim=-1) == words).float()
    spread = [
        torch.zeros(chosen.shape, device=losses.device).masked_scatter(chosen, each)
        for each in (losses, right)
    ]
    return torch.stack([*(each.sum(dim=1) for each in spread), chosen.sum(dim=1).float()], dim=1)
