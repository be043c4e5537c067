"""Keeps a model fresh on a user's own months and scores generation 1 on the same months."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shop
from demo.scoring import Scorers
from demo.steps import STEP_SECONDS, auc, initial_model
from demo.waiting import wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from demo.example import Example

RETRY_SECONDS = 30.0
"""Between two requests to probe for the month that was delivered."""
REQUESTS = {
    "HoldoutSuspect": "quarantine",
    "RejectedTwice": "retry",
    "InterimAnalysesUsedUp": "reject",
}
"""What the demo requests, by the reason of a hold: as the operator proposes."""


@dataclass(frozen=True)
class Evaluated:
    """One month on which a candidate was evaluated."""

    month: str
    generation: int
    verdict: str
    reason: str
    rows: int
    """Rows that the candidate was trained on."""
    candidate: float | None
    """AUC of the candidate on this month; likewise below."""
    served: float | None
    """Of the generation that was live when the month arrived."""
    served_generation: int | None
    never_updated: float
    """Of generation 1."""
    seconds: float
    requested: str = ""
    """What was requested of the operator where it was on hold."""


PATCHES = """
patches:
  # Rules that 3,000 rows of unknown data can decide: better than chance, and not worse than live by
  # more than twice the standard error of a difference, near 0.01 here. The learning rate is
  # the default: with that of the generated shop, a month of real purchases made the model worse.
  - target: {kind: IncrementalUpdate}
    patch: |-
      - {op: remove, path: /spec/training/hyperparameters/learningRate}
      - {op: replace, path: /spec/gate/rules/0/min, value: "0.5"}
      - {op: replace, path: /spec/gate/rules/1/maxRegression/absolute, value: "0.02"}
      - {op: replace, path: /spec/gate/rules/2/maxRegression/absolute, value: "0.03"}
"""
"""What changes in the example for a user's own data."""


def keep_fresh(
    example: Example, data: dict[str, list[shop.Row]], report: Callable[[str], None]
) -> Iterator[Evaluated]:
    """Deliver month by month; yield what each one showed.

    Raises:
        DemoError: the operator did not come to a verdict.
    """
    example.clear()
    example.open(initial_model(), patches=PATCHES)
    first, *others = data
    example.deliver(f"{first}.csv.gz", shop.as_csv(data[first]))
    with tempfile.TemporaryDirectory() as folder:
        scorers = Scorers(example, Path(folder))
        for month in others:
            live = example.update().get("live", {}).get("number")
            started = time.monotonic()
            example.deliver(f"{month}.csv.gz", shop.as_csv(data[month]))
            generation, requested = _evaluated(example, month, report)
            seconds = time.monotonic() - started
            result = auc(generation)
            yield Evaluated(
                month=month,
                generation=generation["spec"]["number"],
                verdict=generation["status"]["verdict"],
                reason=generation["status"].get("reason", ""),
                rows=generation["spec"]["data"]["rows"],
                candidate=float(result["candidate"]) if "candidate" in result else None,
                served=float(result["baseline"]) if "baseline" in result else None,
                served_generation=live,
                never_updated=scorers.auc(1, data[month]),
                seconds=seconds,
                requested=requested,
            )


def _evaluated(
    example: Example, month: str, report: Callable[[str], None]
) -> tuple[dict[str, Any], str]:
    """Wait until a generation is decided on this month, and is live if it was accepted.

    Where the operator is on hold, request what it proposes.
    """
    found: dict[str, Any] = {}
    requested: list[str] = []
    last_request = 0.0

    def over(now: dict[str, Any]) -> bool:
        nonlocal last_request
        found.update(evaluated_on(example.generations(), month))
        summary = now.get("progress", {}).get("summary", "")
        verb = next((verb for reason, verb in REQUESTS.items() if reason in summary), None)
        if verb and verb not in requested:
            requested.append(verb)
            example.request(verb, f"{month}-{verb}")
        elif not found and _idle(now) and time.monotonic() > last_request + RETRY_SECONDS:
            last_request = time.monotonic()
            example.request("run", f"{month}-{last_request:.0f}")
        return bool(found) and (found["status"].get("reason") not in REQUESTS or bool(requested))

    wait(example, over, what=f"the verdict on {month}", seconds=2 * STEP_SECONDS, report=report)
    return found, ", ".join(requested)


def _idle(status: dict[str, Any]) -> bool:
    """Return whether the operator waits for data, so that a request to probe makes sense."""
    waiting = status.get("lastRun", {}).get("verdict") == "Inconclusive"
    return waiting or status.get("phase") == "Idle"


def evaluated_on(generations: dict[int, dict[str, Any]], month: str) -> dict[str, Any]:
    """Return the generation whose newest holdout ends with this month, once that is decided."""
    for generation in generations.values():
        status = generation.get("status", {})
        holdouts = status.get("evaluation", {}).get("holdouts", [])
        if not holdouts or holdouts[-1]["partitions"][-1:] != [month]:
            continue
        if not holdouts[-1].get("outcome"):
            return {}  # its verdict is still that of the holdout before
        rollout = status.get("rollout", {})
        verdict = status.get("verdict", "Pending")
        decided = rollout.get("promotedAt") or rollout.get("rollbackReason")
        if verdict == "Pending" or (verdict == "Accepted" and not decided):
            return {}
        return generation
    return {}
