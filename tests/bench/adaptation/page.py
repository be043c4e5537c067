"""The section of docs/benchmarks.md on adaptation without labels; needs no package."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.methods.page import share

NAME = "adaptation"
RESULT = Path(__file__).parents[1] / "results" / f"{NAME}.json"
TITLE = "An encoder adapted without labels, on goods that are new to a shop"

ABOUT = """A row is a product of a shop ("Online Retail", Chen 2015, UCI, CC BY 4.0) without the
word for its kind; its label is the kind. Some products sold before May 2011 have labels;
those that were sold first from then on are scored. Task MaskedLM learns the whole descriptions of
all other products, of later months and without a kind too. Then Classification starts from its
weights; on the other side it starts from MiniLM-L6 as it is. A masked language model has no pooler,
so on its side the pooler is new as well. The gain has one-sided 95 % bounds over seeds and
products; bounds on both sides of 0 mean that no effect was found.
"""

REPEAT = """
To repeat it, on real rows whose folder SPRINGTIDE_ONLINE_RETAIL names:

<!-- example: takes minutes, and needs the rows -->
```sh
PYTHONPATH=tests python -m bench.adaptation --write
```
"""


def sections(folder: Path) -> str:
    """Return the section of the result in a folder; empty: it has none."""
    file = folder / RESULT.name
    return section(json.loads(file.read_text("utf-8"))) if file.exists() else ""


def section(result: dict[str, Any]) -> str:
    """Return the section of a result, as Markdown."""
    machine, alone, adapted = result["machine"], result["alone"], result["adapted"]
    pairs = {**result["sizes"], **result["settings"]}.items()
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in pairs)
    setting = (
        f"{machine['date']}: {len(alone[0]['hits'])} products scored, {len(alone)} seeds; "
        f"{settings}; {machine['processor']}, 1 thread. In the end MaskedLM predicts "
        f"{fmean(each['masked_accuracy'] for each in adapted):.0%} of the hidden tokens of its "
        "texts right."
    )
    lines = [
        *(f"## {TITLE}", "", ABOUT, setting, ""),
        "| training | accuracy | gain (bounds) | of each seed | CPU seconds |",
        "|---|---|---|---|---|",
        _row("Classification alone", alone, ""),
        _row("MaskedLM, then Classification", adapted, _gain(result["gain"])),
    ]
    return "\n".join([*lines, REPEAT])


def _gain(gain: list[float]) -> str:
    mean, low, high = gain
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"


def _row(name: str, made: list[dict[str, Any]], gain: str) -> str:
    found = [share(each["hits"]) for each in made]
    cells = [
        name,
        f"{fmean(found):.4f}",
        gain,
        ", ".join(f"{each:.3f}" for each in found),
        f"{fmean(each['seconds'] for each in made):,.0f}",
    ]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")
