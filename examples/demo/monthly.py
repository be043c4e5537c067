"""A model kept fresh on a user's own months, beside the first generation left as it was."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shop
from demo.steps import PATIENCE, initial_model
from demo.waiting import wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from demo.example import Example

GOOD = {"Accepted"}
LOOK_SECONDS = 30.0
"""Between two requests to look for the month that was delivered."""
ANSWERS = {
    "HoldoutSuspect": "quarantine",
    "RejectedTwice": "retry",
    "InterimAnalysesUsedUp": "reject",
}
"""What a person who trusts the operator's proposals asks for, by the reason of a hold."""


@dataclass(frozen=True)
class Judged:
    """One month that judged a candidate."""

    month: str
    generation: int
    verdict: str
    reason: str
    rows: int
    """Rows that the candidate was trained on."""
    candidate: float | None
    """AUC of the candidate on this month; likewise below."""
    served: float | None
    """Of the generation that was live when the month came."""
    never: float | None
    """Of generation 1."""
    seconds: float
    answer: str = ""
    """What was asked of the operator where it waited for a person."""


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
    example: Example, data: dict[str, list[shop.Row]], say: Callable[[str], None]
) -> Iterator[Judged]:
    """Deliver month by month; yield what each one judged, as soon as it has.

    Raises:
        DemoError: the operator did not come to a verdict.
    """
    example.clear()
    example.open(initial_model(), patches=PATCHES)
    first, *others = data
    example.deliver(f"{first}.csv.gz", shop.as_csv(data[first]))
    with tempfile.TemporaryDirectory() as kept:
        never = None
        for month in others:
            begun = time.monotonic()
            example.deliver(f"{month}.csv.gz", shop.as_csv(data[month]))
            generation, answer = _judged(example, month, say)
            seconds = time.monotonic() - begun
            if never is None:
                never = _Never(example, example.generations()[1], Path(kept))
            yield Judged(
                month=month,
                generation=generation["spec"]["number"],
                verdict=generation["status"]["verdict"],
                reason=generation["status"].get("reason", ""),
                rows=generation["spec"]["data"]["rows"],
                **_values(generation),
                never=never.auc(data[month]),
                seconds=seconds,
                answer=answer,
            )


def _judged(example: Example, month: str, say: Callable[[str], None]) -> tuple[dict[str, Any], str]:
    """Wait until this month has judged a generation, and that one is live if it may be.

    Where the operator waits for a person, answer as one would who trusts its proposal.
    """
    found: dict[str, Any] = {}
    answers: list[str] = []
    asked = 0.0

    def over(now: dict[str, Any]) -> bool:
        nonlocal asked
        found.update(judged_on(example.generations(), month))
        reason = now.get("progress", {}).get("summary", "").removeprefix("held: ")
        answer = ANSWERS.get(reason)
        if answer and answer not in answers:
            answers.append(answer)
            example.request(answer, f"{month}-{answer}")
        elif not found and _rests(now) and time.monotonic() > asked + LOOK_SECONDS:
            asked = time.monotonic()
            example.request("run", f"{month}-{asked:.0f}")
        return bool(found) and (found["status"].get("reason") not in ANSWERS or bool(answers))

    wait(example, over, what=f"the verdict on {month}", seconds=2 * PATIENCE, say=say)
    return found, ", ".join(answers)


def _rests(status: dict[str, Any]) -> bool:
    """Tell whether the operator waits for data, so that asking it to look makes sense."""
    waiting = status.get("lastRun", {}).get("verdict") == "Inconclusive"
    return waiting or status.get("phase") == "Idle"


def judged_on(generations: dict[int, dict[str, Any]], month: str) -> dict[str, Any]:
    """Return the generation whose newest holdout ends with this month, once that is decided."""
    for generation in generations.values():
        status = generation.get("status", {})
        looks = status.get("evaluation", {}).get("holdouts", [])
        if not looks or looks[-1]["partitions"][-1:] != [month]:
            continue
        if not looks[-1].get("outcome"):
            return {}  # its verdict is still that of the holdout before
        rollout = status.get("rollout", {})
        verdict = status.get("verdict", "Pending")
        if verdict in GOOD and not rollout.get("promotedAt") and not rollout.get("abortReason"):
            return {}
        return {} if verdict == "Pending" else generation
    return {}


def _values(generation: dict[str, Any]) -> dict[str, float | None]:
    results = generation["status"].get("evaluation", {}).get("results", [])
    auc = next((one for one in results if one.get("metric") == "auc"), {})
    return {
        "candidate": float(auc["candidate"]) if "candidate" in auc else None,
        "served": float(auc["baseline"]) if "baseline" in auc else None,
    }


class _Never:
    """Generation 1 as it was, scored on this machine."""

    def __init__(self, example: Example, generation: dict[str, Any], folder: Path) -> None:
        from springtide_trainer.artifact.models import load

        artifact = generation["status"]["artifact"]
        example.fetch(artifact["uri"].removeprefix("file://"), folder)
        self._scorer = load(folder, artifact["weightsDigest"])

    def auc(self, rows: list[shop.Row]) -> float:
        from sklearn.metrics import roc_auc_score

        columns = {"text": [row[2] for row in rows], "text_pair": [row[3] for row in rows]}
        pairs = self._scorer.preprocess.render(columns)
        scores = self._scorer.probabilities(pairs, 64)[:, 1]
        return float(roc_auc_score([int(row[4]) for row in rows], scores))
