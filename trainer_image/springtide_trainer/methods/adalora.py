"""AdaLoRA: low-rank adapters that share a budget of ranks, through the library peft.

An adapter is a sum of directions, each a singular value with its two vectors. Directions that
matter little for the loss are removed while the adapters are trained, from whichever adapter.
Source: Zhang et al. 2023, arXiv:2303.10512.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from springtide_api.update.method import AdaLoRA as Options
from springtide_trainer.artifact import saving
from springtide_trainer.methods.adapter import NAME
from springtide_trainer.methods.held_parts import check_parts
from springtide_trainer.methods.layers import lower_layers
from springtide_trainer.methods.lora import freeze_language_head, inject, merge, pattern
from springtide_trainer.methods.targets import check_rank, choose_targets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peft import AdaLoraConfig
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from springtide_api.update.training import Training
    from springtide_trainer.methods.adapter import Continued

_FIELD = "spec.training.method.adaLora"
_IMPORTANCE, _UNCERTAINTY, _KEPT = "importance/", "uncertainty/", "kept"


class AdaLoRA:
    """Trains adapters and the head; the artifact is the model with the adapters merged."""

    def prepare(
        self,
        model: PreTrainedModel,
        training: Training,
        *,
        seed: int,
        continued: Continued | None = None,
    ) -> PreTrainedModel:
        """Freeze the base model and inject adapters into it; layers of `freeze` get none.

        Raises:
            Refused: a target module does not exist or is no linear layer of the base model, or the
                initial rank is larger than a side of its weights.
        """
        options = training.method.ada_lora or Options()
        check_parts(model, "AdaLoRA")
        frozen = lower_layers(model, training.hyperparameters.freeze.lower_layers)
        targets = choose_targets(model, options.target_modules, frozen, field=_FIELD)
        check_rank(targets, options.initial_rank, f"{_FIELD}.initialRank")
        inject(model.base_model, _config(options, targets=pattern(targets)), seed=seed)
        freeze_language_head(model)
        return model

    def each_step(
        self, model: PreTrainedModel, training: Training, *, total: int
    ) -> RankAllocation:
        """Return what removes directions and keeps the others orthogonal."""
        return RankAllocation(model.base_model, training.method.ada_lora or Options(), total=total)

    def merge(self, model: PreTrainedModel) -> None:
        """Add the adapters to the weights beside them and remove them."""
        merge(model)

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Merge the adapters and write the model in the format of transformers."""
        merge(model)
        saving.save_model(model, folder)


class RankAllocation:
    """Removes directions between two steps of a run, and keeps the other ones orthogonal.

    The importance of a weight is |weight * gradient|. It is averaged over the steps, times its
    deviation from that average (equations 8 to 12 of the paper); the number of directions falls
    with the cube of the remaining steps (equation 13).

    Args:
        base: The base model with adapters, on its device.
        options: The recipe's settings.
        total: Number of steps of the whole run.
    """

    def __init__(self, base: nn.Module, options: Options, *, total: int) -> None:
        from peft.tuners.adalora import RankAllocator

        first = int(float(options.allocate_from) * total)
        self._last = max(first + 1, round(float(options.allocate_until) * total))
        config = _config(options, first=first, last=self._last, total=total)
        self._allocator: Any = RankAllocator(base, config, NAME)  # type: ignore[no-untyped-call]
        self._base, self._orthogonality = base, float(options.orthogonality)
        named = dict(base.named_parameters())
        self._adapters = {name: each for name, each in named.items() if "lora_" in name}
        self._rows = [each for name, each in self._adapters.items() if ".lora_A." in name]
        self._columns = [each for name, each in self._adapters.items() if ".lora_B." in name]
        self._kept: dict[str, list[bool]] = {}

    def penalty(self) -> Tensor:
        """Return the mean distance of the vectors of an adapter from orthonormal ones, weighted.

        Equation 4 of the paper, without squares and as a mean over the matrices, as peft has it.
        """
        vectors = [*self._rows, *(each.T for each in self._columns)]
        with torch.autocast(vectors[0].device.type, enabled=False):
            apart = [v @ v.T - torch.eye(len(v), device=v.device) for v in vectors]
            return self._orthogonality * torch.stack([each.norm() for each in apart]).mean()

    def penalize(self) -> Tensor:
        """Add the gradients of the penalty to those of a step, after all its passes."""
        value, vectors = self.penalty(), [*self._rows, *self._columns]
        for weight, gradient in zip(vectors, torch.autograd.grad(value, vectors), strict=True):
            weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
        return value.detach()

    def observe(self, step: int, loss: float) -> None:
        """Update the importance of all weights, and set singular values to 0 where that is due."""
        if step > self._last:
            self._allocator.mask_using_rank_pattern(self._base, self._kept)
            return
        for weight in self._adapters.values():
            if weight.grad is None:  # of a layer that no loss depends on: its directions go first
                weight.grad = torch.zeros_like(weight)
        final = step == self._last
        if final and not self._allocator.ipt:  # the first step is the last one that removes
            self._allocator.update_ipt(self._base)
        with _any_kernel():
            _, kept = self._allocator.update_and_allocate(self._base, step, force_mask=final)
        if final:
            self._kept = kept
            self._allocator.reset_ipt()

    def state_dict(self) -> dict[str, Any]:
        """Return the averages of each weight, and once it is final which directions are kept."""
        importance = {f"{_IMPORTANCE}{n}": x for n, x in self._allocator.exp_avg_ipt.items()}
        uncertainty = {f"{_UNCERTAINTY}{n}": x for n, x in self._allocator.exp_avg_unc.items()}
        return {**importance, **uncertainty, _KEPT: self._kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the averages of a checkpoint."""
        self._kept, allocator = state[_KEPT], self._allocator
        allocator.reset_ipt()
        for name, weight in self._adapters.items():
            if f"{_IMPORTANCE}{name}" in state:
                allocator.exp_avg_ipt[name] = state[f"{_IMPORTANCE}{name}"].to(weight.device)
                allocator.exp_avg_unc[name] = state[f"{_UNCERTAINTY}{name}"].to(weight.device)
                allocator.ipt[name] = torch.zeros_like(weight)  # else the averages start again


@contextmanager
def _any_kernel() -> Iterator[None]:
    """Allow `kthvalue` on a GPU: the index that it returns depends on chance, not the value."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(mode=False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before)


def _config(
    options: Options, *, targets: str = "", first: int = 0, last: int = 1, total: int = 1
) -> AdaLoraConfig:
    """Return the options as peft names them; injecting needs the targets, allocating the steps."""
    from peft import AdaLoraConfig

    return AdaLoraConfig(
        init_r=options.initial_rank,
        target_r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=float(options.dropout),
        target_modules=targets,
        tinit=first,
        tfinal=total - last,
        deltaT=options.allocate_every,
        total_step=total,
    )
