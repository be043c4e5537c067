"""Renders the evaluation report: one self-contained HTML file.

Its only input is the content of `metrics.json`. Rules are evaluated by the operator's function.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from springtide_api.update.gate import Gate
from springtide_judging.bounds import (
    LOWER_IS_BETTER,
    Bound,
    Numbers,
    absolute_bounds,
    comparison_bounds,
    numbers,
    readable,
    three_valued,
)
from springtide_judging.rules import judge_rule, overall

if TYPE_CHECKING:
    from springtide_api.update.gate import Rule
    from springtide_judging.rules import Judged

WIDTH = 200
"""Width of the plot of an interval in pixels."""


@dataclass(frozen=True)
class IntervalPlot:
    """An interval and its bound, in pixels from the left."""

    low: float
    value: float
    high: float
    mark: float
    beyond: bool
    """Values to the right of the mark pass."""


def render(results: dict[str, Any]) -> str:
    """Render the page.

    Args:
        results: The content of `metrics.json`.
    """
    environment = Environment(
        loader=PackageLoader("springtide_trainer.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": signed, "count": "{:,}".format}
    page = environment.get_template("report.html")
    return page.render(
        **results,
        rule_results=_rules(results),
        lower=LOWER_IS_BETTER,
        finding=_overall(results),
        width=WIDTH,
    )


def number(value: float | None) -> str:
    """Format a number; a dash if there is none."""
    return "-" if value is None or not isfinite(value) else readable(value)


def signed(value: float | None) -> str:
    """Format a difference with its sign."""
    text = number(value)
    return f"+{text}" if value is not None and value > 0 and text != "-" else text


def _rules(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each rule its result, its bounds and a plot of each bound."""
    made = []
    for rule, row, evaluated in _judged(results):
        bounds = [*absolute_bounds(rule, row.candidate)]
        bounds += comparison_bounds(rule, row) if results["baseline"] is not None else []
        made.append(
            {
                "rule": rule,
                "numbers": row,
                "result": evaluated.result if evaluated else None,
                "bounds": [(bound, three_valued(bound), _plot(bound)) for bound in bounds],
            }
        )
    return made


def _overall(results: dict[str, Any]) -> str:
    return overall([evaluated for _, _, evaluated in _judged(results) if evaluated is not None])


def _judged(results: dict[str, Any]) -> list[tuple[Rule, Numbers, Judged | None]]:
    """Decide each rule as the gate does; None for one that is left out."""
    gate, baseline = Gate.model_validate(results["gate"]), results["baseline"] is not None
    rows, on_holdout = _measured(results), _on_holdout(results)
    datasets = results["datasets"]
    empty = {each["name"] for each in datasets if each["role"] == "Historical" and not each["rows"]}
    made = []
    for rule in gate.rules:
        row, evaluated = rows.get(rule.name), None
        if rule.dataset not in empty:
            evaluated = judge_rule(
                rule, row, baseline=baseline, on_holdout=rule.dataset in on_holdout
            )
        made.append((rule, row or Numbers(rule.name), evaluated))
    return made


def _measured(results: dict[str, Any]) -> dict[str, Numbers]:
    rows = results["rules"]
    compared = results["versus_reference"] or [None] * len(rows)
    merged = zip(rows, results["trivial_baseline"], compared, strict=True)
    return {row[0]: numbers(tuple(row), score, other) for row, score, other in merged}


def _on_holdout(results: dict[str, Any]) -> set[str]:
    return {each["name"] for each in results["datasets"] if each["role"] == "Holdout"}


def _plot(bound: Bound) -> IntervalPlot | None:
    """Scale an interval and its bound to the width of the plot."""
    value, low, high = bound.interval
    mark = nan if bound.mark is None else bound.mark
    if not all(map(isfinite, (value, low, high, mark))):
        return None
    left, right = min(low, value, mark), max(high, value, mark)
    margin = (right - left) * 0.12 or 1.0

    def scaled(x: float) -> float:
        return round((x - left + margin) / (right - left + 2 * margin) * WIDTH, 1)

    return IntervalPlot(
        scaled(low), scaled(value), scaled(high), scaled(mark), bound.mark == bound.limit
    )
