"""What a method defines. A new method is a new file with one class, and a line in `table.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel

    from springtide_api.update.training import Training
    from springtide_trainer.methods.adapter import Continued


class EachStep(Protocol):
    """What a method does at each step besides training its parameters. Checkpoints hold its state.

    With several processes each has one, and all see equal parameters and gradients.
    """

    def penalize(self) -> Tensor:
        """Add the gradients of a term of the parameters alone to those of a step; return it."""

    def observe(self, step: int, loss: float) -> None:
        """Change the parameters after a step, while its clipped gradients are there."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state: tensors, which are not copied, and JSON values, by name."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state, bit-equal."""


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

    def each_step(
        self, model: PreTrainedModel, training: Training, *, total: int
    ) -> EachStep | None:
        """Return what the method does at each step; None for nothing.

        Args:
            model: As `prepare` returned it, on its device.
            training: The recipe's training.
            total: Number of steps of the whole run.
        """

    def merge(self, model: PreTrainedModel) -> None:
        """Leave a trained model only the parameters that it had before `prepare`, in place.

        Raises:
            Refused: a weight is not finite.
        """

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Write weights and configuration of a trained model, as plain transformers loads them.

        A model that it would load differently is written so that it does not load it at all.

        The model is not used afterwards.

        Raises:
            Refused: a weight is not finite.
        """
