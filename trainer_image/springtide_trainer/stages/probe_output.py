"""The output of a probe: its message, and the window that it found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_api.contract import ProbeOutput, WindowFound
from springtide_trainer.data.partitions import moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from springtide_api.generation.spec import Recipe
    from springtide_trainer.data.snapshots.freeze import Frozen
    from springtide_trainer.data.source.stream import Stream
    from springtide_trainer.data.windows.window import NoWindow, WindowSplit

_MAX_BYTES = 3000
"""Maximum bytes of an output, so that the result fits a termination message of 4096 bytes."""
_MAX_NAMES = 200
_MAX_MESSAGE = 1000
_FEW = 5


def no_window(found: NoWindow, recipe: Recipe, *, paths: int) -> ProbeOutput:
    """Report why there is no window.

    Args:
        found: The reason.
        recipe: Names the source.
        paths: Number of paths that were found in the source.
    """
    message = found.message
    if paths == 0:
        source = recipe.data.source
        message += f"; no path in {source.uri} matches {source.partition.path or 'a data file'}"
    return ProbeOutput(
        reason=found.reason,
        message=message[:_MAX_MESSAGE],
        pending_rows=found.pending,
        newest_partition=found.newest,
    )


def not_trainable(split: WindowSplit, message: str, *, later: int) -> ProbeOutput:
    """Report a window that cannot be trained on, because of its labels.

    Args:
        split: The window.
        message: What its labels are short of.
        later: Rows with a label that are beyond it, because it ends at maxRows.
    """
    if later > 0:
        message = (
            f"{message}; {later:,} later rows have a label, and a window that ends at "
            "data.window.maxRows does not grow: raise maxRows"
        )
    return ProbeOutput(
        reason="NotEnoughData",
        message=message,
        pending_rows=split.pending,
        newest_partition=split.newest,
    )


def window_ready(
    stream: Stream, split: WindowSplit, frozen: Frozen, *, positives: int, uri: str
) -> ProbeOutput:
    """Report a window whose rows are frozen."""
    window = _window(stream, split, frozen, positives=positives, uri=uri)
    return _shortened(
        ProbeOutput(
            reason="WindowReady",
            message=_summary(window) + _unlabelled(split) + _left_out(split.excluded),
            pending_rows=split.pending,
            newest_partition=split.newest,
            window=window,
        )
    )


def with_gaps(output: ProbeOutput, gaps: list[str]) -> ProbeOutput:
    """Add the missing partitions whose wait is over, for the operator to quarantine."""
    message = f"{output.message}; not delivered within data.window.maxGap: {', '.join(gaps)}"
    return _shortened(output.model_copy(update={"gaps": gaps, "message": message[:_MAX_MESSAGE]}))


def _window(
    stream: Stream, split: WindowSplit, frozen: Frozen, *, positives: int, uri: str
) -> WindowFound:
    bounds = split.bounds
    return WindowFound(
        manifest=uri,
        digest=frozen.digest,
        from_=None if bounds.start is None else moment(bounds.start),
        to=None if bounds.trained_through is None else moment(bounds.trained_through),
        holdout_from=moment(bounds.holdout_from),
        holdout_to=moment(bounds.holdout_to),
        partitions=list(split.partitions),
        holdout_partitions=list(split.holdout_partitions),
        rows=int(np.count_nonzero(split.train)),
        unlabelled_rows=split.unlabelled,
        reserved_rows=int(np.count_nonzero(split.reserved)),
        holdout_rows=int(np.count_nonzero(split.holdout)),
        holdout_entities=len(np.unique(stream.rows.entity[split.holdout])),
        holdout_positives=positives,
        excluded_rows=sum(split.excluded.values()),
    )


def _summary(window: WindowFound) -> str:
    holdout = (
        f"{window.holdout_rows:,} holdout rows of {window.holdout_entities:,} entities "
        f"({_range(window.holdout_partitions)})"
    )
    if window.to is None:
        return holdout
    return f"{window.rows:,} training rows ({_range(window.partitions)}), {holdout}"


def _unlabelled(split: WindowSplit) -> str:
    """Describe the training rows without a label."""
    if not split.unlabelled:
        return ""
    return f"; {split.unlabelled:,} training rows have no label"


def _left_out(excluded: Mapping[int, int]) -> str:
    """Describe the rows that were left out, by the generation that served them."""
    if not excluded:
        return ""
    served = ", ".join(f"{rows:,} of g{number}" for number, rows in list(excluded.items())[-_FEW:])
    return f"; left out, as served before a rollback: {served}"


def _range(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _shortened(output: ProbeOutput) -> ProbeOutput:
    """Reduce the lists of partitions to the newest, until the size fits. The manifest has all."""
    window = output.window
    count = _MAX_NAMES
    while window is not None:
        lists = {
            "partitions": window.partitions[-count:],
            "holdout_partitions": window.holdout_partitions[-count:],
        }
        shorter = output.model_copy(update={"window": window.model_copy(update=lists)})
        if count == 1 or len(shorter.model_dump_json(by_alias=True).encode()) <= _MAX_BYTES:
            return shorter
        count = count * 9 // 10
    return output
