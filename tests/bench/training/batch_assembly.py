"""Assembly of batches: the rows of a batch, against reading the lengths of all rows each time."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from bench.training.rounds import Benchmark, Comparison, Quality, Side
from bench.training.sides import BATCH

from springtide_trainer.artifact.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.training.rounds import Clock, Round
    from numpy.typing import NDArray

TOKENS = 44
"""Of a row, on average."""
BATCHES = 50


@lru_cache(maxsize=1)
def stream(rows: int) -> Tokens:
    """Make rows of 44 tokens on average."""
    lengths = np.random.default_rng(0).integers(8, 2 * TOKENS - 8, rows)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = {"input_ids": np.ones(starts[-1], np.uint16)}
    return Tokens(values, starts, {"input_ids": 0})


def lengths_of_all(tokens: Tokens, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
    """Assemble a batch from the lengths of all rows and a range of tokens for each of its rows."""
    lengths = np.diff(tokens.starts)[rows]
    inside = np.arange(int(lengths.max())) < lengths[:, None]
    places = np.concatenate([np.arange(tokens.starts[row], tokens.starts[row + 1]) for row in rows])
    padded = np.full(inside.shape, 0, dtype=np.int64)
    padded[inside] = tokens.values["input_ids"][places]
    mask = torch.from_numpy(inside.astype(np.int64))
    return {"attention_mask": mask, "input_ids": torch.from_numpy(padded)}


def assemble(
    shared: Round, clock: Clock, *, make: Callable[[Tokens, NDArray[np.int64]], Any]
) -> tuple[int, Any]:
    """Assemble random batches; the result is their tensors."""
    tokens = stream(shared.sizes.assembled)
    rng = np.random.default_rng(shared.number)
    batches = [rng.integers(0, shared.sizes.assembled, BATCH) for _ in range(BATCHES)]
    with clock.running():
        made = [make(tokens, each) for each in batches]
    return BATCH * BATCHES, made


def differing(shared: Round, results: dict[str, Any]) -> dict[str, float]:
    """Count the tensors that are not those of this trainer."""
    expected = results["Springtide"]
    return {
        name: float(
            sum(
                not torch.equal(ours[key], theirs[key])
                for ours, theirs in zip(expected, made, strict=True)
                for key in ours
            )
        )
        for name, made in results.items()
    }


ASSEMBLY = Benchmark(
    "batch_assembly",
    f"Assembly of batches of {BATCH} rows",
    [
        Side(
            "Springtide",
            "Reads the lengths and the tokens of the rows of the batch.",
            partial(assemble, make=Tokens.batch),
        ),
        Side(
            "lengths of all rows",
            "Computes the lengths of all rows for each batch, as this trainer did at first.",
            partial(assemble, make=lengths_of_all),
        ),
    ],
    [Comparison("assembly of batches", "Springtide", "lengths of all rows")],
    Quality("differing tensors", tolerance=0.0, of=differing),
    ("assembled",),
)
