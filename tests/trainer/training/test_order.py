"""The order of rows is a function of manifest, seed and epoch, with little padding."""

from __future__ import annotations

import math
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.artifact.tokens import Tokens, Widths
from springtide_trainer.training.optimizer import WarmupThen
from springtide_trainer.training.rows import batches
from springtide_trainer.training.rows.batches import Examples, StepSampler
from springtide_trainer.training.rows.units import Units

steps = partial(batches.steps, collate=torch.from_numpy)


def examples(lengths: list[int]) -> Examples:
    """Rows whose tokens are all equal to the row number plus 1."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.repeat(np.arange(1, len(lengths) + 1, dtype=np.int32), lengths)
    weights = np.linspace(0.5, 2, len(lengths), dtype=np.float32)
    tokens = Tokens({"input_ids": values}, starts, {"input_ids": 0})
    return Examples(tokens, np.zeros(len(lengths), dtype=np.int64), weights)


def sampler(
    rows: int | np.ndarray, batch_size: int = 4, divisor: int = 1, accumulation: int = 1, **options
) -> StepSampler:
    return StepSampler(
        units=Units.of_rows(np.arange(rows) if isinstance(rows, int) else rows),
        **{"manifest": "sha256:1", "seed": 17, **options},
        batch_size=batch_size,
        accumulation=accumulation,
        pass_rows=math.ceil(batch_size / divisor),
    )


def rows_of(step) -> list[int]:
    return [int(row[0]) - 1 for batch in step.batches for row in batch.inputs["input_ids"]]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=90),
    st.integers(1, 7),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_an_epoch_uses_every_row_once(lengths, batch_size, accumulation, divisor):
    cut = sampler(len(lengths), batch_size=batch_size, accumulation=accumulation, divisor=divisor)
    seen = list(steps(examples(lengths), cut, first=1, last=cut.steps_per_epoch))
    assert sorted(row for step in seen for row in rows_of(step)) == list(range(len(lengths)))
    for step in seen:
        assert max(len(batch.labels) for batch in step.batches) <= math.ceil(batch_size / divisor)


def weight_of(step) -> float:
    return sum(float(batch.weights.sum()) for batch in step.batches)


@pytest.mark.parametrize("options", [{}, {"divisor": 2}, {"accumulation": 2}])
def test_a_step_of_high_weights_has_a_larger_loss_than_one_of_low_weights(options):
    rows = examples([5] * 40)
    rows.weights[:] = [0.5] * 20 + [4.5] * 20
    cut = sampler(40, batch_size=1, **options)
    for step in steps(rows, cut, first=1, last=cut.steps_per_epoch):
        mean = np.mean([rows.weights[row] for row in rows_of(step)])
        assert weight_of(step) == pytest.approx(mean / 2.5)


def test_the_mean_weight_is_that_of_the_training_rows():
    rows = examples([5] * 8)
    rows.weights[:] = [100.0] * 4 + [2.0] * 4
    cut = sampler(np.arange(4, 8), batch_size=2)
    assert [weight_of(step) for step in steps(rows, cut, first=1, last=2)] == [1.0, 1.0]


def test_a_step_is_the_same_whatever_the_first_step_is():
    rows = examples([3, 5, 2, 8, 1, 9, 4, 4, 6, 7])
    whole = [rows_of(step) for step in steps(rows, sampler(10), first=1, last=9)]
    tail = [rows_of(step) for step in steps(rows, sampler(10), first=5, last=9)]
    assert whole[4:] == tail


def test_halving_the_batch_keeps_the_rows_of_each_step():
    rows = examples([3, 5, 2, 8, 1, 9, 4, 4, 6, 7])
    whole = [sorted(rows_of(step)) for step in steps(rows, sampler(10), first=1, last=6)]
    halved = [
        sorted(rows_of(step)) for step in steps(rows, sampler(10, divisor=2), first=1, last=6)
    ]
    assert whole == halved


@pytest.mark.parametrize("change", [{"manifest": "sha256:2"}, {"seed": 18}])
def test_manifest_and_seed_change_the_order(change):
    rows = examples([5] * 40)
    before = [rows_of(step) for step in steps(rows, sampler(40), first=1, last=10)]
    assert before != [
        rows_of(step) for step in steps(rows, sampler(40, **change), first=1, last=10)
    ]


def test_epochs_differ_in_their_order():
    rows = examples([5] * 40)
    seen = [rows_of(step) for step in steps(rows, sampler(40), first=1, last=20)]
    assert seen[:10] != seen[10:]


def test_rows_of_similar_length_are_batched_together():
    lengths = np.random.default_rng(0).integers(3, 60, 2000).tolist()
    batches = [
        batch.inputs["attention_mask"]
        for step in steps(examples(lengths), sampler(2000, batch_size=32), first=1, last=63)
        for batch in step.batches
    ]
    padded = sum(mask.numel() for mask in batches)
    assert sum(lengths) / padded > 0.95


def test_rows_are_padded_on_the_tokenizers_side():
    starts = np.array([0, 2, 3])
    tokens = Tokens({"input_ids": np.array([5, 6, 7], np.int32)}, starts, {"input_ids": 9}, True)
    batch = tokens.batch([0, 1])
    assert batch["input_ids"].tolist() == [[5, 6], [9, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize("left", [False, True])
def test_the_width_of_a_batch_is_a_multiple_but_at_most_the_longest_row(left):
    starts = np.array([0, 2, 3, 14])
    values = {"input_ids": np.arange(1, 15, dtype=np.int32)}
    tokens = Tokens(values, starts, {"input_ids": 0}, left)
    widths = Widths(multiple=8, most=11)
    assert tokens.batch([0, 1], widths)["input_ids"].shape == (2, 8)
    assert tokens.batch([0, 2], widths)["input_ids"].shape == (2, 11)
    wide, exact = tokens.batch([0, 1], widths), tokens.batch([0, 1])
    for name, value in wide.items():
        own = value[:, -2:] if left else value[:, :2]
        assert own.tolist() == exact[name].tolist()
        assert int(value.sum()) == int(exact[name].sum())


def test_steps_have_the_same_rows_whatever_the_multiple_of_their_widths():
    lengths = np.random.default_rng(0).integers(3, 60, 200).tolist()
    rows = examples(lengths)
    exact = [*steps(rows, sampler(200), first=1, last=20)]
    wide = [*steps(rows, sampler(200), first=1, last=20, multiple=8)]
    assert [rows_of(step) for step in wide] == [rows_of(step) for step in exact]
    shapes = {batch.inputs["input_ids"].shape[1] for step in wide for batch in step.batches}
    assert all(width % 8 == 0 or width == max(lengths) for width in shapes)


def test_the_memory_of_a_batch_does_not_depend_on_the_total_number_of_rows():
    count = 1_000_000
    starts = np.arange(count + 1, dtype=np.int64)
    tokens = Tokens({"input_ids": np.zeros(count, np.int32)}, starts, {"input_ids": 0})
    tracemalloc.start()
    try:
        tokens.batch(np.arange(32))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < count


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.data(), st.booleans())
def test_a_batch_has_the_tokens_of_its_rows_in_the_requested_order(lengths, data, left):
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.arange(1, starts[-1] + 1, dtype=np.int32)
    tokens = Tokens({"input_ids": values}, starts, {"input_ids": 0}, pad_left=left)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8))
    batch = tokens.batch(rows)
    kept = [
        ids[mask.bool()].tolist()
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert kept == [values[starts[row] : starts[row + 1]].tolist() for row in rows]


def test_the_learning_rate_warms_up_and_decays_by_its_schedule():
    def rates(shape: str) -> list[float]:
        schedule = WarmupThen(shape, peak=1.0, total=10, warmup=0.2)
        return [round(schedule(step), 3) for step in range(1, 11)]

    assert rates("Constant") == [0.333, 0.667, 1, 1, 1, 1, 1, 1, 1, 1]
    assert rates("Linear") == [0.333, 0.667, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    assert rates("Cosine")[2] == 1
    assert rates("Cosine")[6] == 0.5
    assert all(rate > 0 for rate in rates("Cosine"))
