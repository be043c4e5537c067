"""Makes docs/scaling.md: `python -m bench.fleet.page`, with PYTHONPATH=tests.

Needs no package but the standard library, so a test compares the page with what it computes.
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.fleet.network import section as network
from bench.fleet.storage import Fleet
from bench.fleet.storage import section as storage

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "tests" / "bench" / "results"
PAGE = "docs/scaling.md"

HEAD = """# What a fleet needs

What {updates:,} updates and {gpus:,} GPUs need of the storage and of the network between GPUs.
Computed by `tests/bench/fleet` from measured steps and from the assumptions that are named here; no
figure is written by hand. Nothing of this size was run: try your own cluster before you rely on it.
What updates cost the operator is in [Operations](operations.md), how to set up several
releases in [A fleet](how-to/fleet.md).
"""


def page() -> str:
    """Return the page as Markdown."""
    gpu = json.loads((RESULTS / "gpu.json").read_text(encoding="utf-8"))
    fleet = Fleet()
    head = HEAD.format(updates=fleet.updates, gpus=fleet.gpus)
    return "\n".join([head, storage(fleet, gpu), network(gpu)])


def main() -> None:
    """Write the page into the checkout."""
    (ROOT / PAGE).write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
