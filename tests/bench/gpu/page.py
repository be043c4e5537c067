"""The section of docs/benchmarks.md on a GPU; needs no package."""

from __future__ import annotations

import json
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NAME = "gpu"
OURS = "Springtide"
TUNED = "Hugging Face Trainer, tuned"
LEAST = 1.3
"""Times the rows per second of a tuned Hugging Face Trainer, compiled or not."""
TOLERANCE = 0.005
"""Of the AUC."""
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Multiplications and additions of BF16 in a second, dense, of the data sheets."""

TITLE = "On a GPU"
HEAD = """## {title}

One epoch of full fine-tuning, on the rows of the other benchmarks. Seconds are those of the wall;
all sides go from a folder of weights to another. The rate of the steps leaves out loading,
tokenizing and saving, and the first fifth of the steps. MFU is the share of the card's dense BF16
peak ({peak:.0f} TFLOP/s) that the steps use: 6 x parameters x tokens, without the parameters of the
embeddings, without padding, and without the products of attention. The target is {least:g} times
the rate of the steps of a tuned Hugging Face Trainer in each round, and an AUC that is not lower by
more than {tolerance:g}. The weights of 12 and 24 layers are new, so their AUC is not compared.
`PYTHONPATH=tests python -m bench.gpu --write` repeats it.
"""


def sections(folder: Path) -> str:
    """Return the section, if there is a result."""
    file = folder / f"{NAME}.json"
    return section(json.loads(file.read_text("utf-8"))) if file.exists() else ""


def section(result: dict[str, Any]) -> str:
    """Return the machine, a table for each case, and what the sides do."""
    machine = result["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    lines = [
        HEAD.format(title=TITLE, peak=_peak(machine) / 1e12, least=LEAST, tolerance=TOLERANCE),
        f"{machine['date']}: {machine['gpu']}, {machine['processor']} ({machine['cores']} cores); "
        f"Python {machine['python']}, {packages}. {result['note']}".rstrip(),
        "",
        f"Not measured yet: {'; '.join(result['not_measured'])}." if result["not_measured"] else "",
        "",
        *(_case(case, _peak(machine)) for case in result["cases"] if case["measured"]),
        *(f"- {side}: {about}" for side, about in result["sides"].items()),
    ]
    return "\n".join([*lines, ""])


def _case(case: dict[str, Any], peak: float) -> str:
    measured = case["measured"]
    sides = sorted({each["side"] for each in measured}, key=lambda name: (name != OURS, name))
    parameters = measured[0]["flops_per_token"] / 6e6
    lines = [
        f"### {case['name']}, batches of {case['batch']}",
        "",
        f"{parameters:.0f} million parameters without embeddings; {case['rows']:,} rows of "
        f"{fmean(each['tokens'] / each['rows'] for each in measured):.0f} tokens; rounds: "
        f"{max(each['round'] for each in measured)}.",
        "",
        "| side | rows/s, whole training | rows/s, steps | MFU of the steps | AUC | Springtide, "
        "times: whole training | steps | result |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ours = _of(measured, OURS)
    for side in sides:
        lines.append(_row(side, _of(measured, side), ours, peak=peak, case=case))
    return "\n".join([*lines, ""])


def _row(
    side: str,
    found: list[dict[str, Any]],
    ours: list[dict[str, Any]],
    *,
    peak: float,
    case: dict[str, Any],
) -> str:
    mfu = [
        _steps(each) * each["tokens"] / each["rows"] * each["flops_per_token"] / peak
        for each in found
    ]
    cells = [
        side,
        _spread([_whole(each) for each in found], "{:,.0f}"),
        _spread([_steps(each) for each in found], "{:,.0f}"),
        _spread(mfu, "{:.1%}"),
        ", ".join(f"{each['quality']:.4f}" for each in found) if case["compared"] else "",
    ]
    if side == OURS:
        return f"| {' | '.join([*cells, '', '', ''])} |"
    own_of = {each["round"]: each for each in ours}
    pairs = [(own_of[each["round"]], each) for each in found]
    whole, steps = ([rate(own) / rate(other) for own, other in pairs] for rate in (_whole, _steps))
    cells += [_spread(whole, "{:.2f}"), _spread(steps, "{:.2f}")]
    failed = min(steps) < LEAST or (case["compared"] and _lower(pairs))
    cells.append(("**missed**" if failed else "met") if side.startswith(TUNED) else "no target")
    return f"| {' | '.join(cells)} |"


def _lower(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> bool:
    """Return whether our AUC is lower by more than the tolerance, as a mean over the rounds."""
    return fmean(own["quality"] - other["quality"] for own, other in pairs) < -TOLERANCE


def _of(measured: list[dict[str, Any]], side: str) -> list[dict[str, Any]]:
    found = [each for each in measured if each["side"] == side]
    return sorted(found, key=lambda each: int(each["round"]))


def _whole(measured: dict[str, Any]) -> float:
    return float(measured["rows"] / measured["seconds"])


def _steps(measured: dict[str, Any]) -> float:
    return float(measured["step_rows"] / measured["step_seconds"])


def _peak(machine: dict[str, Any]) -> float:
    return next(peak for name, peak in PEAKS.items() if name in machine["gpu"])


def _spread(values: list[float], form: str) -> str:
    middle, low, high = (form.format(each) for each in (median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"
