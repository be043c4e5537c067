"""Makes docs/scaling.md from measured costs: `python -m bench.fleet.page`, with PYTHONPATH=tests.

Needs no package but the standard library, so a test compares the page with what it computes.
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.fleet.control import Costs, Fleet
from bench.fleet.control import section as control
from bench.fleet.network import section as network
from bench.fleet.storage import section as storage

ROOT = Path(__file__).parents[3]
MEASURED = Path(__file__).parent / "measured.json"
RESULTS = ROOT / "tests" / "bench" / "results"
PAGE = "docs/scaling.md"

HEAD = """# What a fleet needs

What {updates:,} updates and {gpus:,} GPUs need of the operator, of the API server, of the storage
and of the network between GPUs. Computed by `tests/bench/fleet` from measured costs and from the
assumptions that are named here; no figure is written by hand. Nothing of this size was run: try
your own cluster before you rely on it. How to set up several releases:
[A fleet](how-to/fleet.md).

Control plane, {date}: {cores} cores of {processor}, which the operator, the API server, etcd, the
stand-ins for trainers and programs that have nothing to do with it shared; {few:,} and {many:,}
updates with 3 generations each, and {flood:,} that import and roll out their first model at once.
Costs of further updates are taken to be the same. CPU is counted for each process, so that others
slow it down and are not in it, but for what they take of the caches: on a machine of your own
expect less. `make bench-fleet` repeats it.
"""


def page() -> str:
    """Return the page as Markdown."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    gpu = json.loads((RESULTS / "gpu.json").read_text(encoding="utf-8"))
    start = json.loads((RESULTS / "pod_start.json").read_text(encoding="utf-8"))
    fleet, costs = Fleet(), Costs.of(measured)
    few, many = measured["populations"]
    machine = measured["machine"]
    head = HEAD.format(
        updates=fleet.updates,
        gpus=fleet.gpus,
        few=few["updates"],
        many=many["updates"],
        flood=measured["flood"]["many"],
        **{key: machine[key] for key in ("date", "cores", "processor")},
    )
    return "\n".join([head, control(fleet, costs, start), storage(fleet, gpu), network(gpu)])


def main() -> None:
    """Write the page into the checkout."""
    (ROOT / PAGE).write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
