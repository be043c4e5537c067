"""Checks which parts a live model has beside its own weights, and trains those of one method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from springtide_trainer.errors import Refused
from springtide_trainer.tasks.parts import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn
    from transformers import PreTrainedModel

_METHODS = {
    "bottlenecks": ("Adapter", "bottleneck adapters"),
    "prompt": ("PromptTuning", "a prompt"),
    "prefixes": ("PrefixTuning", "prefixes"),
}
"""The method that trains each kind of parts, and what they are called."""


def check_parts(model: PreTrainedModel, method: str) -> None:
    """Check that a model has no parts of another method: a model has those of one.

    Behind bottlenecks nothing could be merged, for example.

    Args:
        model: The live model.
        method: The method that is to add parameters to it.

    Raises:
        Refused: it has.
    """
    if (kind := kind_of(model)) is None:
        return
    own, what = _METHODS[kind.name]
    if own != method:
        raise Refused(
            "UnsupportedModel",
            f"the live model has {what}, and parameters of method {method} cannot be trained beside"
            f" them; set training.method.type to {own} or Full",
            "spec.training.method.type",
        )


def check_tokens(held: int, wanted: int, what: str, field: str) -> None:
    """Check that a live model has vectors for as many tokens as a recipe wants.

    Args:
        held: Tokens of its prompt, or of a prefix.
        wanted: Tokens by the recipe.
        what: What has them.
        field: The block of the method in the spec.

    Raises:
        Refused: it has others.
    """
    if held != wanted:
        raise Refused(
            "PromptMismatch",
            f"tokens is {wanted}, and the {what} of the live model, which is a part of it, has "
            f"{held}; set tokens to {held}, or create an update with another initial model",
            f"{field}.tokens",
        )


def train_only(model: Any, parts: Iterable[nn.Module]) -> None:
    """Freeze a model but for some of its parts and a head that is no language model's.

    The head of a language model is not new, and as large as its word embeddings.
    """
    model.base_model.requires_grad_(requires_grad=False)
    if (head := model.get_output_embeddings()) is not None:
        head.requires_grad_(requires_grad=False)
    for part in parts:
        part.requires_grad_()
