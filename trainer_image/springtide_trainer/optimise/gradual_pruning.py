"""Prunes a model while it is trained: more and more of its smallest weights become zero.

A weight that is zero stays zero. So which ones are follows from the weights: a checkpoint has
nothing else, and a parent that was pruned keeps its zeros.

Source: Zhu and Gupta (2017), To prune, or not to prune (arXiv:1710.01878).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from springtide_trainer.errors import Refused
from springtide_trainer.optimise.pruning import linear_parameters, linear_weights, smallest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from springtide_api.update.model import GradualPruning as Options

UPDATES = 50
"""About how often weights are chosen. The paper found no difference between 100 and 1000 steps from
one time to the next."""
_FIELD = "spec.training.pruning"


def of(wanted: Options | None, model: PreTrainedModel, *, total: int) -> GradualPruning | None:
    """Return the pruning that a recipe asks for; None without.

    Raises:
        Refused: the model has no linear layer below its head.
    """
    return None if wanted is None else GradualPruning(wanted, model, total=total)


@dataclass(frozen=True)
class Schedule:
    """Which fraction of the weights of a layer is zero after a step (equation 1 of the paper).

    The initial sparsity is 0: a parent with zeros keeps them until the schedule asks for more.

    Attributes:
        sparsity: The fraction at the end.
        first: The step after which the first weights are set to zero.
        last: The step after which the last ones are.
    """

    sparsity: Fraction
    first: int
    last: int

    @staticmethod
    def of(options: Options, total: int) -> Schedule:
        """Return the schedule of a run of so many steps."""
        first = int(Fraction(options.prune_from) * total)
        last = max(first + 1, int(Fraction(options.prune_until) * total))
        return Schedule(Fraction(options.sparsity), first, last)

    def __call__(self, step: int) -> Fraction:
        """Return the fraction after a step."""
        left = Fraction(self.last - min(max(step, self.first), self.last), self.last - self.first)
        return self.sparsity * (1 - left**3)

    def due(self, step: int) -> bool:
        """Return whether weights are chosen after a step; after the last one they are."""
        every = max(1, (self.last - self.first) // UPDATES)
        return self.first < step <= self.last and (self.last - step) % every == 0


class GradualPruning:
    """An observer that sets the smallest weights of each linear layer to zero after each step.

    Several processes have equal weights, and so choose the same ones.

    Args:
        options: The recipe's settings.
        model: The model in training, on its device.
        total: Number of steps of the whole run.

    Raises:
        Refused: the model has no linear layer below its head.
    """

    def __init__(self, options: Options, model: PreTrainedModel, *, total: int) -> None:
        self._parameters, self._weights = linear_parameters(model), linear_weights(model)
        if not self._weights:
            message = f"{type(model).__name__} has no linear layer below its head; remove pruning"
            raise Refused("UnsupportedModel", message, _FIELD)
        self._schedule = Schedule.of(options, total)
        self._zeros: list[Tensor] = []

    def begin(self) -> None:
        """Read which weights are zero, of a parent, a checkpoint or a step: they stay zero."""
        self._zeros = [weight == 0 for weight in self._weights]

    def observe(self, step: int, loss: float) -> None:
        """Set the zeros again that the step has changed, and further ones where that is due."""
        self.mask()
        self.begin()  # a resumed run would also keep one that the step made zero by chance
        if not self._schedule.due(step):
            return
        for number, (weight, zeros) in enumerate(zip(self._weights, self._zeros, strict=True)):
            count = int(self._schedule(step) * weight.numel())
            if count > int(zeros.sum()):
                self._zeros[number] = smallest(weight, count)  # all that are zero among them
        self.mask()

    def mask_gradients(self) -> None:
        """Set the gradients of weights that are zero to 0, before they are clipped.

        Such a weight does not move: its gradient would only make the steps of others smaller. No
        mask is kept, so that a recorded step reads the weights as they are then.
        """
        for parameter, weight in zip(self._parameters, self._weights, strict=True):
            if parameter.grad is not None:
                parameter.grad.masked_fill_(weight == 0, 0.0)

    def mask(self) -> None:
        """Set the weights to zero that were chosen so far."""
        for weight, zeros in zip(self._weights, self._zeros, strict=True):
            weight.masked_fill_(zeros, 0.0)

    @property
    def sparsity(self) -> float:
        """The fraction of all these weights that is zero."""
        zeros = sum(int((weight == 0).sum()) for weight in self._weights)
        return zeros / sum(weight.numel() for weight in self._weights)
