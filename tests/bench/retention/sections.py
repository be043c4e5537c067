"""The sections of docs/benchmarks.md on what is kept of earlier rows; needs no package."""

from __future__ import annotations

import json
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("class_arrival", "class_arrival_hidden", "purchase_stream")
"""The benchmarks, in the order of the page."""

HEAD = """## What is kept of earlier rows

A model is trained step by step, each time from the weights of the step before and without the rows
of earlier steps but those that the replay buffer stores; it is compared with one that is trained
once, on the rows of all steps (joint). Losses have one-sided 95 % bounds over the seeds and over
the customers or products of the held-out rows. The data is "Online Retail" (Chen 2015, UCI,
CC BY 4.0), whose folder SPRINGTIDE_ONLINE_RETAIL names; `make bench-training` does not run these
(`python -m bench.retention.class_arrival --write`, `python -m bench.retention.purchase_stream
--write`, with PYTHONPATH=tests).
"""


def sections(folder: Path) -> str:
    """Return the sections of all results that a folder has, as Markdown."""
    files = [folder / f"{name}.json" for name in NAMES]
    results = [json.loads(file.read_text("utf-8")) for file in files if file.exists()]
    if not results:
        return ""
    return "\n".join([HEAD, *(section(each) for each in results)])


def section(result: dict[str, Any]) -> str:
    """Return what a benchmark does, its targets and what each way to train reached."""
    targets = [_target(each) for each in result["targets"]]
    lines = [
        *(f"### {result['title']}", "", result["about"], "", _setting(result), ""),
        *("| target | limit | found | result |", "|---|---|---|---|", *targets, ""),
        f"| training | {result['quality']} of each seed | mean | loss to joint (95 % bounds) "
        "| rows of the last step | rows of all steps | CPU seconds |",
        "|---|---|---|---|---|---|---|",
        *(_row(each) for each in result["sides"]),
        "",
        *(f"- {side['name']}: {side['about']}{_steps(side)}" for side in result["sides"]),
    ]
    return "\n".join([*lines, ""])


def _target(target: dict[str, Any]) -> str:
    limit = f"at {'least' if target['least'] else 'most'} {target['limit']:g}"
    result = "met" if target["met"] else "**missed**"
    return f"| {target['what']} | {limit} | {target['found']:.4f} | {result} |"


def _row(side: dict[str, Any]) -> str:
    loss = ""
    if side["loss"]:
        mean, low, high = side["loss"]
        loss = f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
    cells = [
        side["name"],
        ", ".join(f"{each:.4f}" for each in side["quality"]),
        f"{fmean(side['quality']):.4f}",
        loss,
        *(f"{fmean(side[name]):,.0f}" for name in ("last_rows", "all_rows", "seconds")),
    ]
    return f"| {' | '.join(cells)} |"


def _steps(side: dict[str, Any]) -> str:
    """Return the means after each step, if all were scored."""
    if not side["steps"] or len(side["steps"][0]) < 2:
        return ""
    means = (fmean(each) for each in zip(*side["steps"], strict=True))
    return f" After each step: {', '.join(f'{each:.3f}' for each in means)}."


def _setting(result: dict[str, Any]) -> str:
    machine = result["machine"]
    settings = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in result["settings"].items())
    sizes = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in result["sizes"].items())
    device = f"{machine['gpu']}, " if "gpu" in machine else ""
    return f"{machine['date']}: {sizes}; {settings}; {device}{machine['processor']}, 1 thread."
