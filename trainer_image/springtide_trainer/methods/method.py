"""What a method defines. A new method is a new file with one class, and a line in `table.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from springtide_api.update.training import Hyperparameters


class Method(Protocol):
    """Which parameters are trained, and how the trained model is written."""

    def prepare(self, model: PreTrainedModel, options: Hyperparameters) -> PreTrainedModel:
        """Return the model with `requires_grad` set for the parameters to train, and no others.

        The model has its final outputs: labels are appended before.

        Raises:
            Refused: the options do not fit the model.
        """

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Write weights and configuration of a trained model, as the server loads them."""
