"""The scenes after the months: a generation that is slow online, and a pin.

Generation 4 is as good as live on the holdout, whose rows have three purchases of a customer. Of
customers with a long history it reads 512 tokens instead of 64; only live traffic has them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from demo import steps
from demo.example import UPDATE
from demo.kubectl import DemoError
from demo.traffic.manifests import METRIC
from demo.waiting import HELP, live, wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.example import Example
    from demo.steps import DemoRun, Step
    from demo.traffic.setting import Traffic

TOKENS = 512
"""`model.maxLength` of generation 4, eight times as much as before."""
WAYS_BACK = "docs/how-to/roll-back.md"
PLATEAU = 8.0
"""Seconds in which a pinned generation alone serves, for the plot."""


def scenes(traffic: Traffic | None) -> dict[str, Step]:
    """Return all scenes of the demo; without a way to watch traffic, those that need none."""
    slow = {SLOW: _slow} if traffic else {}
    return {**steps.MONTHS, **slow, PIN: _pinned, **steps.REPLAY}


def _slow(example: Example, seen: DemoRun, report: Callable[[str], None]) -> str:
    example.edit({"model": {"maxLength": TOKENS}})
    example.deliver(*steps.month_file("2026-06"))
    example.request("run", "june")

    def rolled_back(now: dict[str, Any]) -> bool:
        steps.check_not_lost(now, 4)
        if live(now) == 4:
            raise DemoError(f"generation 4 was promoted, although it is slow; {HELP}")
        last = now.get("lastRun", {})
        return last.get("generation") == f"{UPDATE}-g4" and last.get("outcome") == "RolledBack"

    what = "the rollback of generation 4"
    wait(example, rolled_back, what=what, seconds=steps.STEP_SECONDS, report=report)
    generation = example.generations()[4]
    reason = generation["status"]["rollout"]["rollbackReason"]
    if METRIC not in reason:
        raise DemoError(f"generation 4 was not rolled back by its latency: {reason}; {HELP}")
    return (
        f"generation 4 is accepted: {steps.compared(generation, 'generation 3')}; its canary is "
        f"rolled back: {reason}"
    )


def _pinned(example: Example, seen: DemoRun, report: Callable[[str], None]) -> str:
    example.run_documented(WAYS_BACK, "pin")
    _wait_until_served(example, 2, "Pinned", report)
    time.sleep(PLATEAU)
    example.run_documented(WAYS_BACK, "unpin")
    _wait_until_served(example, 3, "Idle", report)
    time.sleep(PLATEAU)
    seen.pinned_until = time.time()
    return "generation 2 answered all requests until the pin was removed, then generation 3 again"


def _wait_until_served(
    example: Example, number: int, phase: str, report: Callable[[str], None]
) -> None:
    """Wait until all pods of the target serve a generation."""
    digest = example.generations()[number]["status"]["artifact"]["servedDigest"]

    def served(now: dict[str, Any]) -> bool:
        return now.get("phase") == phase and example.served()["digest"] == digest

    what = f"generation {number} on the target"
    wait(example, served, what=what, seconds=steps.STEP_SECONDS, report=report)
    example.show("rollout", "status", f"deployment/{UPDATE}", "--timeout=240s")


SLOW = "June arrives, and maxLength is raised to 512: generation 4 is good offline and slow online"
PIN = "Generation 2 is pinned, and the pin is removed"
SHOWN = {
    list(steps.MONTHS)[-1]: "May arrives: generation 3 is evaluated and rolls out",
    SLOW: "June arrives: generation 4 is trained, rolls out and is rolled back",
    PIN: PIN,
}
"""Scenes that the plot of the requests shows, with their names there."""
