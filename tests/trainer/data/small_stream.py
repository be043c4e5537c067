"""A stream of rows for the tests of windows: times are seconds, partitions last 100 s."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from springtide_api.update.data import Holdout, Window
from springtide_trainer.data.partitions import SECOND, Span
from springtide_trainer.data.windows.new_data import PartitionState, StreamIndex, WindowRequest
from springtide_trainer.data.windows.window import NoWindow, WindowSplit, select_window

if TYPE_CHECKING:
    from collections.abc import Sequence


def span(at: int) -> Span:
    return Span(at * 100 * SECOND, (at + 1) * 100 * SECOND, f"p{at}")


@dataclass
class Case:
    """A stream of rows with times in seconds, and the request of a window."""

    seconds: Sequence[int]
    now: int = 10_000
    cursor: int | None = None
    holdout_from: int | None = None
    quarantined: Sequence[int] = ()
    released: Sequence[int] = ()
    unmarked: Sequence[int] = ()
    reserved: Sequence[int] = ()
    groups: Sequence[int] | None = None
    entities: Sequence[int] | None = None
    eligible: Sequence[bool] | None = None
    labelled: Sequence[bool] | None = None
    delay: int = 0
    window: dict[str, object] = field(default_factory=dict)
    holdout: dict[str, object] = field(default_factory=dict)

    def select_window(self) -> WindowSplit | NoWindow:
        seconds = np.array(self.seconds, dtype=np.int64)
        rows = StreamIndex(
            moment=seconds * SECOND,
            reserved=np.isin(np.arange(len(seconds)), self.reserved),
            eligible=np.array(self.eligible or [True] * len(seconds), dtype=bool),
            entity=np.array(self.entities or range(len(seconds))),
            group=None if self.groups is None else np.array(self.groups),
            labelled=None if self.labelled is None else np.array(self.labelled, dtype=bool),
        )
        parts = sorted({int(second) // 100 for second in seconds} | set(self.unmarked))
        return select_window(
            rows,
            [PartitionState(span(at), at not in self.unmarked) for at in parts],
            WindowRequest(
                now=self.now * SECOND,
                window=Window.model_validate(self.window),
                holdout=Holdout.model_validate(self.holdout),
                delay=self.delay * SECOND,
                cursor=None if self.cursor is None else self.cursor * SECOND,
                holdout_from=None if self.holdout_from is None else self.holdout_from * SECOND,
                quarantined=tuple(map(span, self.quarantined)),
                released=tuple(map(span, self.released)),
            ),
        )

    def ready(self) -> WindowSplit:
        made = self.select_window()
        assert isinstance(made, WindowSplit), made
        return made

    def nothing(self) -> NoWindow:
        made = self.select_window()
        assert isinstance(made, NoWindow), made
        return made

    def parts(self) -> tuple[list[int], list[int]]:
        """Return the seconds of the training rows and of the holdout rows."""
        made, seconds = self.ready(), np.array(self.seconds)
        return seconds[made.train].tolist(), seconds[made.holdout].tolist()


def latest(partitions: int, **more: object) -> dict[str, object]:
    strategy = {"type": "LatestPartitions", "latestPartitions": {"partitions": partitions}}
    return {"strategy": strategy, **more}


def tail(fraction: str, **more: object) -> dict[str, object]:
    return {"strategy": {"type": "Tail", "tail": {"fraction": fraction}}, **more}
