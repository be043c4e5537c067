"""Waits for a status of the update, reports its progress, and fails early when it cannot come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from demo.kubectl import DemoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.example import Example

PAUSE = 1.5
STALL_SECONDS = 60.0
"""Time in which a stall may still end by itself: a missing Deployment may be created just then."""
HELP = (
    "see `kubectl -n shop describe iu recommender`, `kubectl -n shop get mg,jobs,pods` and "
    "`kubectl -n springtide-system logs deployment/springtide`"
)


def wait(
    example: Example,
    until: Callable[[dict[str, Any]], bool],
    *,
    what: str,
    seconds: float,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Wait until the status of the update is as wanted; return it.

    Args:
        example: the example whose update is observed.
        until: whether this status is the wanted one.
        what: what is waited for, for the message of an error.
        seconds: the limit.
        report: called with phase and progress whenever they change.

    Raises:
        DemoError: a person must act, or it took too long.
    """
    started = changed = time.monotonic()
    last = ""
    while True:
        status = example.update()
        if until(status):
            return status
        if (now := line(status)) != last:
            changed = time.monotonic()
            report(last := now)
        if (reason := stalled(status)) and time.monotonic() > changed + STALL_SECONDS:
            raise DemoError(f"{what}: the update is stalled: {reason}; {HELP}")
        if time.monotonic() > started + seconds:
            raise DemoError(f"{what} did not come within {seconds:g} s; last: {last}; {HELP}")
        time.sleep(PAUSE)


def line(status: dict[str, Any]) -> str:
    """Return phase and progress in one line, as the columns Phase and Progress show them."""
    progress = status.get("progress", {})
    detail = progress.get("summary") or progress.get("waitingFor", "")
    return ": ".join(part for part in (status.get("phase", "not observed yet"), detail) if part)


def stalled(status: dict[str, Any]) -> str:
    """Return why the update is stalled; empty where it is not."""
    for condition in status.get("conditions", []):
        if condition["type"] == "Stalled" and condition["status"] == "True":
            return f"{condition['reason']}: {condition['message']}"
    return ""


def live(status: dict[str, Any]) -> int | None:
    """Return the number of the live generation."""
    return status.get("live", {}).get("number")
