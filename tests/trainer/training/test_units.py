"""A step consists of rows or of whole groups; forward passes split a step, but never a group."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.artifact.tokens import Tokens
from springtide_trainer.training.rows.batches import Examples, StepSampler, steps
from springtide_trainer.training.rows.units import Units


def examples(lengths: list[int], weights: list[float] | None = None) -> Examples:
    """Rows whose tokens and label are the row number plus 1."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.repeat(np.arange(1, len(lengths) + 1, dtype=np.int32), lengths)
    tokens = Tokens({"input_ids": values}, starts, {"input_ids": 0})
    given_weights = np.array(weights or [1.0] * len(lengths), dtype=np.float32)
    return Examples(tokens, np.arange(len(lengths)), given_weights)


def sampler(units: Units, batch_size: int = 2, pass_rows: int = 6, **more) -> StepSampler:
    options = {"manifest": "sha256:1", "seed": 17, "accumulation": 1} | more
    return StepSampler(units, batch_size=batch_size, pass_rows=pass_rows, **options)


def an_epoch(rows: Examples, of: StepSampler):
    return list(steps(rows, of, collate=torch.from_numpy, first=1, last=of.steps_per_epoch))


GROUPS = st.lists(st.integers(0, 12), min_size=1, max_size=80)


@given(GROUPS, st.integers(1, 5), st.integers(1, 3), st.integers(1, 9))
def test_every_group_is_whole_in_one_pass_of_one_step_of_an_epoch(
    group, batch_size, accumulation, pass_rows
):
    codes = np.array(group)
    units = Units.of_groups(np.arange(len(codes)), codes)
    of = sampler(units, batch_size, pass_rows, accumulation=accumulation)
    seen: list[int] = []
    for step in an_epoch(examples([3] * len(codes)), of):
        assert sum(len(batch.groups) for batch in step.batches) <= batch_size * accumulation
        for batch in step.batches:
            assert len(batch.labels) == sum(batch.groups)
            assert len(batch.labels) <= pass_rows or len(batch.groups) == 1
            for part in batch.labels.split(list(batch.groups)):
                (own,) = set(codes[part.numpy()].tolist())
                assert sorted(part.tolist()) == np.flatnonzero(codes == own).tolist()
                seen.append(own)
    assert sorted(seen) == sorted(set(group))


def test_a_group_counts_once_whatever_its_number_of_rows():
    units = Units.of_groups(np.arange(5), np.array([0, 1, 1, 1, 1]))
    (step,) = an_epoch(examples([3] * 5), sampler(units))
    (batch,) = step.batches
    factors = [float(part.sum()) for part in batch.weights.split(list(batch.groups))]
    assert (sorted(batch.groups), factors) == ([1, 4], [0.5, 0.5])


def test_the_weight_of_a_group_is_the_mean_of_the_weights_of_its_rows():
    units = Units.of_groups(np.arange(4), np.array([0, 0, 1, 1]))
    (step,) = an_epoch(examples([3] * 4, [0, 2, 3, 3]), sampler(units))
    (batch,) = step.batches
    factors = {
        int(part[0]) // 2: float(weights.sum())
        for part, weights in zip(
            batch.labels.split(list(batch.groups)),
            batch.weights.split(list(batch.groups)),
            strict=True,
        )
    }
    assert factors == {0: pytest.approx(0.25), 1: pytest.approx(0.75)}


def test_smaller_passes_keep_the_groups_of_each_step_and_their_weights():
    codes = np.random.default_rng(1).integers(0, 20, 90)
    units = Units.of_groups(np.arange(90), codes)
    rows = examples([4] * 90)

    def content(pass_rows: int):
        return [
            [
                torch.cat([getattr(batch, name) for batch in step.batches]).tolist()
                for name in ("labels", "weights")
            ]
            for step in an_epoch(rows, sampler(units, 4, pass_rows))
        ]

    assert content(200) == content(6)


def test_units_of_a_mask_keep_their_rows():
    units = Units.of_groups(np.array([0, 1, 3, 4, 5]), np.array([7, 8, 7, 7, 8, 9]))
    kept = units.only(np.array([True, False, True]))
    assert (kept.rows.tolist(), kept.starts.tolist()) == ([0, 3, 5], [0, 2, 3])


def test_groups_of_similar_length_are_batched_together():
    random = np.random.default_rng(0)
    codes = np.repeat(np.arange(800), 4)
    lengths = np.repeat(random.integers(3, 60, 800), 4) + random.integers(0, 3, 3200)
    of = sampler(Units.of_groups(np.arange(3200), codes), 8, 32)
    masks = [
        batch.inputs["attention_mask"]
        for step in an_epoch(examples(lengths.tolist()), of)
        for batch in step.batches
    ]
    assert lengths.sum() / sum(mask.numel() for mask in masks) > 0.9


def test_rows_as_units_have_the_order_and_the_weights_of_checkpoints_of_format_3():
    lengths = list(range(1, 60)) * 2
    rows = examples(lengths, np.linspace(0.5, 2, 118, dtype=np.float32).tolist())
    rows = Examples(rows.tokens, np.zeros(118, dtype=np.int64), rows.weights)
    of = sampler(Units.of_rows(np.arange(118)), 4, 4, accumulation=2)
    found = hashlib.sha256()
    for step in steps(rows, of, collate=torch.from_numpy, first=1, last=40):
        found.update(str((step.number, step.seed, len(step.batches))).encode())
        for batch in step.batches:
            for name in sorted(batch.inputs):
                shape = str(batch.inputs[name].shape).encode()
                found.update(batch.inputs[name].numpy().tobytes() + shape)
            found.update(batch.labels.numpy().tobytes())
            found.update(batch.weights.numpy().tobytes())
    assert found.hexdigest()[:32] == "681a40dcd30d88f9be0e632f9850866b"
    assert of.steps_per_epoch == math.ceil(118 / 8)
