"""Selects the next window: training rows and holdout, from times and counts alone.

Reads no files: rows are given as arrays. `boundaries.py` places the boundary between training rows
and holdout; this module checks the minima and assigns each row to its part of the window.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from springtide_api.schema import duration
from springtide_trainer.data.partitions import moment
from springtide_trainer.data.windows import boundaries
from springtide_trainer.data.windows.new_data import (
    NewData,
    PartitionState,
    StreamIndex,
    WindowRequest,
    find_new_data,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from springtide_trainer.data.windows.boundaries import WindowBounds
    from springtide_trainer.data.windows.new_data import Bools

Reason = Literal["NoNewData", "NotEnoughData", "NotComplete"]
Part = Literal["train", "holdout", "reserved"]
PARTS: tuple[Part, ...] = ("train", "holdout", "reserved")


@dataclass(frozen=True)
class NoWindow:
    """No window is ready, and why."""

    reason: Reason
    message: str
    pending: int
    newest: str | None


@dataclass(frozen=True)
class WindowSplit:
    """A window: its bounds and, as masks, its training rows, reserved rows and holdout rows."""

    bounds: WindowBounds
    train: Bools
    reserved: Bools
    holdout: Bools
    partitions: tuple[str, ...]
    holdout_partitions: tuple[str, ...]
    pending: int
    newest: str | None
    straddling: int
    """Rows excluded from the holdout because their group began before the boundary."""
    excluded: dict[int, int]
    """Rows that were left out between the first and the last row of the window, by the number of
    the generation that served them."""
    unlabelled: int = 0
    """Training rows without a label. Reserved rows and holdout rows all have one."""


def select_window(
    rows: StreamIndex, partitions: Iterable[PartitionState], request: WindowRequest
) -> WindowSplit | NoWindow:
    """Select training rows and holdout, or return what is missing.

    Args:
        rows: All rows that were read, in any order; each is in one of `partitions`.
        partitions: The partitions of the stream, including those without new rows.
        request: The cursor, the clock and the settings.
    """
    new_data = find_new_data(rows, partitions, request)
    bounds = boundaries.place_bounds(new_data, rows, request)
    if isinstance(bounds, boundaries.Shortage):
        return _no_window(new_data, request, bounds)
    split = _split(new_data, rows, bounds)
    short = _training_shortage(new_data, rows, request, split)
    if not short:
        split = _long_enough(new_data, rows, request, split)
        short = _holdout_shortage(rows, request, split)
    if short:
        short += new_data.left_out
        return NoWindow("NotEnoughData", short, pending=new_data.pending, newest=new_data.newest)
    return split


def _long_enough(
    new_data: NewData, rows: StreamIndex, request: WindowRequest, split: WindowSplit
) -> WindowSplit:
    """Lengthen the holdout of a window that ends at maxRows until it has its minima.

    Such a window does not grow with later data: it would be too short for ever.
    """
    ends = [new_data.partitions[at].span.end for at in new_data.new_partitions]
    later = [end for end in ends if end > split.bounds.holdout_to]

    def longer(end: int) -> WindowSplit:
        return _split(new_data, rows, replace(split.bounds, holdout_to=end))

    if not later or not _holdout_shortage(rows, request, split):
        return split
    enough = bisect_left(
        later, True, key=lambda end: not _holdout_shortage(rows, request, longer(end))
    )
    return longer(later[min(enough, len(later) - 1)])


def _split(new_data: NewData, rows: StreamIndex, bounds: WindowBounds) -> WindowSplit:
    """Assign each row to its part. Released partitions are only used for training."""
    before = rows.moment < bounds.holdout_from
    training = (new_data.new | new_data.released) & before & (bounds.trained_through is not None)
    holdout = new_data.new & ~before & (rows.moment < bounds.holdout_to)
    straddling = holdout & _began_before(rows, before)
    judging = holdout & rows.eligible & ~straddling & ~rows.unlabelled
    if judging.any():
        # What has no row of the holdout makes it no longer: a candidate that waits, or another
        # one, would be judged again on equal rows.
        last = new_data.partitions[int(new_data.partition_index[judging].max())]
        bounds = replace(bounds, holdout_to=min(bounds.holdout_to, last.span.end))
    return WindowSplit(
        bounds=bounds,
        train=training & ~rows.reserved,
        reserved=training & rows.reserved & ~rows.unlabelled,
        holdout=judging,
        partitions=new_data.names(training),
        holdout_partitions=new_data.names(judging),
        pending=new_data.pending,
        newest=new_data.newest,
        straddling=int(np.count_nonzero(straddling & rows.eligible)),
        excluded=_excluded(new_data, rows, bounds),
        unlabelled=int(np.count_nonzero(training & ~rows.reserved & rows.unlabelled)),
    )


def _excluded(new_data: NewData, rows: StreamIndex, bounds: WindowBounds) -> dict[int, int]:
    """Count the rows that were left out, by the generation that served them."""
    if rows.served is None:
        return {}
    inside = new_data.excluded & (rows.moment < bounds.holdout_to)
    if bounds.trained_through is None:
        inside &= rows.moment >= bounds.holdout_from
    numbers, counts = np.unique(rows.served[inside], return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _began_before(rows: StreamIndex, before: Bools) -> Bools:
    """Mark the rows whose group has a row before the boundary, trained on or not."""
    if rows.group is None:
        return np.zeros(len(rows.moment), dtype=bool)
    began = np.isin(rows.group, np.unique(rows.group[before]))
    return began if rows.group_seen_before is None else began | rows.group_seen_before


def _training_shortage(
    new_data: NewData, rows: StreamIndex, request: WindowRequest, split: WindowSplit
) -> str:
    """Return what the training rows of a window are short of, or an empty string."""
    if split.bounds.trained_through is None:
        return ""
    trainable, minimum = split.bounds.trainable, request.window.min_rows
    if trainable < minimum and not _max_wait_passed(new_data, request):
        return _counted(trainable, minimum, f"training rows{_known(rows)}", "window.minRows")
    if not split.train.any():
        return "0 training rows: all new rows before the holdout are reserved (data.reserve)"
    if not (split.train & ~rows.unlabelled).any():
        return "0 training rows have a label: pseudo-labels need some that have one"
    return ""


def _holdout_shortage(rows: StreamIndex, request: WindowRequest, split: WindowSplit) -> str:
    """Return what the holdout of a window is short of, or an empty string."""
    excluded = f"; {split.straddling:,} excluded because their group began before the holdout"
    excluded = excluded if split.straddling else ""
    holdout, minimum = int(np.count_nonzero(split.holdout)), request.holdout.min_rows
    if holdout < minimum:
        short = _counted(holdout, minimum, f"holdout rows{_known(rows)}", "holdout.minRows")
        return short + excluded
    entities = len(np.unique(rows.entity[split.holdout]))
    if entities < (minimum := request.holdout.min_entities):
        return _counted(entities, minimum, "holdout entities", "holdout.minEntities") + excluded
    return ""


def _max_wait_passed(new_data: NewData, request: WindowRequest) -> bool:
    """Return whether the oldest new partition ended longer ago than data.window.maxWait."""
    if request.window.max_wait is None:
        return False
    oldest = new_data.partitions[new_data.new_partitions[0]].span
    return moment(request.now) - moment(oldest.end) >= duration(request.window.max_wait)


def _known(rows: StreamIndex) -> str:
    """Say which rows are counted, for messages."""
    return "" if rows.labelled is None else " with a label"


def _counted(count: int, minimum: int, what: str, field: str) -> str:
    return f"{count:,} of {minimum:,} {what} (data.{field})"


def _no_window(new_data: NewData, request: WindowRequest, short: boundaries.Shortage) -> NoWindow:
    """Describe why there is no window: an incomplete partition, or too few partitions."""
    message = f"{short.have:,} of {short.need:,} {short.what}"
    reason: Reason = "NotEnoughData"
    if new_data.first_incomplete is not None:
        reason = "NotComplete"
        message += f"; {request.describe_missing(new_data.first_incomplete)}"
    elif not new_data.new_partitions:
        reason = "NoNewData"
        since = "" if request.cursor is None else f" since {moment(request.cursor).isoformat()}"
        message = f"no new rows{since}"
    message += new_data.left_out
    if request.quarantined:
        message += f"; {len(request.quarantined)} quarantined"
    return NoWindow(reason, message, pending=new_data.pending, newest=new_data.newest)
