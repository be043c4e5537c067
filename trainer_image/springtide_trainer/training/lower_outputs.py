"""Outputs of frozen lower layers: computed once for each row, then read instead of computed again.

Embeddings and lower layers that are not trained, without dropout, give the same output for a row in
every epoch and every validation. The outputs are a file on the disk; where there is no space, or
the model's code does not allow it, training goes on without.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from springtide_trainer.artifact.tokens import EXACT
from springtide_trainer.tasks.prompt import prompt_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel

    from springtide_api.update.training import Hyperparameters
    from springtide_trainer.artifact.joined_tokens import TokenRows
    from springtide_trainer.artifact.tokens import Widths

log = logging.getLogger(__name__)

INPUT = "lower_outputs"
"""Name of the additional input of a model."""
BATCH = 32
"""Rows of one forward pass of the lower layers, unless memory ran out."""
TOLERANCE = 1e-4
"""Maximum difference of a logit with and without stored outputs, in FP32."""


class Skippable:
    """Makes a model skip its embeddings and lower layers in a pass that has their outputs.

    Args:
        model: The model; it works as before for passes without the input `INPUT`.
        layers: The lower layers, from the input.
    """

    def __init__(self, model: PreTrainedModel, layers: list[nn.Module]) -> None:
        self._model = model
        embeddings: Any = model.base_model.embeddings
        self._given: Tensor | None = None
        self._captured: Tensor | None = None
        self._beside: tuple[None, ...] | None = None
        self._capturing = False
        self._last = layers[-1]
        self._patched: list[Any] = [embeddings, *layers]
        for module in self._patched:
            module.forward = self._skipping(module, module.forward)
        self._hooks = [
            model.register_forward_pre_hook(self._before, with_kwargs=True, prepend=True),
            model.register_forward_hook(self._after, always_call=True),
        ]

    def remove(self) -> None:
        """Make the model an ordinary one again."""
        for module in self._patched:
            del module.forward
        for hook in self._hooks:
            hook.remove()

    def outputs(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the output of the last lower layer: [rows, tokens, width]."""
        self._captured, self._capturing = None, True
        try:
            self._model(**inputs)
        except _Captured:
            pass
        finally:
            self._capturing = False
        if self._captured is None:
            raise TypeError("the lower layers were not called")
        return self._captured

    def _skipping(self, module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*given: Any, **named: Any) -> Any:
            if self._given is not None:
                if self._beside is None or module not in self._layers:
                    return self._given
                return (self._given, *self._beside)
            made = original(*given, **named)
            if self._capturing and module is self._last:
                # Beside its output, a layer may return attention weights, which nothing uses.
                self._beside = (None,) * (len(made) - 1) if isinstance(made, tuple) else None
                self._captured = made[0] if isinstance(made, tuple) else made
                raise _Captured
            return made

        return forward

    @property
    def _layers(self) -> list[nn.Module]:
        return self._patched[1:]

    def _before(self, _: nn.Module, given: Any, named: dict[str, Any]) -> Any:
        self._given = named.pop(INPUT, None)
        return given, named

    def _after(self, *_: object) -> None:
        self._given = None


_UNABLE = (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError)
"""Errors of a model's code that does not expect the outputs of the layers in their place."""


class _Captured(Exception):
    """Ends a pass after the lower layers."""


@dataclass(frozen=True)
class Stored:
    """Stored outputs of some rows.

    Attributes:
        values: [all tokens of these rows, width], float32, or int16 with the bits of bfloat16.
        first: int64 [all rows], index of the first token of a row, -1 for the other rows.
    """

    values: NDArray[Any]
    first: NDArray[np.int64]

    def batch(self, rows: NDArray[np.int64], inside: NDArray[np.bool_]) -> Tensor:
        """Pad the outputs of these rows: [rows, tokens, width]."""
        padded = np.zeros((*inside.shape, self.values.shape[1]), self.values.dtype)
        for row, begin in enumerate(self.first[rows]):
            own = inside[row]
            padded[row, own] = self.values[begin : begin + int(np.count_nonzero(own))]
        made = torch.from_numpy(padded)
        return made.view(torch.bfloat16) if made.dtype == torch.int16 else made


@dataclass(frozen=True)
class TokensWithOutputs:
    """Tokens whose batches also have the stored outputs, if all their rows have them."""

    tokens: TokenRows
    stored: list[Stored]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row: int64 [rows]."""
        return self.tokens.lengths

    def sums(self, name: str) -> NDArray[np.int64]:
        """Add up a model input over the tokens of each row: int64 [rows]."""
        return self.tokens.sums(name)

    def batch(self, rows: Any, widths: Widths = EXACT) -> dict[str, Tensor]:
        """Pad these rows to one width, and add their stored outputs."""
        made, chosen = self.tokens.batch(rows, widths), np.asarray(rows, dtype=np.int64)
        for each in self.stored:
            if (each.first[chosen] >= 0).all():
                inside = made["attention_mask"].numpy().astype(bool)
                return made | {INPUT: each.batch(chosen, inside)}
        return made


def lower_part(model: PreTrainedModel, options: Hyperparameters) -> list[nn.Module]:
    """Return the lower layers if their outputs never change during training, else no layers.

    Only encoders with a module `embeddings` and a list of layers of the configured length have
    such a part; with a prompt they have outputs of more tokens than a row. On a GPU computing is
    faster than reading.
    """
    base, count = model.base_model, options.freeze.lower_layers
    embeddings = getattr(base, "embeddings", None)
    lists = [module for module in base.modules() if isinstance(module, nn.ModuleList)]
    depth = getattr(model.config, "num_hidden_layers", 0)
    layers = next((list(found[:count]) for found in lists if len(found) == depth), [])
    if not layers or not isinstance(embeddings, nn.Module) or model.device.type != "cpu":
        return []
    if prompt_of(model) is not None:
        return []
    changing = float(options.dropout) > 0 or options.gradient_checkpointing
    modules = (embeddings, *layers)
    trained = any(weight.requires_grad for each in modules for weight in each.parameters())
    return [] if trained or changing else layers


@dataclass(frozen=True)
class Wanted:
    """Rows whose outputs are stored, and the number format and the most rows of their passes."""

    name: str
    rows: NDArray[np.int64]
    forward: Callable[[], AbstractContextManager[object]] = nullcontext
    batch: int = BATCH


def store(
    model: PreTrainedModel,
    layers: list[nn.Module],
    tokens: TokenRows,
    *,
    wanted: list[Wanted],
    scratch: Path,
) -> TokenRows:
    """Compute the outputs of the lower layers; return tokens whose batches have them.

    Args:
        model: The model, prepared for training.
        layers: The result of `lower_part`.
        tokens: The tokens of all rows.
        wanted: The rows to store, each in at most one entry.
        scratch: An existing folder for the files.

    Returns:
        The tokens without outputs, after a warning, if there is no space or the model's code does
        not allow it.
    """
    skippable = Skippable(model, layers)
    wanted = [each for each in wanted if len(each.rows)]
    try:
        _check(model, skippable, tokens, wanted[0].rows[: min(8, wanted[0].batch)])
        stored = [_stored(model, skippable, tokens, each, scratch) for each in wanted]
    except (OSError, *_UNABLE) as unable:
        skippable.remove()
        for each in wanted:  # checkpoints need the space
            _file(scratch, each).unlink(missing_ok=True)
        log.warning("lower layers are computed in every step", extra={"error": str(unable)})
        return tokens
    log.info("outputs of the lower layers stored", extra={"rows": sum(len(w.rows) for w in wanted)})
    return TokensWithOutputs(tokens, stored)


def _check(
    model: PreTrainedModel, skippable: Skippable, tokens: TokenRows, rows: NDArray[np.int64]
) -> None:
    """Check on a few rows that stored outputs do not change the logits.

    Raises:
        ArithmeticError: they do.
    """
    training = model.training
    model.train(mode=False)
    with torch.no_grad():
        inputs = _on(model, tokens.batch(rows))
        expected = model(**inputs).logits
        found = model(**inputs, **{INPUT: skippable.outputs(inputs)}).logits
    model.train(training)
    if (worst := float((expected - found).abs().max())) > TOLERANCE:
        raise ArithmeticError(f"logits differ by {worst:.2g}, at most {TOLERANCE:.0e} is allowed")


def _stored(
    model: PreTrainedModel, skippable: Skippable, tokens: TokenRows, wanted: Wanted, scratch: Path
) -> Stored:
    """Write the outputs of rows, sorted by length, to a file and map it."""
    lengths = tokens.lengths[wanted.rows]
    rows = wanted.rows[np.argsort(lengths, kind="stable")]
    first = np.full(len(tokens.lengths), -1, np.int64)
    first[rows] = np.cumsum(tokens.lengths[rows]) - tokens.lengths[rows]
    count, path = int(lengths.sum()), _file(scratch, wanted)
    kind, width = np.dtype(np.float32), 0
    with path.open("wb") as file, torch.no_grad():
        for start in range(0, len(rows), wanted.batch):
            inputs = tokens.batch(rows[start : start + wanted.batch])
            with wanted.forward():
                made = skippable.outputs(_on(model, inputs)).cpu()
            values = made[inputs["attention_mask"].bool()].contiguous()
            values = values.view(torch.int16) if values.dtype == torch.bfloat16 else values.float()
            if not start:
                kind, width = values.numpy().dtype, values.shape[1]
                _check_space(scratch, count * width * kind.itemsize)
            values.numpy().tofile(file)
    return Stored(np.asarray(np.memmap(path, kind, "r", shape=(count, width))), first)


def _file(scratch: Path, wanted: Wanted) -> Path:
    return scratch / f"lower-{wanted.name}.bin"


def _check_space(folder: Path, size: int) -> None:
    """Raise an OSError if less would stay free than the file takes: checkpoints need space, too."""
    if (free := shutil.disk_usage(folder).free) < 2 * size:
        raise OSError(f"the outputs take {size:,} bytes, at most half of {free:,} free bytes")


def _on(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(model.device) for name, value in inputs.items()}
