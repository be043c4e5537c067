"""The penalty of elastic weight consolidation: what a move of the weights from the parent's costs.

It depends on the weights alone. So its gradients are added to those of a step once, after those of
all passes and all processes, whatever their number; each process adds the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from springtide_trainer.training.optimizer import trainable_parameters
from springtide_trainer.training.retention import fisher_information

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from springtide_api.contract import TrainInput
    from springtide_api.update.retention import Retention
    from springtide_trainer.training.precision import Precision


def of(
    wanted: Retention | None,
    given: TrainInput,
    model: nn.Module,
    chosen: Precision,
    *,
    leads: bool,
) -> Penalty | None:
    """Return the penalty that a recipe asks for; None without, and if the parent left no values.

    Args:
        wanted: The recipe's retention.
        given: Names the parent and what it left.
        model: The model before its first step, on its device.
        chosen: Scales gradients.
        leads: Whether this is the first process.

    Raises:
        Refused: what the parent left is damaged, or of another model.
    """
    if wanted is None or wanted.ewc is None or given.fisher is None:
        return None
    values = fisher_information.read(given.fisher, of=given.parent.digest)
    strength = float(wanted.ewc.strength)
    return Penalty(model, values, strength=strength, scale=chosen.scaler.scale, counted=leads)


class Penalty:
    """strength / 2 * sum of F * (weight - parent's weight)^2 (Kirkpatrick et al. 2017, equation 3).

    Weights without a value of F are free: those of appended labels, and those that were frozen in
    all earlier generations.

    Args:
        model: The model before its first step: its weights are the parent's.
        values: F by the name of the parameter.
        strength: Lambda.
        scale: Multiplies gradients so that those in FP16 do not vanish.
        counted: Whether this process reports the value: the losses of all are added up.
    """

    def __init__(
        self,
        model: nn.Module,
        values: Mapping[str, Tensor],
        *,
        strength: float,
        scale: Callable[[Tensor], Tensor],
        counted: bool = True,
    ) -> None:
        self._scale, self._counted = scale, counted
        self._terms: list[_Term] = []
        for name, weight in trainable_parameters(model).items():
            if (found := values.get(name)) is not None:
                before = fisher_information.known_part(weight.detach(), found, name).clone()
                self._terms.append(_Term(weight, before, strength * found.to(weight.device)))

    def __call__(self) -> Tensor:
        """Add the gradients of the penalty to those of the weights; return what is reported.

        A weight that no loss depends on has no gradient and does not move.
        """
        parts = []
        for term in self._terms:
            moved = term.moved
            pull = term.stiffness * moved
            if term.weight.grad is not None:
                term.of(term.weight.grad).add_(self._scale(pull))
            if self._counted:
                parts.append(pull.mul_(moved).sum())
        return _half_of_all(parts)

    def value(self) -> Tensor:
        """Return the penalty of the weights as they are now."""
        parts = ((each.stiffness * each.moved).mul_(each.moved).sum() for each in self._terms)
        return _half_of_all([*parts])


@dataclass(frozen=True)
class _Term:
    """One parameter, where it was before, and strength * F."""

    weight: Tensor
    before: Tensor
    stiffness: Tensor

    @property
    def moved(self) -> Tensor:
        return self.of(self.weight.detach()) - self.before

    def of(self, whole: Tensor) -> Tensor:
        """Return the part of a tensor of the parameter that the parent has."""
        return whole if whole.shape == self.before.shape else whole[: len(self.before)]


def _half_of_all(parts: list[Tensor]) -> Tensor:
    return 0.5 * torch.stack(parts).sum() if parts else torch.zeros(())
