"""How many tokens of an example a model can read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

from springtide_trainer.errors import Refused
from springtide_trainer.tasks.prompt import prompt_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_max_length(model: PreTrainedModel, wanted: int, *limits: int) -> None:
    """Check that examples of `model.maxLength` tokens fit the model.

    Args:
        model: The model.
        wanted: The maximum length.
        limits: Further limits, such as the tokenizer's.

    Raises:
        Refused: the model, without the positions of its prompt, or another limit is lower.
    """
    held, known = prompt_of(model), positions(model)
    taken = 0 if held is None else held.tokens
    if taken and wanted + taken > known:
        raise Refused(
            "MaxLengthTooLong",
            f"spec.model.maxLength is {wanted} and the prompt has {taken} tokens, together more "
            f"than the {known:.0f} positions of the model; lower maxLength, or train a shorter "
            "prompt",
            "spec.model.maxLength",
        )
    limit = min(known, *limits, math.inf)
    if wanted > limit:
        raise Refused(
            "MaxLengthTooLong",
            f"spec.model.maxLength is {wanted}, the model's limit {limit:.0f} tokens; lower it",
            "spec.model.maxLength",
        )


def positions(model: PreTrainedModel) -> float:
    """Return the number of tokens that a model has positions for; infinity for relative ones.

    RoBERTa and its relatives count positions from the padding token's number plus 1.
    """
    known = getattr(model.config, "max_position_embeddings", None) or 0
    known = known if known > 0 else math.inf  # XLNet has -1
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    if isinstance(table, nn.Embedding) and table.padding_idx is not None:
        return min(known, table.num_embeddings - table.padding_idx - 1)
    return float(known)
