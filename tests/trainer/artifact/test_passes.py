"""Processes that score rows together run equally many passes, of which each row counts once."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from springtide_trainer.artifact.models import predict
from springtide_trainer.artifact.tokens import Tokens
from springtide_trainer.processes import Processes

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTHS = [3, 1, 2, 5, 4, 1, 2]
TOKENS = Tokens(
    {"input_ids": np.repeat(np.arange(1, 8, dtype=np.int32), LENGTHS)},
    np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64),
    {"input_ids": 0},
)
TASK: Any = SimpleNamespace(width=1, predict=lambda logits: logits)


class Counted:
    """A model whose score of a row is its first token, and which counts its passes."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.passes = 0

    def train(self, mode: bool = True) -> None:
        pass

    def __call__(self, input_ids: torch.Tensor, **_: torch.Tensor) -> Any:
        self.passes += 1
        return SimpleNamespace(logits=input_ids[:, :1].float())


@dataclass(frozen=True)
class Unconnected(Processes):
    """A process whose rows are not merged with those of the others."""

    def merge(self, rows: NDArray[np.float32]) -> None:
        pass


@pytest.mark.parametrize(
    ("count", "size", "passes"), [(1, 2, 4), (2, 2, 2), (3, 2, 2), (4, 1, 2), (5, 7, 1), (2, 4, 1)]
)
def test_each_process_runs_as_many_passes_as_the_others(count, size, passes):
    rows, total = np.array([6, 0, 3, 5, 1, 4, 2]), np.zeros(7, dtype=np.float32)
    for rank in range(count):
        model, seen = Counted(), []
        scores = predict(
            TASK,
            model,
            TOKENS,
            rows=rows,
            batch_size=size,
            observe=seen.append,
            processes=Unconnected(rank, count),
        )
        assert model.passes == passes
        assert len(seen) <= passes
        total += scores[:, 0]
    assert total.tolist() == [row + 1.0 for row in rows]


def test_no_rows_need_no_pass():
    model = Counted()
    none = np.empty(0, dtype=np.int64)
    made = predict(TASK, model, TOKENS, rows=none, batch_size=2, processes=Unconnected(1, 2))
    assert made.shape == (0, 1)
    assert model.passes == 0
