"""Forward passes on a CPU: rows of about the same length together, one pass on each core.

A core that computes a whole pass waits for no other one, which cores that share each operation of a
pass do, many times in each layer.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from springtide_trainer.artifact import models

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from springtide_trainer.artifact.joined_tokens import TokenRows
    from springtide_trainer.artifact.models import ForwardModel
    from springtide_trainer.tasks.task import Task

PASS_TOKENS = 64
"""A pass takes as long as so many tokens more would: 7 ms for MiniLM, whose token takes 0.15 ms."""


class CpuPasses:
    """Scores rows in passes that its threads share; as many threads as PyTorch would use."""

    def __init__(self) -> None:
        self._count = torch.get_num_threads()
        self._threads = ThreadPoolExecutor(
            self._count, "passes", initializer=torch.set_num_threads, initargs=(1,)
        )

    def predict(
        self,
        task: Task,
        model: ForwardModel,
        tokens: TokenRows,
        *,
        rows: NDArray[np.int64],
        batch_size: int,
    ) -> NDArray[np.float32]:
        """Score these rows, as `models.predict` does: float32 [rows, outputs].

        Too few passes for all threads are computed one by one, by all of them.

        Args:
            task: The task.
            model: Its model, on the CPU.
            tokens: All rows.
            rows: int64, those to score.
            batch_size: Maximum rows of a pass.
        """
        order = rows[np.argsort(tokens.lengths[rows], kind="stable")]
        each = min(batch_size, -(-len(order) // self._count))
        passes = [order[part] for part in cut(tokens.lengths[order], each)]

        def scored(part: NDArray[np.int64]) -> NDArray[np.float32]:
            return models.predict(task, model, tokens, rows=part, batch_size=len(part))

        if 2 * len(passes) > self._count > 1:
            # The longest first, so that the threads end at about the same time.
            made = [*self._threads.map(scored, passes[::-1])][::-1]
        else:
            torch.set_num_threads(self._count)
            made = [*map(scored, passes)]
        scores = np.concatenate(made)
        at = np.empty(len(tokens.lengths), np.int64)
        at[order] = np.arange(len(order))
        return scores[at[rows]]


def cut(lengths: NDArray[np.int64], most: int) -> list[slice]:
    """Cut sorted rows into passes which together take the least time.

    By dynamic programming: a pass takes the time of its padded tokens, and of `PASS_TOKENS`.

    Args:
        lengths: int64 [rows], the tokens of each row, ascending.
        most: Maximum rows of a pass.
    """
    widths = lengths.tolist()
    least, starts = [0], [0]
    for end, width in enumerate(widths, 1):
        cost, start = min(
            (least[start] + PASS_TOKENS + width * (end - start), start)
            for start in range(max(0, end - most), end)
        )
        least.append(cost)
        starts.append(start)
    passes, end = [], len(widths)
    while end:
        passes.append(slice(starts[end], end))
        end = starts[end]
    return passes[::-1]
