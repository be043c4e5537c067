"""What a method defines. A new method is a new file with one class, and a line in `table.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from springtide_api.update.training import Training
    from springtide_trainer.methods.adapter import Continued


class Method(Protocol):
    """Which parameters are trained, and how the trained model is written."""

    def prepare(
        self,
        model: PreTrainedModel,
        training: Training,
        *,
        seed: int,
        continued: Continued | None = None,
    ) -> PreTrainedModel:
        """Return the model with `requires_grad` set for the parameters to train, and no others.

        The model has its final outputs: labels are appended before.

        Args:
            model: The parent's model, on the CPU.
            training: The recipe's training.
            seed: Seed of new parameters: the same run has the same seed.
            continued: The adapter whose training continues, for a method with adapters.

        Raises:
            Refused: the options do not fit the model.
        """

    def merge(self, model: PreTrainedModel) -> None:
        """Leave a trained model only the parameters that it had before `prepare`, in place.

        Raises:
            Refused: a weight is not finite.
        """

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Write weights and configuration of a trained model, as plain transformers loads them.

        The model is not used afterwards.

        Raises:
            Refused: a weight is not finite.
        """
