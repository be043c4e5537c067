"""The page that tells people what an evaluation measured: plain HTML, complete in one file.

It reads what `metrics.json` holds, and decides each rule by the function that the operator uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from springtide_api.bounds import (
    LOWER_IS_BETTER,
    Bound,
    Numbers,
    absolute_bounds,
    comparison_bounds,
    numbers,
    readable,
    three_valued,
)
from springtide_api.gate_spec import Gate
from springtide_api.judging import judge_rule, overall

WIDTH = 200
"""Pixels of a picture of an interval."""


@dataclass(frozen=True)
class Picture:
    """An interval beside its bound, in pixels from the left."""

    low: float
    value: float
    high: float
    mark: float
    beyond: bool
    """The good side is to the right of the mark."""


def render(described: dict[str, Any]) -> str:
    """Write the page.

    Args:
        described: The content of `metrics.json`.
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
        **described,
        judged=_rules(described),
        lower=LOWER_IS_BETTER,
        finding=_overall(described),
        width=WIDTH,
    )


def number(value: float | None) -> str:
    """Write a number for people; a dash where there is none."""
    return "-" if value is None or not isfinite(value) else readable(value)


def signed(value: float | None) -> str:
    """Write a difference with its sign."""
    text = number(value)
    return f"+{text}" if value is not None and value > 0 and text != "-" else text


def _rules(described: dict[str, Any]) -> list[dict[str, Any]]:
    """Describe each rule: its result, its bounds and a picture of each."""
    gate, baseline = Gate.model_validate(described["gate"]), described["baseline"] is not None
    rows, on_holdout = _measured(described), _on_holdout(described)
    made = []
    for rule in gate.rules:
        row = rows.get(rule.name) or Numbers(rule.name)
        bounds = [*absolute_bounds(rule, row.candidate)]
        bounds += comparison_bounds(rule, row) if baseline else []
        judged = judge_rule(rule, row, baseline=baseline, on_holdout=rule.dataset in on_holdout)
        made.append(
            {
                "rule": rule,
                "numbers": row,
                "result": judged.result if judged else None,
                "bounds": [(bound, three_valued(bound), _picture(bound)) for bound in bounds],
            }
        )
    return made


def _overall(described: dict[str, Any]) -> str:
    gate, baseline = Gate.model_validate(described["gate"]), described["baseline"] is not None
    rows, on_holdout = _measured(described), _on_holdout(described)
    judged = [
        judge_rule(
            rule, rows.get(rule.name), baseline=baseline, on_holdout=rule.dataset in on_holdout
        )
        for rule in gate.rules
    ]
    return overall([each for each in judged if each is not None])


def _measured(described: dict[str, Any]) -> dict[str, Numbers]:
    rows = described["rules"]
    compared = described["versus_reference"] or [None] * len(rows)
    beside = zip(rows, described["trivial_baseline"], compared, strict=True)
    return {row[0]: numbers(tuple(row), score, other) for row, score, other in beside}


def _on_holdout(described: dict[str, Any]) -> set[str]:
    return {each["name"] for each in described["datasets"] if each["role"] == "Holdout"}


def _picture(bound: Bound) -> Picture | None:
    """Place an interval and its bound on a scale of their own."""
    value, low, high = bound.interval
    mark = nan if bound.mark is None else bound.mark
    if not all(map(isfinite, (value, low, high, mark))):
        return None
    least, most = min(low, value, mark), max(high, value, mark)
    room = (most - least) * 0.12 or 1.0

    def place(x: float) -> float:
        return round((x - least + room) / (most - least + 2 * room) * WIDTH, 1)

    return Picture(place(low), place(value), place(high), place(mark), bound.mark == bound.limit)
