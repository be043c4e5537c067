"""Full fine-tuning: all parameters are trained but the frozen ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from springtide_trainer.artifact import saving
from springtide_trainer.methods.layers import lower_layers
from springtide_trainer.tasks.prompt import prompt_of

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from springtide_api.update.training import Freeze, Training
    from springtide_trainer.methods.adapter import Continued


class Full:
    """Trains the model itself; the artifact is the model."""

    def prepare(
        self,
        model: PreTrainedModel,
        training: Training,
        *,
        seed: int,
        continued: Continued | None = None,
    ) -> PreTrainedModel:
        """Freeze the parameters of `freeze`."""
        freeze(model, training.hyperparameters.freeze)
        return model

    def each_step(self, model: PreTrainedModel, training: Training, *, total: int) -> None:
        """Nothing."""

    def merge(self, model: PreTrainedModel) -> None:
        """Nothing: there are no additional parameters."""

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the model in the format of transformers."""
        saving.save_model(model, folder)


def freeze(model: PreTrainedModel, options: Freeze) -> None:
    """Freeze word embeddings and the lower layers.

    With frozen layers all embeddings are frozen too, unless `embeddings` is false: otherwise
    gradients would be computed through the frozen layers. A prompt is frozen only then.

    Raises:
        Refused: the model has fewer layers.
    """
    if options.embeddings:
        model.get_input_embeddings().requires_grad_(requires_grad=False)
        if (prompt := prompt_of(model)) is not None:
            prompt.requires_grad_()
    frozen = lower_layers(model, options.lower_layers)
    for layer in frozen:
        layer.requires_grad_(requires_grad=False)
    embeddings = getattr(model.base_model, "embeddings", None)
    if frozen and options.embeddings and isinstance(embeddings, nn.Module):
        embeddings.requires_grad_(requires_grad=False)
