"""Prompt tuning: vectors that are read as further words of each row, trained with the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from springtide_api.update.method import PromptTuning as Options
from springtide_trainer.artifact import saving
from springtide_trainer.methods.held_parts import check_parts, check_tokens, train_only
from springtide_trainer.tasks.prompt import attach, place_of, prompt_of

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from springtide_api.update.training import Training
    from springtide_trainer.methods.adapter import Continued

_FIELD = "spec.training.method.promptTuning"


class PromptTuning:
    """Trains a prompt and the head; the artifact is the model with it (`tasks.prompt`)."""

    def prepare(
        self,
        model: PreTrainedModel,
        training: Training,
        *,
        seed: int,
        continued: Continued | None = None,
    ) -> PreTrainedModel:
        """Freeze the model; it gets a prompt, or keeps the one of the parent.

        A new one has the embeddings of words of the vocabulary, chosen by the seed: better than
        random numbers (Lester et al. 2021, section 3.2).

        Raises:
            Refused: the model has parts of another method, or a prompt of another length.
        """
        options = training.method.prompt_tuning or Options()
        check_parts(model, "PromptTuning")
        if (held := prompt_of(model)) is not None:
            check_tokens(held.tokens, options.tokens, "prompt", _FIELD)
        else:
            words = model.get_input_embeddings()
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randint(model.config.vocab_size, (options.tokens,), generator=generator)
            with torch.no_grad():
                vectors = words(chosen)
                held = attach(model, options.tokens, place_of(model))
                held.vectors.copy_(vectors)
        train_only(model, [held])
        return model

    def each_step(self, model: PreTrainedModel, training: Training, *, total: int) -> None:
        """Nothing: a prompt is trained as it is."""

    def merge(self, model: PreTrainedModel) -> None:
        """Nothing: a prompt cannot be merged."""

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the model and its prompt."""
        saving.save_model(model, folder)
