"""What a tracker is, and the run that it gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Ending = Literal["finished", "interrupted", "failed"]
"""How a stage ended; an interrupted one goes on in another pod."""


class Point(NamedTuple):
    """A number at a step."""

    step: int
    name: str
    value: float
    at: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class TrackedRun:
    """A generation, as trackers know it: the same for each pod of its training and evaluation.

    Attributes:
        update: Namespace and name of the update, such as shop/ranker.
        name: Name of the generation, unique for the update, such as g3-0123abcd.
        title: What people read.
        folder: Where trackers without a server write.
        scratch: A folder of this pod.
        on_claim: Whether files stay where they are written; else TensorBoard's are uploaded.
        first: Steps completed before this pod; what an earlier pod reported after them is replaced
            or kept, because the resumed run repeats it.
        parameters: What the run was asked for: no places, no names of Secrets.
    """

    update: str
    name: str
    title: str
    folder: Path
    scratch: Path
    on_claim: bool = True
    first: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """A connection to one tracker, used by one thread. Its errors are warnings of the run."""

    def log(self, points: Sequence[Point]) -> None:
        """Write points, so that people see them; some may have been written before."""

    def close(self, ending: Ending) -> None:
        """Write the rest and end the connection."""
