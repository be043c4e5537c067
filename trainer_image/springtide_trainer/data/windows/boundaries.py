"""Where the cut between training and judging lies: on a partition's boundary, or at a second.

What comes before the cut trains, what comes after it judges; promotion moves the cursor to the cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.data.partitions import SECOND

if TYPE_CHECKING:
    from springtide_trainer.data.windows.new_data import Ask, Bools, Fresh, Rows


@dataclass(frozen=True)
class Bounds:
    """A window's moments, in microseconds since 1970."""

    start: int | None
    trained_through: int | None
    """t1; None where only a holdout was asked for."""
    judged_from: int
    judged_to: int
    """t2, excluded."""
    trainable: int = 0
    """Training rows before the limit of maxRows: what minRows asks for."""


@dataclass(frozen=True)
class TooFew:
    """A cut needs more than there is."""

    have: int
    need: int
    what: str


def place(fresh: Fresh, rows: Rows, ask: Ask) -> Bounds | TooFew:
    """Place the cut by the holdout's strategy, or the end of a holdout that a candidate awaits."""
    latest = ask.holdout.strategy.latest_partitions
    if ask.judge_from is not None:
        return _holdout_only(fresh, rows, ask.judge_from, need=latest.partitions if latest else 1)
    if latest is not None:
        return _on_boundary(fresh, rows, ask, judging=latest.partitions)
    tail = ask.holdout.strategy.tail
    return _at_second(fresh, rows, ask, share=Fraction(tail.fraction if tail else "0.2"))


def _holdout_only(fresh: Fresh, rows: Rows, begin: int, need: int) -> Bounds | TooFew:
    """Take all that is complete after a candidate's training rows."""
    after = np.unique(fresh.index[fresh.new & (rows.moment >= begin)])
    if len(after) < need:
        return TooFew(len(after), need, "complete partitions to judge the waiting candidate")
    return Bounds(
        start=None,
        trained_through=None,
        judged_from=begin,
        judged_to=fresh.known[int(after[-1])].span.end,
    )


def _on_boundary(fresh: Fresh, rows: Rows, ask: Ask, judging: int) -> Bounds | TooFew:
    """Let the newest partitions judge; with maxRows, those that follow the oldest ones."""
    found = fresh.found
    if len(found) < judging + 1:
        return TooFew(len(found), judging + 1, "complete partitions")
    counts = np.bincount(fresh.index[fresh.new & ~rows.reserved], minlength=len(fresh.known))
    released = _count(fresh.released & ~rows.reserved)
    training = found[:-judging]
    sums = released + np.cumsum(counts[training])
    taken = len(training)
    if ask.window.max_rows is not None:
        taken = max(1, int(np.searchsorted(sums, ask.window.max_rows, side="right")))
    end = fresh.known[found[taken - 1]].span.end
    return Bounds(
        start=ask.cursor,
        trained_through=end,
        judged_from=end,
        judged_to=fresh.known[found[taken + judging - 1]].span.end,
        trainable=int(sums[-1]),
    )


def _at_second(fresh: Fresh, rows: Rows, ask: Ask, share: Fraction) -> Bounds | TooFew:
    """Let the newest share of the rows judge. Rows of one second stay on one side.

    The cut is a whole second because the API's times are.
    """
    seconds = rows.moment // SECOND
    order = np.sort(seconds[fresh.new])
    if len(order) == 0 or order[0] == order[-1]:
        return TooFew(len(np.unique(order)), 2, "seconds with new rows to cut between")
    first = int(order[np.searchsorted(order, order[0], side="right")])
    cut = max(first, int(order[len(order) - max(1, int(share * len(order)))]))
    before = fresh.new & (seconds < cut) & ~rows.reserved
    released = _count(fresh.released & ~rows.reserved)
    trainable = _count(before) + released
    end = fresh.known[fresh.found[-1]].span.end
    if ask.window.max_rows is not None and trainable > ask.window.max_rows:
        trained = np.sort(seconds[before])
        cut = _limited(trained, max(0, ask.window.max_rows - released), otherwise=cut)
        so_far = int(np.searchsorted(order, cut))
        judged = max(1, int(share / (1 - share) * so_far))
        if so_far + judged < len(order):
            end = (int(order[so_far + judged - 1]) + 1) * SECOND
    at = cut * SECOND
    return Bounds(
        start=ask.cursor, trained_through=at, judged_from=at, judged_to=end, trainable=trainable
    )


def _limited(trained: np.ndarray, most: int, otherwise: int) -> int:
    """Return the second before which at most so many rows lie, but at least one second's.

    Args:
        trained: Seconds of the training rows, in order.
        most: Rows at most.
        otherwise: The cut if all rows lie before it.
    """
    if most < len(trained) and trained[most] > trained[0]:
        return int(trained[most])
    behind = int(np.searchsorted(trained, trained[0], side="right")) if len(trained) else 0
    return int(trained[behind]) if behind < len(trained) else otherwise


def _count(rows: Bools) -> int:
    return int(np.count_nonzero(rows))
