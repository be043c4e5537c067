"""Which rows train and which judge, decided from times and counts alone.

The rules are those of "Windows and the cursor". No file is read here: rows come in as arrays, the
answer is a cut of them, or what is missing. `cut.py` places the cut, this module holds it to the
minima and gives each row its part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from springtide_api.schema import duration
from springtide_trainer.data.partitions import moment
from springtide_trainer.data.windows import boundaries
from springtide_trainer.data.windows.new_data import Ask, Fresh, Known, Rows, look

if TYPE_CHECKING:
    from collections.abc import Iterable

    from springtide_trainer.data.windows.boundaries import Bounds
    from springtide_trainer.data.windows.new_data import Bools

Reason = Literal["NoNewData", "NotEnoughData", "NotComplete"]
Part = Literal["train", "holdout", "reserved"]
PARTS: tuple[Part, ...] = ("train", "holdout", "reserved")


@dataclass(frozen=True)
class Nothing:
    """No window is ready, and why."""

    reason: Reason
    message: str
    pending: int
    newest: str | None


@dataclass(frozen=True)
class Plan:
    """A window: its bounds, and for each row whether it trains, is kept back, or judges."""

    bounds: Bounds
    train: Bools
    reserved: Bools
    holdout: Bools
    partitions: tuple[str, ...]
    holdout_partitions: tuple[str, ...]
    pending: int
    newest: str | None
    straddling: int
    """Rows that left the holdout because their group began before the cut."""


def plan(rows: Rows, known: Iterable[Known], ask: Ask) -> Plan | Nothing:
    """Cut the stream into training rows and holdout, or say what is missing.

    Args:
        rows: All rows that were read, in any order; each lies in one of `known`.
        known: The partitions of the stream, also those that hold no new row.
        ask: The cursor, the clock and the wishes of the spec.
    """
    fresh = look(rows, known, ask)
    bounds = boundaries.place(fresh, rows, ask)
    if isinstance(bounds, boundaries.TooFew):
        return _too_few(fresh, ask, bounds)
    made = _parts(fresh, rows, bounds)
    if short := _shortage(fresh, rows, ask, made):
        return Nothing("NotEnoughData", short, pending=fresh.pending, newest=fresh.newest)
    return made


def _parts(fresh: Fresh, rows: Rows, bounds: Bounds) -> Plan:
    """Give each row its part. Released partitions are used for training, never in a holdout."""
    seen = rows.moment < bounds.judged_from
    trained = (fresh.new | fresh.released) & seen & (bounds.trained_through is not None)
    judged = fresh.new & ~seen & (rows.moment < bounds.judged_to)
    straddling = judged & _began_before(rows, seen)
    return Plan(
        bounds=bounds,
        train=trained & ~rows.reserved,
        reserved=trained & rows.reserved,
        holdout=judged & rows.judges & ~straddling,
        partitions=fresh.names(trained),
        holdout_partitions=fresh.names(judged),
        pending=fresh.pending,
        newest=fresh.newest,
        straddling=int(np.count_nonzero(straddling & rows.judges)),
    )


def _began_before(rows: Rows, seen: Bools) -> Bools:
    """Tell which rows belong to a group that has a row before the cut, trained on or not."""
    if rows.group is None:
        return np.zeros(len(rows.moment), dtype=bool)
    began = np.isin(rows.group, np.unique(rows.group[seen]))
    return began if rows.begun is None else began | rows.begun


def _shortage(fresh: Fresh, rows: Rows, ask: Ask, made: Plan) -> str:
    """Say which minimum is not reached; empty if all are."""
    trained = made.bounds.trained_through is not None
    if trained and made.bounds.trainable < ask.window.min_rows and not _waited(fresh, ask):
        return _of(made.bounds.trainable, ask.window.min_rows, "training rows", "window.minRows")
    if trained and not made.train.any():
        return "0 training rows: all new rows before the cut are reserved (data.reserve)"
    judging = int(np.count_nonzero(made.holdout))
    left = f"; {made.straddling:,} left it, their group began before the cut"
    left = left if made.straddling else ""
    if judging < ask.holdout.min_rows:
        return _of(judging, ask.holdout.min_rows, "holdout rows", "holdout.minRows") + left
    entities = len(np.unique(rows.entity[made.holdout]))
    if entities < ask.holdout.min_entities:
        wanted = ask.holdout.min_entities
        return _of(entities, wanted, "holdout entities", "holdout.minEntities") + left
    return ""


def _waited(fresh: Fresh, ask: Ask) -> bool:
    """Tell whether the oldest waiting partition ended longer ago than maxWait."""
    if ask.window.max_wait is None:
        return False
    oldest = fresh.known[fresh.found[0]].span
    return moment(ask.now) - moment(oldest.end) >= duration(ask.window.max_wait)


def _of(count: int, wanted: int, what: str, field: str) -> str:
    return f"{count:,} of {wanted:,} {what} (data.{field})"


def _too_few(fresh: Fresh, ask: Ask, short: boundaries.TooFew) -> Nothing:
    """Word the lack of partitions: wait for one that is not complete, or for one to come."""
    message = f"{short.have:,} of {short.need:,} {short.what}"
    reason: Reason = "NotEnoughData"
    if fresh.waiting is not None:
        reason = "NotComplete"
        message += f"; {ask.awaits(fresh.waiting)}"
    elif not fresh.found:
        reason = "NoNewData"
        since = "" if ask.cursor is None else f" from {moment(ask.cursor).isoformat()} on"
        message = f"no rows{since}"
    if ask.quarantined:
        message += f"; {len(ask.quarantined)} quarantined"
    return Nothing(reason, message, pending=fresh.pending, newest=fresh.newest)
