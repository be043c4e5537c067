"""Tokens of rows in several places, read as those of one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.artifact.joined_tokens import JoinedTokens
from springtide_trainer.artifact.tokens import EXACT, Tokens, Widths

SUMMED = "response_mask"


def tokens_of(lengths: list[int], *, left: bool = False, seed: int = 0) -> Tokens:
    starts = np.append(0, np.cumsum(lengths)).astype(np.int64)
    random = np.random.default_rng(seed)
    values = {
        "input_ids": random.integers(1, 9, starts[-1]).astype(np.uint16),
        SUMMED: random.integers(0, 2, starts[-1]).astype(np.uint8),
    }
    return Tokens(values, starts, {"input_ids": 9, SUMMED: 0}, left)


def parts_of(whole: Tokens, cuts: list[int]) -> list[Tokens]:
    """Cut rows before these ones."""
    ends = [0, *cuts, len(whole.starts) - 1]
    found = []
    for begin, end in pairwise(ends):
        first, last = whole.starts[begin], whole.starts[end]
        values = {name: each[first:last] for name, each in whole.values.items()}
        starts = whole.starts[begin : end + 1] - first
        found.append(Tokens(values, starts, whole.padding, whole.pad_left))
    return found


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.data(), st.booleans())
def test_rows_of_many_parts_are_padded_as_rows_of_one(lengths, data, left):
    count = len(lengths)
    whole = tokens_of(lengths, left=left)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=6)))
    rows = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=8))
    joined = JoinedTokens.of(*parts_of(whole, cuts))
    assert joined.lengths.tolist() == lengths
    assert joined.sums(SUMMED).tolist() == whole.sums(SUMMED).tolist()
    for widths in (EXACT, Widths(multiple=4, most=5)):
        found, wanted = joined.batch(rows, widths), whole.batch(rows, widths)
        assert [*found] == [*wanted]
        for name, each in wanted.items():
            assert found[name].tolist() == each.tolist()
            assert found[name].dtype == each.dtype


def test_rows_that_are_joined_already_are_joined_to_others():
    one, two, three = (tokens_of([2, 3], seed=seed) for seed in range(3))
    joined = JoinedTokens.of(JoinedTokens.of(one, two), three)
    assert [*joined.parts] == [one, two, three]
    rows = joined.batch([5, 0, 2])["input_ids"]
    expected = [each.batch([row])["input_ids"] for each, row in ((three, 1), (one, 0), (two, 0))]
    assert [row[:3].tolist()[: len(each[0])] for row, each in zip(rows, expected, strict=True)] == [
        each[0].tolist() for each in expected
    ]
    with pytest.raises(TypeError, match="str cannot be joined"):
        JoinedTokens.of(one, "rows")  # type: ignore[arg-type]


def test_a_batch_reads_only_the_parts_that_have_its_rows():
    class Unread:
        """Stands for the mapped file of a part."""

        def __getitem__(self, _: Any) -> Any:
            raise AssertionError("read")

    parts = parts_of(tokens_of([1, 2, 3, 4, 5, 6]), [2, 4])
    unread = Tokens({"input_ids": Unread(), SUMMED: Unread()}, parts[1].starts, parts[1].padding)
    joined = JoinedTokens([parts[0], unread, parts[2]])  # type: ignore[list-item]
    assert joined.lengths.tolist() == [1, 2, 3, 4, 5, 6]
    assert joined.batch([5, 0, 4])["attention_mask"].sum(1).tolist() == [6, 1, 5]
    with pytest.raises(AssertionError, match="read"):
        joined.batch([5, 3])


def test_the_lengths_of_joined_rows_are_computed_once():
    joined = JoinedTokens([tokens_of([1, 2]), tokens_of([3])])
    assert joined.lengths is joined.lengths
