"""Squared gradients of each unit of a pass, added up: without a pass for each unit.

A backward pass adds the gradients of all rows up, and a pass of one row reads all weights for it
alone. The gradient of one unit follows from what each layer reads and from the gradient of what it
returns (Goodfellow 2015, "Efficient Per-Example Gradient Computations", arXiv:1510.01799).
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor


class UnitGradients:
    """Adds squared gradients of units to totals, in passes that are made within `taken`.

    Args:
        model: The model, in evaluation mode.
        totals: Of each parameter, by its name.

    Raises:
        TypeError: a parameter is not that of one layer of a known type.
    """

    def __init__(self, model: nn.Module, totals: Mapping[str, Tensor]) -> None:
        self._model = model
        self._parameters = [model.get_parameter(name) for name in totals]
        self._totals: dict[nn.Module, dict[str, Tensor]] = {}
        by_parameter = dict(zip(self._parameters, totals.values(), strict=True))
        owned = 0
        for module in model.modules():
            own = {
                name: by_parameter[each]
                for name, each in module.named_parameters(recurse=False)
                if each in by_parameter
            }
            if own and type(module) not in RULES:
                raise TypeError(f"no gradients of single rows of {type(module).__name__}")
            if own:
                self._totals[module] = own
                owned += len(own)
        if owned != len(totals):
            raise TypeError("layers share a parameter")
        self._called: set[nn.Module] = set()
        self._units = torch.empty(0, 0)
        self._shares = torch.empty(0)
        self._parts: list[tuple[slice, float]] = []

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Read layers and their gradients in this block; parameters get no gradient there."""
        hooks = [module.register_forward_hook(self._read) for module in self._totals]
        try:
            for parameter in self._parameters:
                parameter.requires_grad = False
            yield
        finally:
            for parameter in self._parameters:
                parameter.requires_grad = True
            for hook in hooks:
                hook.remove()

    def begin(self, sizes: Sequence[int], shares: Sequence[float]) -> None:
        """Say of which units the rows of the next pass are.

        Args:
            sizes: Rows of each unit, one unit after the other.
            shares: The factor of each unit in the totals.
        """
        self._called.clear()
        ends = torch.tensor(sizes).cumsum(0).tolist()
        parts = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self._parts = list(zip(parts, shares, strict=True))
        device = self._parameters[0].device
        self._shares = torch.tensor(shares, device=device)
        self._units = torch.zeros(len(sizes), ends[-1], device=device)
        for unit, part in enumerate(parts):
            self._units[unit, part] = 1.0

    def _read(self, module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
        if module in self._called:
            raise TypeError("a layer is called twice in a pass")
        self._called.add(module)
        rows, read = self._units.shape[1], given[0].detach()
        if len(made) == 1 < rows:  # the same for all rows, such as the numbers of positions
            made, read = (each.expand(rows, *each.shape[1:]) for each in (made, read))
        if len(made) != rows:
            raise TypeError("a layer gets several rows as one")
        if not made.requires_grad:
            made = made.detach().requires_grad_()
        made.register_hook(partial(self._add, module, read))  # type: ignore[no-untyped-call]
        return made

    def _add(self, module: nn.Module, read: Tensor, gradient: Tensor) -> None:
        """Add the squares of a layer, once the gradient of what it returned is known."""
        for name, total in self._totals[module].items():
            RULES[type(module)](self, module, name, total, read, gradient)

    def of_linear(
        self, module: Any, name: str, total: Tensor, read: Tensor, gradient: Tensor
    ) -> None:
        """Add those of a linear layer: a matrix of each unit, while it is in the cache."""
        if name == "bias":
            return self._of_vectors(total, _summed(gradient))
        for part, share in self._parts:
            outer, inner = gradient[part].flatten(0, -2), read[part].flatten(0, -2)
            own = inner.T @ outer if isinstance(module, Conv1D) else outer.T @ inner
            total.addcmul_(own, own, value=share)
        return None

    def of_normalization(
        self, module: Any, name: str, total: Tensor, read: Tensor, gradient: Tensor
    ) -> None:
        """Add those of a layer normalization."""
        if name == "weight":
            plain = functional.layer_norm(read, module.normalized_shape, eps=module.eps)
            gradient = gradient * plain
        self._of_vectors(total, _summed(gradient))

    def of_embedding(
        self, module: Any, name: str, total: Tensor, read: Tensor, gradient: Tensor
    ) -> None:
        """Add those of the embeddings that a unit has looked up."""
        for part, share in self._parts:
            looked_up = read[part] != (-1 if module.padding_idx is None else module.padding_idx)
            words = read[part][looked_up]
            numbers, place = words.unique(return_inverse=True)  # type: ignore[no-untyped-call]
            own = gradient.new_zeros(len(numbers), gradient.shape[-1])
            own.index_add_(0, place, gradient[part][looked_up])
            total.index_add_(0, numbers, own.square_(), alpha=share)

    def _of_vectors(self, total: Tensor, of_rows: Tensor) -> None:
        """Add the squares of vectors, of which each row of a unit has a part: [rows, width]."""
        total += self._shares @ (self._units @ of_rows).square_()


def _summed(values: Tensor) -> Tensor:
    """Add values up over all dimensions of a row but the last one: [rows, width]."""
    return values.flatten(1, -2).sum(dim=1) if values.ndim > 2 else values


RULES: dict[type[nn.Module], Callable[..., None]] = {
    nn.Linear: UnitGradients.of_linear,
    Conv1D: UnitGradients.of_linear,
    nn.LayerNorm: UnitGradients.of_normalization,
    nn.Embedding: UnitGradients.of_embedding,
}
"""How the squares of a layer are added, by its type."""
