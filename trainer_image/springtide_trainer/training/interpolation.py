"""Interpolates between the weights of the parent and of the trained model, where both have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

    from springtide_trainer.training.early_stopping import EarlyStopping


def choose(
    model: nn.Module, parent: nn.Module, alphas: Iterable[float], *, stopping: EarlyStopping
) -> dict[float, float]:
    """Load the best of the weights parent + alpha * (trained - parent) into the trained model.

    Args:
        model: The trained model, without additional parameters of its method.
        parent: The model that it was trained from, as it was: it can have fewer outputs.
        alphas: Greater than 0 and at most 1; of equally good ones the highest is chosen.
        stopping: Measures the model on the validation split.

    Returns:
        The value of each alpha, the chosen one first.
    """
    before = dict(parent.named_parameters())
    trained = {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if not _equal(weight, before[name])
    }
    values: dict[float, float] = {}
    best: float | None = None
    for alpha in sorted(alphas, reverse=True):
        _load(model, before, trained, alpha)
        values[alpha] = stopping.measure()
        if best is None or stopping.better(values[alpha], values[best]):
            best = alpha
    assert best is not None
    _load(model, before, trained, best)
    return {best: values[best], **values}


def _equal(trained: Tensor, before: Tensor) -> bool:
    return trained.shape == before.shape and torch.equal(trained, before.to(trained.device))


def _load(
    model: nn.Module, before: Mapping[str, Tensor], trained: Mapping[str, Tensor], alpha: float
) -> None:
    """Set the weights of an alpha. Outputs that the parent does not have are the trained ones."""
    with torch.no_grad():
        for name, weight in trained.items():
            found = model.get_parameter(name)
            found.copy_(weight)
            if alpha < 1:
                known = before[name].to(weight.device)
                found[: len(known)] = torch.lerp(known, weight[: len(known)], alpha)
