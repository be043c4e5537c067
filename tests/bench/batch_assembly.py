"""Seconds to assemble one batch, now and before, when the lengths of all rows were read each time.

    python tests/bench/batch_assembly.py [ROWS ...]

Both ways run in turns on the same rows; compare the ratio within one run only.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from springtide_trainer.artifact.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BATCH, TOKENS, ROUNDS = 32, 44, 5


def stream(rows: int) -> Tokens:
    """Rows of 44 tokens on average."""
    lengths = np.random.default_rng(0).integers(8, 2 * TOKENS - 8, rows)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = {"input_ids": np.ones(starts[-1], np.int32)}
    return Tokens(values, starts, {"input_ids": 0})


def before(tokens: Tokens, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
    """Assemble a batch as before."""
    lengths = np.diff(tokens.starts)[rows]
    inside = np.arange(int(lengths.max())) < lengths[:, None]
    places = np.concatenate([np.arange(tokens.starts[row], tokens.starts[row + 1]) for row in rows])
    padded = np.full(inside.shape, 0, dtype=np.int64)
    padded[inside] = tokens.values["input_ids"][places]
    mask = torch.from_numpy(inside.astype(np.int64))
    return {"attention_mask": mask, "input_ids": torch.from_numpy(padded)}


def seconds(make: Callable[[NDArray[np.int64]], object], batches: list[NDArray[np.int64]]) -> float:
    """Return processor seconds of one batch."""
    began = time.process_time()
    for rows in batches:
        make(rows)
    return (time.process_time() - began) / len(batches)


def main() -> None:
    sizes = [int(text) for text in sys.argv[1:]] or [10_000, 100_000, 1_000_000, 10_000_000]
    print(f"batches of {BATCH} rows, {TOKENS} tokens a row; best of {ROUNDS} rounds in turns")
    for size in sizes:
        tokens, chance = stream(size), np.random.default_rng(1)
        batches = [chance.integers(0, size, BATCH) for _ in range(20)]
        for rows in batches:
            old, new = before(tokens, rows), tokens.batch(rows)
            assert all(torch.equal(old[name], new[name]) for name in old)
        rounds = [
            (seconds(lambda rows: before(tokens, rows), batches), seconds(tokens.batch, batches))  # noqa: B023
            for _ in range(ROUNDS)
        ]
        old_s, new_s = (min(times) for times in zip(*rounds, strict=True))
        epoch = size / BATCH / 3600
        print(
            f"{size:>12,} rows: {old_s * 1e6:10.0f} us before, {new_s * 1e6:6.0f} us now, "
            f"{old_s / new_s:7.1f} times; an epoch {old_s * epoch:7.3f} h before, "
            f"{new_s * epoch:6.3f} h now",
            flush=True,
        )


if __name__ == "__main__":
    main()
