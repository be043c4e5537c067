"""What a training reported, as facts in the status of its generation, and read from there again."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from springtide_api.generation.status import PseudoLabelStatus, ReplayStatus
from springtide_api.retained import PseudoLabelled, Replayed, Retained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from springtide_api.generation.status import TrainingStatus

_SHOWN = 32


def named(metrics: Mapping[str, float]) -> list[str]:
    """Return metrics as name=value."""
    return [f"{name}={value:.6g}" for name, value in sorted(metrics.items())][:16]


def replay_status(replayed: Replayed | None) -> ReplayStatus | None:
    """Return what the status has of replayed rows: the classes and slices with the fewest."""
    if replayed is None:
        return None
    return ReplayStatus(
        rows=replayed.rows,
        by_class=_fewest(replayed.classes),
        by_slice=_fewest(replayed.slices),
        median=replayed.median,
        message=replayed.message[:1024],
    )


def _fewest(rows: Mapping[str, int]) -> list[str]:
    fewest = sorted(rows.items(), key=lambda one: (one[1], one[0]))[:_SHOWN]
    return [f"{name[:100]}={count}" for name, count in fewest]


def replay_message(replayed: Replayed | None) -> str:
    """Return what an event says of replayed rows; empty without replay."""
    if replayed is None:
        return ""
    why = f": {replayed.message}" if replayed.message else ""
    return f"; {replayed.rows:,} rows of earlier windows replayed{why}"


def pseudo_label_status(made: PseudoLabelled | None) -> PseudoLabelStatus | None:
    """Return what the status has of pseudo-labels: the labels with the fewest rows."""
    if made is None:
        return None
    return PseudoLabelStatus(
        offered=made.offered,
        used=made.used,
        by_class=_fewest(made.classes),
        message=made.message[:1024],
    )


def pseudo_label_message(made: PseudoLabelled | None) -> str:
    """Return what an event says of pseudo-labels; empty without them."""
    if made is None:
        return ""
    why = f": {made.message}" if made.message else ""
    return f"; {made.used:,} of {made.offered:,} rows without a label labelled by the parent{why}"


def metrics_of(training: TrainingStatus | None) -> dict[str, float]:
    """Return the metrics by their names."""
    pairs = [each.rpartition("=") for each in training.metrics] if training else []
    return {name: _number(value) for name, _, value in pairs}


def retained(training: TrainingStatus | None) -> Retained | None:
    """Return what the report says of retention, pruning and pseudo-labels."""
    if training is None:
        return None
    labelled = _pseudo_labelled(training.pseudo_labels)
    return Retained.of(_replayed(training.replay), metrics_of(training), labelled)


def _pseudo_labelled(status: PseudoLabelStatus | None) -> PseudoLabelled | None:
    if status is None:
        return None
    return PseudoLabelled(
        offered=status.offered,
        used=status.used,
        classes=_counts(status.by_class),
        message=status.message,
    )


def _replayed(status: ReplayStatus | None) -> Replayed | None:
    if status is None:
        return None
    return Replayed(
        rows=status.rows,
        classes=_counts(status.by_class),
        slices=_counts(status.by_slice),
        median=status.median,
        message=status.message,
    )


def _counts(shown: Sequence[str]) -> dict[str, int]:
    pairs = [each.rpartition("=") for each in shown]
    return {name: int(rows) for name, _, rows in pairs if rows.isdecimal()}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # the status was edited
        return nan
