"""A stream of rows by their seconds for the tests of windows; partitions last 100 s."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from springtide_api.data_spec import Holdout, Window
from springtide_trainer.data.partitions import SECOND, Span
from springtide_trainer.data.windows.new_data import Ask, Known, Rows
from springtide_trainer.data.windows.window import Nothing, Plan, plan

if TYPE_CHECKING:
    from collections.abc import Sequence


def span(at: int) -> Span:
    return Span(at * 100 * SECOND, (at + 1) * 100 * SECOND, f"p{at}")


@dataclass
class Case:
    """A stream of rows by their seconds, and what is asked of it."""

    seconds: Sequence[int]
    now: int = 10_000
    cursor: int | None = None
    judge_from: int | None = None
    quarantined: Sequence[int] = ()
    released: Sequence[int] = ()
    unmarked: Sequence[int] = ()
    reserved: Sequence[int] = ()
    groups: Sequence[int] | None = None
    entities: Sequence[int] | None = None
    judges: Sequence[bool] | None = None
    delay: int = 0
    window: dict[str, object] = field(default_factory=dict)
    holdout: dict[str, object] = field(default_factory=dict)

    def plan(self) -> Plan | Nothing:
        seconds = np.array(self.seconds, dtype=np.int64)
        rows = Rows(
            moment=seconds * SECOND,
            reserved=np.isin(np.arange(len(seconds)), self.reserved),
            judges=np.array(self.judges or [True] * len(seconds), dtype=bool),
            entity=np.array(self.entities or range(len(seconds))),
            group=None if self.groups is None else np.array(self.groups),
        )
        parts = sorted({int(second) // 100 for second in seconds} | set(self.unmarked))
        return plan(
            rows,
            [Known(span(at), at not in self.unmarked) for at in parts],
            Ask(
                now=self.now * SECOND,
                window=Window.model_validate(self.window),
                holdout=Holdout.model_validate(self.holdout),
                delay=self.delay * SECOND,
                cursor=None if self.cursor is None else self.cursor * SECOND,
                judge_from=None if self.judge_from is None else self.judge_from * SECOND,
                quarantined=tuple(map(span, self.quarantined)),
                released=tuple(map(span, self.released)),
            ),
        )

    def ready(self) -> Plan:
        made = self.plan()
        assert isinstance(made, Plan), made
        return made

    def nothing(self) -> Nothing:
        made = self.plan()
        assert isinstance(made, Nothing), made
        return made

    def parts(self) -> tuple[list[int], list[int]]:
        """Return the seconds that train and those that judge."""
        made, seconds = self.ready(), np.array(self.seconds)
        return seconds[made.train].tolist(), seconds[made.holdout].tolist()


def latest(partitions: int, **more: object) -> dict[str, object]:
    strategy = {"type": "LatestPartitions", "latestPartitions": {"partitions": partitions}}
    return {"strategy": strategy, **more}


def tail(fraction: str, **more: object) -> dict[str, object]:
    return {"strategy": {"type": "Tail", "tail": {"fraction": fraction}}, **more}
