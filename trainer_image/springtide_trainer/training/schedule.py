"""The learning rate of each step, as a function of the step alone: nothing to save or restore."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class WarmupThen:
    """Rise over the warm-up, then fall as `shape` says, to 0 after the last step.

    Attributes:
        shape: Linear, Cosine (half a wave) or Constant (no fall).
        peak: The highest learning rate.
        total: Steps of the whole run.
        warmup: Share of the steps in which the rate rises.
    """

    shape: Literal["Linear", "Cosine", "Constant"]
    peak: float
    total: int
    warmup: float

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 1."""
        rising = math.ceil(self.warmup * self.total)
        if step <= rising:
            return self.peak * step / (rising + 1)
        done = (step - 1 - rising) / max(1, self.total - rising)
        match self.shape:
            case "Linear":
                return self.peak * (1 - done)
            case "Cosine":
                return self.peak * (1 + math.cos(math.pi * done)) / 2
            case "Constant":
                return self.peak
