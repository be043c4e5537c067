"""Adversarial training: each pass also learns its rows with embeddings that move against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from springtide_api.update.robustness import Robustness
    from springtide_trainer.tasks.task import Batch
    from springtide_trainer.training.loop import Objective

_FIELD = "spec.training.robustness.adversarial"


def of(
    wanted: Robustness | None, objective: Objective, *, scale: Callable[[Tensor], Tensor]
) -> Objective:
    """Return the objective with adversarial rows if a recipe asks for them, else as it is."""
    if wanted is None or wanted.adversarial is None:
        return objective
    return Adversarial(objective, float(wanted.adversarial.epsilon), scale=scale)


class Adversarial:
    """The loss of a batch, plus the loss of its rows with disturbed word embeddings.

    The disturbance of a row is epsilon * g / |g|, where g is the gradient of the loss for the word
    embeddings of all its tokens together: the fast gradient method (Miyato et al. 2017, equations 5
    and 6). The gradient is that of the pass alone, so a step may be cut into any passes.

    Args:
        objective: The loss of a batch.
        epsilon: Length of the disturbance of a row.
        scale: Multiplies a loss so that its gradients in FP16 do not vanish.
    """

    def __init__(
        self, objective: Objective, epsilon: float, *, scale: Callable[[Tensor], Tensor]
    ) -> None:
        self._objective, self._epsilon, self._scale = objective, epsilon, scale

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of both losses.

        Raises:
            Refused: the model has no embeddings of words that its passes use.
        """
        own, seen = self._objective, _Embeddings(model)
        with seen:
            loss = own(model, batch)
        if seen.output is None:
            raise Refused(
                "UnsupportedModel",
                "the model looks no word embedding up, so there is none to disturb; remove "
                "training.robustness.adversarial",
                _FIELD,
            )
        (gradient,) = torch.autograd.grad(self._scale(loss), seen.output, retain_graph=True)
        with _Embeddings(model, plus=disturbance(gradient, self._epsilon)):
            return loss + own(model, batch)


def disturbance(gradient: Tensor, epsilon: float) -> Tensor:
    """Return epsilon * g / |g| for each row.

    Args:
        gradient: [rows, tokens, width], multiplied by any number greater than 0.
        epsilon: Length of the result of a row; 0 for a row whose gradient is 0 or not finite.
    """
    found = gradient.float()
    lengths = torch.linalg.vector_norm(found, dim=tuple(range(1, found.ndim)), keepdim=True)
    usable = lengths.isfinite() & (lengths > 0)
    return torch.where(usable, epsilon * found / lengths, 0.0)


class _Embeddings:
    """Reads the word embeddings of one pass, or adds to them, in a block.

    Args:
        model: The model; frozen embeddings get a gradient for the pass, their weights do not.
        plus: What is added to the embeddings.
    """

    def __init__(self, model: Any, plus: Tensor | None = None) -> None:
        self._layer: nn.Module = model.get_input_embeddings()
        self._plus = plus
        self.output: Tensor | None = None

    def __enter__(self) -> None:
        # Before the vectors of a prompt take their places, which are no words.
        self._hook = self._layer.register_forward_hook(self._called, prepend=True)

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _called(self, _: nn.Module, given: object, made: Tensor) -> Tensor | None:
        if self._plus is not None:
            return made + self._plus.to(made.dtype)
        self.output = made if made.requires_grad else made.requires_grad_()
        return None
