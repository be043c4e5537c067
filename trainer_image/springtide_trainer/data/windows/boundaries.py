"""Places the boundary between training rows and holdout: on a partition boundary or at a second.

Rows before the boundary are training rows, rows after it the holdout. Promotion moves the cursor to
the boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.data.partitions import SECOND
from springtide_trainer.data.windows.new_data import find_new_data

if TYPE_CHECKING:
    from collections.abc import Iterable

    from springtide_trainer.data.windows.new_data import (
        Bools,
        Codes,
        NewData,
        PartitionState,
        StreamIndex,
        WindowRequest,
    )


@dataclass(frozen=True)
class WindowBounds:
    """The boundaries of a window, in microseconds since 1970."""

    start: int | None
    trained_through: int | None
    """t1; None if only a holdout is requested."""
    holdout_from: int
    holdout_to: int
    """t2, exclusive."""
    trainable: int = 0
    """Training rows with a label before maxRows is applied: compared with minRows."""


@dataclass(frozen=True)
class Shortage:
    """There is not enough data to place the boundary."""

    have: int
    need: int
    what: str


def place_bounds(
    new_data: NewData, rows: StreamIndex, request: WindowRequest
) -> WindowBounds | Shortage:
    """Place the boundary by the holdout strategy, or the holdout's end for a pending candidate."""
    latest = request.holdout.strategy.latest_partitions
    if request.holdout_from is not None:
        return _holdout_only(
            new_data, rows, request.holdout_from, need=latest.partitions if latest else 1
        )
    if latest is not None:
        return _on_boundary(new_data, rows, request, holdout_partitions=latest.partitions)
    tail = request.holdout.strategy.tail
    return _at_second(new_data, rows, request, share=Fraction(tail.fraction if tail else "0.2"))


def next_holdout(
    rows: StreamIndex, partitions: Iterable[PartitionState], request: WindowRequest
) -> int | None:
    """Return the start of the first partition that the next holdout has a part of.

    Returns:
        Microseconds since 1970; None if there are too few rows for a holdout.
    """
    new_data = find_new_data(rows, partitions, request)
    bounds = place_bounds(new_data, rows, request)
    if isinstance(bounds, Shortage):
        return None
    begin = bounds.holdout_from
    spans = (new_data.partitions[at].span for at in new_data.new_partitions)
    return next((span.start for span in spans if span.start < begin < span.end), begin)


def _holdout_only(
    new_data: NewData, rows: StreamIndex, begin: int, need: int
) -> WindowBounds | Shortage:
    """Take all complete partitions after a candidate's training rows as its holdout."""
    after = np.unique(new_data.partition_index[new_data.new & (rows.moment >= begin)])
    if len(after) < need:
        return Shortage(len(after), need, "complete holdout partitions for the pending candidate")
    return WindowBounds(
        start=None,
        trained_through=None,
        holdout_from=begin,
        holdout_to=new_data.partitions[int(after[-1])].span.end,
    )


def _on_boundary(
    new_data: NewData, rows: StreamIndex, request: WindowRequest, holdout_partitions: int
) -> WindowBounds | Shortage:
    """Take the newest partitions as holdout; with maxRows, those after the training partitions."""
    found = new_data.new_partitions
    if len(found) < holdout_partitions + 1:
        return Shortage(len(found), holdout_partitions + 1, "complete partitions")
    training = found[:-holdout_partitions]

    def sums(counted: Bools) -> Codes:
        """Count rows up to the end of each partition."""
        index = new_data.partition_index[(new_data.new | new_data.released) & counted]
        return np.cumsum(np.bincount(index, minlength=len(new_data.partitions)))[training]

    labelled, count = sums(~rows.reserved & ~rows.unlabelled), len(training)
    if request.window.max_rows is not None:
        most = np.searchsorted(sums(~rows.reserved), request.window.max_rows, side="right")
        count = max(1, int(most))
        if rows.labelled is not None:
            count = max(count, 1 + int(np.searchsorted(labelled, _least(labelled[-1], request))))
    end = new_data.partitions[found[count - 1]].span.end
    return WindowBounds(
        start=request.cursor,
        trained_through=end,
        holdout_from=end,
        holdout_to=new_data.partitions[found[count + holdout_partitions - 1]].span.end,
        trainable=int(labelled[-1]),
    )


def _at_second(
    new_data: NewData, rows: StreamIndex, request: WindowRequest, share: Fraction
) -> WindowBounds | Shortage:
    """Take the newest share of the rows as holdout. Rows of one second are not separated.

    The boundary is a whole second, like the times of the API.
    """
    seconds = rows.moment // SECOND
    order = np.sort(seconds[new_data.new])
    if len(order) == 0 or order[0] == order[-1]:
        return Shortage(len(np.unique(order)), 2, "distinct seconds with new rows")
    first = int(order[np.searchsorted(order, order[0], side="right")])
    boundary = max(first, int(order[len(order) - max(1, int(share * len(order)))]))
    inside = (seconds < boundary) & ~rows.reserved
    before, released = new_data.new & inside, _count(new_data.released & inside)
    labelled = np.sort(seconds[(new_data.new | new_data.released) & inside & ~rows.unlabelled])
    end = new_data.partitions[new_data.new_partitions[-1]].span.end
    if request.window.max_rows is not None and _count(before) + released > request.window.max_rows:
        trained = np.sort(seconds[before])
        boundary = _limited(trained, max(0, request.window.max_rows - released), default=boundary)
        if rows.labelled is not None and len(labelled):
            boundary = max(boundary, int(labelled[_least(len(labelled), request) - 1]) + 1)
        rows_before = int(np.searchsorted(order, boundary))
        holdout_rows = max(1, int(share / (1 - share) * rows_before))
        if rows_before + holdout_rows < len(order):
            end = (int(order[rows_before + holdout_rows - 1]) + 1) * SECOND
    at = boundary * SECOND
    return WindowBounds(
        start=request.cursor,
        trained_through=at,
        holdout_from=at,
        holdout_to=end,
        trainable=len(labelled),
    )


def _least(labelled: int, request: WindowRequest) -> int:
    """Return how many rows with a label a window has at least, whatever maxRows: of `labelled`."""
    return min(request.window.min_rows, int(labelled))


def _limited(trained: np.ndarray, max_rows: int, default: int) -> int:
    """Return the second before which there are at most `max_rows` rows, but at least one second.

    Args:
        trained: Seconds of the training rows, sorted.
        max_rows: Maximum number of rows.
        default: The result if all rows are before it.
    """
    if max_rows < len(trained) and trained[max_rows] > trained[0]:
        return int(trained[max_rows])
    second = int(np.searchsorted(trained, trained[0], side="right")) if len(trained) else 0
    return int(trained[second]) if second < len(trained) else default


def _count(rows: Bools) -> int:
    return int(np.count_nonzero(rows))
