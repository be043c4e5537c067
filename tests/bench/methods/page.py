"""The section of docs/benchmarks.md on the ways of updating; needs no package."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.methods.options import OPTIONS

NAME = "methods"
RESULT = Path(__file__).parents[1] / "results" / f"{NAME}.json"
TITLE = "Ways of updating, on classes that arrive five at a time"

ABOUT = """Each option changes one thing of the update `Full`, which trains all weights but the word
embeddings and replays 10 rows of each earlier class. A row is a product of a shop ("Online
Retail", Chen 2015, UCI, CC BY 4.0) without the word for its kind; its label is the kind. The
model starts as MiniLM-L6 with an untrained head, and each step has the rows of five new kinds
alone. The accuracy is that of the last model on products that no training saw: of all kinds,
of the first five (what is kept), and of the last five (what is learnt). The gain is to the
option in its column, with one-sided 95 % bounds over seeds and products; bounds on both sides
of 0 mean that no effect was found. Memory is the most that the process of a training ever
had, libraries included.
"""

REPEAT = """
To repeat it, on real rows whose folder SPRINGTIDE_ONLINE_RETAIL names:

<!-- example: takes most of an hour, and needs the rows -->
```sh
make bench-methods WRITE=1
```
"""


def read() -> dict[str, Any]:
    """Return the result that was written; empty: none."""
    return json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}


def write(result: dict[str, Any]) -> None:
    """Write the result, its options in the order of their table."""
    options = {name: result["options"][name] for name in OPTIONS if name in result["options"]}
    text = json.dumps({**result, "options": options}, indent=1) + "\n"
    RESULT.write_text(text, encoding="utf-8")


def sections(folder: Path) -> str:
    """Return the section of the result in a folder; empty: it has none."""
    file = folder / RESULT.name
    return section(json.loads(file.read_text("utf-8"))) if file.exists() else ""


def section(result: dict[str, Any]) -> str:
    """Return the section of a result, as Markdown."""
    machine, settings = result["machine"], result["settings"]
    products = len(next(iter(result["options"].values()))[0]["hits"])
    setting = (
        f"{machine['date']}: {products} products scored; {settings['seeds']} seeds, "
        f"{settings['classes']} kinds, {settings['epochs']} epochs of each step, learning rate "
        f"{settings['rate']} unless the option names one; {machine['processor']}, 1 thread."
    )
    lines = [
        *(f"## {TITLE}", "", ABOUT, setting, ""),
        "| option | accuracy | gain (bounds) | to | first five kinds | last five kinds | rows "
        "| steps | CPU seconds | MiB | MB served |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_row(name, result) for name in OPTIONS if name in result["options"]),
    ]
    return "\n".join([*lines, REPEAT])


def _row(name: str, result: dict[str, Any]) -> str:
    made, gain, against = result["options"][name], result["gains"].get(name), OPTIONS[name].against
    means = {key: fmean(each[key] for each in made) for key in made[0] if key != "hits"}
    cells = [
        name,
        f"{fmean(share(each['hits']) for each in made):.3f}",
        f"{gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f})" if gain else "",
        against if gain else "",
        *(f"{means[key]:.3f}" for key in ("first", "last")),
        *(f"{means[key]:,.0f}" for key in ("rows", "steps", "seconds", "memory")),
        f"{means['served'] / 1e6:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def share(hits: str) -> float:
    """Return the share of products that were predicted right, from their hits as 0 and 1."""
    return hits.count("1") / len(hits)
