"""Several processes learn the rows of a step of one process, each with the same factor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.artifact.tokens import Tokens
from springtide_trainer.processes import ALONE, Processes
from springtide_trainer.training.rows.batches import Examples, Step, StepSampler, steps
from springtide_trainer.training.rows.units import Units


def examples(lengths: list[int]) -> Examples:
    """Rows whose tokens and label are the row number plus 1, of different weights."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.repeat(np.arange(1, len(lengths) + 1, dtype=np.int32), lengths)
    tokens = Tokens({"input_ids": values}, starts, {"input_ids": 0})
    weights = 0.5 + np.arange(len(lengths), dtype=np.float32)
    return Examples(tokens, np.arange(len(lengths)), weights)


def of_process(rows: Examples, sampler: StepSampler, processes: Processes) -> list[Step]:
    last = sampler.steps_per_epoch
    made = steps(rows, sampler, collate=torch.from_numpy, first=1, last=last, processes=processes)
    return list(made)


def learnt(step: Step) -> list[tuple[int, float]]:
    """Return the rows of a step with the factor of each, without those of factor 0."""
    return [
        (label, weight)
        for batch in step.batches
        for label, weight in zip(batch.labels.tolist(), batch.weights.tolist(), strict=True)
        if weight > 0
    ]


@given(
    group=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    grouped=st.booleans(),
    batch_size=st.integers(1, 9),
    tokens=st.integers(1, 60),
    count=st.integers(2, 5),
)
def test_the_shares_of_all_processes_are_the_steps_of_one(
    group, grouped, batch_size, tokens, count
):
    rows, all_rows = examples([1 + number % 7 for number in group]), np.arange(len(group))
    units = Units.of_groups(all_rows, np.array(group)) if grouped else Units.of_rows(all_rows)
    sampler = StepSampler(
        units,
        manifest="sha256:1",
        seed=17,
        batch_size=batch_size,
        accumulation=2,
        pass_rows=batch_size,
        pass_tokens=tokens,
    )
    one = of_process(rows, sampler, ALONE)
    shares = [of_process(rows, sampler, Processes(rank, count)) for rank in range(count)]

    for step, *own in zip(one, *shares, strict=True):
        together = sorted(pair for share in own for pair in learnt(share))
        assert together == sorted(learnt(step))  # a unit is learnt once, with the same factors
        assert len({len(share.batches) for share in own}) == 1
        assert {share.number for share in own} == {step.number}


def test_a_process_without_rows_computes_a_pass_of_factor_0():
    sampler = StepSampler(
        Units.of_rows(np.arange(5)), "sha256:1", 17, batch_size=4, accumulation=1, pass_rows=4
    )
    shares = [of_process(examples([3] * 5), sampler, Processes(rank, 4)) for rank in range(4)]
    short = next(place for place, step in enumerate(shares[1]) if not learnt(step))
    assert [len(learnt(share[short])) for share in shares] == [1, 0, 0, 0]
    for share in shares[1:]:
        (idle,) = share[short].batches
        assert idle.weights.tolist() == [0.0]


def test_each_process_has_other_random_numbers_in_each_step():
    sampler = StepSampler(
        Units.of_rows(np.arange(64)), "sha256:1", 17, batch_size=8, accumulation=1, pass_rows=8
    )
    rows = examples([3] * 64)
    seeds = [
        step.seed for rank in range(4) for step in of_process(rows, sampler, Processes(rank, 4))
    ]
    assert len({*seeds}) == len(seeds)
    first = of_process(rows, sampler, Processes(0, 4))
    assert [step.seed for step in first] == [step.seed for step in of_process(rows, sampler, ALONE)]


@pytest.mark.parametrize("count", [1, 3])
def test_shares_of_units_differ_by_at_most_one(count):
    sizes = [len(Processes(rank, count).share(np.arange(7))) for rank in range(count)]
    assert sum(sizes) == 7
    assert max(sizes) - min(sizes) <= 1
