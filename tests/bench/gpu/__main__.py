"""Measures this trainer on a GPU beside Hugging Face's Trainer.

    PYTHONPATH=tests python -m bench.gpu [--rounds 2] [--cases 0 1] [--compiled 0] [--write]

All sides of a case run in one process, one after the other on the same rows, in rounds; the order
is reversed in every second round. Before the first round each side trains a few steps, which load
libraries. Seconds are those of the wall, until the GPU has done its work. `--write` writes the
result, and docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from bench.gpu import page as section
from bench.gpu.cases import CASES, GpuClock, GpuRound, layer_parameters
from bench.gpu.sides import COMPILED, DEFAULTS, OURS, SIDES, TUNED_NAME
from bench.training import page
from bench.training.machine import facts
from bench.training.rounds import Sizes

from springtide_trainer.artifact.models import move

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.gpu.cases import Case

HELD_OUT = 2000
WARM_UP_STEPS = 12


def rounds(case: Case, folder: Path, names: list[str], numbers: range) -> Iterator[dict[str, Any]]:
    """Yield what these sides measured in each round; what comes before is not counted."""
    sides = [side for side in SIDES if side.name in names]
    for number in (0, *numbers):
        sizes = Sizes(
            trained=case.rows if number else WARM_UP_STEPS * case.batch, held_out=HELD_OUT
        )
        shared = GpuRound(folder, number, sizes, case=case)
        for side in sides[:: -1 if number % 2 == 0 else 1]:
            measured = one(shared, side)
            if number:
                yield measured


def one(shared: GpuRound, side: Any) -> dict[str, Any]:
    """Measure a side once."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    clock = GpuClock()
    model = side.measure(shared, clock)
    found = {
        "round": shared.number,
        "side": side.name,
        "rows": shared.sizes.trained,
        "tokens": shared.tokens,
        "seconds": round(clock.seconds, 4),
        "step_rows": round(shared.sizes.trained * clock.share, 1),
        "step_seconds": round(clock.steps, 4),
        "flops_per_token": 6 * layer_parameters(model),
        "memory": torch.cuda.max_memory_allocated(),
        "quality": round(shared.auc(move(model, "cuda")), 6) if shared.case.compared else None,
    }
    print(json.dumps(found), flush=True)
    return found


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--cases", nargs="*", type=int, default=list(range(len(CASES))))
    asked.add_argument("--rounds", type=int, default=2)
    asked.add_argument("--compiled", nargs="*", type=int, default=[0], help="cases")
    asked.add_argument("--defaults", nargs="*", type=int, default=[0, 1], help="cases")
    asked.add_argument("--write", action="store_true")
    given = asked.parse_args()
    result: dict[str, Any] = {
        "title": section.TITLE,
        "note": "",
        "machine": facts(torch.get_num_threads()),
        "sides": {},
        "cases": [],
        "not_measured": [case.title for case in CASES],
    }
    wanted = [(number, False) for number in given.cases]
    wanted += [(number, True) for number in given.compiled if number in given.cases]
    by_case: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, compiled in wanted:
            case, names = CASES[number], [OURS, COMPILED if compiled else TUNED_NAME]
            names += [DEFAULTS] if number in given.defaults and not compiled else []
            if number not in by_case:
                by_case[number] = asdict(case) | {"compared": case.compared, "measured": []}
                result["cases"].append(by_case[number])
            first, count = (given.rounds + 1, 1) if compiled else (1, given.rounds)
            own = Path(folder) / f"{case.layers}"
            for measured in rounds(case, own, names, range(first, first + count)):
                by_case[number]["measured"].append(measured)
                keep(result, case, measured["side"])
                write(result, given.write)
    print(section.section(result))
    if given.write:
        page.main()


def keep(result: dict[str, Any], case: Case, side: str) -> None:
    """Note that a side was measured in a case."""
    about = next(each.about for each in SIDES if each.name == side)
    result["sides"][side] = about
    result["not_measured"] = [name for name in result["not_measured"] if name != case.title]


def write(result: dict[str, Any], wanted: bool) -> None:
    """Write what is measured so far."""
    if wanted:
        text = json.dumps(result, indent=1) + "\n"
        (page.RESULTS / f"{section.NAME}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
