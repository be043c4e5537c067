"""Waiting with open eyes: says what the operator says, and ends as soon as it cannot end well."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from demo.kubectl import DemoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.example import Example

PAUSE = 1.5
MENDING = 60.0
"""Seconds that a stall gets to mend itself: a missing Deployment may just be on its way."""
HELP = (
    "look at `kubectl -n shop describe iu recommender`, `kubectl -n shop get mg,jobs,pods` and "
    "`kubectl -n springtide-system logs deployment/springtide`"
)


def wait(
    example: Example,
    until: Callable[[dict[str, Any]], bool],
    *,
    what: str,
    seconds: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Wait until the status of the update is as wanted; return it.

    Args:
        example: where.
        until: whether this status is it.
        what: what is waited for, for the sentence when it does not come.
        seconds: how long.
        say: gets what the operator says, whenever it changes.

    Raises:
        DemoError: a person must act, or it took too long.
    """
    begun, moved, said = time.monotonic(), time.monotonic(), ""
    while True:
        status = example.update()
        if until(status):
            return status
        if (now := line(status)) != said:
            moved = time.monotonic()
            say(said := now)
        if (why := stalled(status)) and time.monotonic() > moved + MENDING:
            raise DemoError(f"{what} does not come: {why}; {HELP}")
        if time.monotonic() > begun + seconds:
            raise DemoError(f"{what} did not come within {seconds:g} s, last: {said}; {HELP}")
        time.sleep(PAUSE)


def line(status: dict[str, Any]) -> str:
    """Say in one line what happens, in the words of the columns Phase and Progress."""
    progress = status.get("progress", {})
    said = progress.get("summary") or progress.get("waitingFor", "")
    return ": ".join(part for part in (status.get("phase", "not seen yet"), said) if part)


def stalled(status: dict[str, Any]) -> str:
    """Say why a person must act; empty where nobody must."""
    for condition in status.get("conditions", []):
        if condition["type"] == "Stalled" and condition["status"] == "True":
            return f"{condition['reason']}: {condition['message']}"
    return ""


def live(status: dict[str, Any]) -> int | None:
    """Return the number of the generation that is served."""
    return status.get("live", {}).get("number")
