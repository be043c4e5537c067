"""The verdict of a run as a table of its rules, with what decided and what to do next."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from springtide_judging.bounds import readable
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from springtide_api.generation.status import RuleResult
    from springtide_trainer.local.display import Display
    from springtide_trainer.local.lineage import LocalGeneration

HEADER = ("rule", "metric", "candidate", "baseline", "delta", "interval", "required", "verdict")


def show(generation: LocalGeneration, shown: Display, *, repeated: bool) -> None:
    """Show the rules, the verdict with its reason, and where the report is."""
    if repeated:
        shown.line(f"{generation.name} had the same rows, recipe and weights; its verdict stands")
    if generation.results:
        shown.table(HEADER, [_row(each) for each in generation.results])
    shown.line(f"{generation.verdict} {generation.name}, {generation.reason}{_rules(generation)}")
    if generation.reason == "HoldoutSuspect" and generation.window:
        options = (f"--quarantine {name}" for name in generation.window.holdout_partitions)
        shown.line(f"to leave its partitions out: {' '.join(options)}")
    if generation.report:
        shown.line(f"report: {os.path.relpath(local_path(generation.report))}/report.html")
    if generation.verdict == "Accepted" and generation.window and generation.window.to:
        shown.line(
            f"the next run continues from {generation.name}: rows from "
            f"{generation.window.to:%Y-%m-%d %H:%M} UTC on are new"
        )


def _rules(generation: LocalGeneration) -> str:
    """Return the messages that decided: of the rules that did not pass, else of the verdict."""
    if generation.verdict == "Accepted":
        return ""
    undecided = [
        each.message
        for each in generation.results
        if each.verdict != "Pass" and each.severity == "Required"
    ]
    own = generation.reason in {"HoldoutSuspect", "InterimAnalysesUsedUp", "ResultMismatch"}
    texts = [generation.message] if own or not undecided else undecided
    return "".join(f"\n  {text}" for text in texts)


def _row(result: RuleResult) -> tuple[str, ...]:
    on = "" if result.dataset in {"", "holdout"} else f" on {result.dataset}"
    warns = "" if result.severity == "Required" else " (warns)"
    interval = f"{_number(result.low)} to {_number(result.high)}"
    return (
        result.rule,
        f"{result.metric}{on}",
        _number(result.candidate),
        _number(result.baseline),
        _signed(result.delta),
        "-" if result.low is None or result.high is None else interval,
        result.bound.partition(" (")[0] or "-",
        f"{result.verdict}{warns}",
    )


def _number(text: str | None) -> str:
    return "-" if text is None else readable(float(text))


def _signed(text: str | None) -> str:
    return "-" if text is None else f"{'+' if float(text) > 0 else ''}{readable(float(text))}"
