"""What makes a training robust: against noise of the rows, and against chance of the last steps."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from springtide_api.schema import Fraction, Model, cel


@cel(
    "has(self.ema) != has(self.lastK)",
    "averaging needs either ema or lastK; set one, such as ema: '0.999'",
)
@cel(
    "!has(self.ema) || (double(self.ema) > 0.0 && double(self.ema) < 1.0)",
    "ema must be greater than 0 and less than 1; 0.999 is usual",
    "ema",
)
class Averaging(Model):
    """Averages the trained weights over the steps.

    The average is validated, evaluated and served, in place of the weights of the last step. It
    needs a second copy of the trained weights in memory and in each checkpoint. With method LoRA
    the weights of adapters and head are averaged.
    """

    ema: Fraction | None = None
    """Exponential moving average (Polyak and Juditsky 1992): after each step, ema times the average
    plus (1 - ema) times the weights. In step t, ema is at most (1 + t) / (10 + t), so that short
    runs do not average the weights that they began with. A usual value is "0.999"."""
    last_k: Annotated[int | None, Field(ge=2, le=1_000_000)] = None
    """Mean of the weights after each of the last lastK steps (arXiv:1610.03774); of a run with
    fewer steps, after each step. Excludes earlyStopping."""


@cel(
    "has(self.averaging)",
    "robustness needs averaging; set it, or remove robustness",
)
class Robustness(Model):
    """What makes a training robust."""

    averaging: Averaging | None = None
    """Average of the weights over the steps. Default: the weights of the last step or, with
    earlyStopping, of the best one."""
