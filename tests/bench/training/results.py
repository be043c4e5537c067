"""The results of a benchmark as plain JSON, from which `page` makes docs/benchmarks.md."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.training.page import RESULTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.training.rounds import Benchmark, Measured, Sizes


def result(
    benchmark: Benchmark, measured: Sequence[Measured], *, sizes: Sizes, machine: dict[str, Any]
) -> dict[str, Any]:
    """Return what a benchmark measured, with all that the page says about it."""
    return {
        "title": benchmark.title,
        "machine": machine,
        "sizes": {name: getattr(sizes, name) for name in benchmark.sizes},
        "sides": {side.name: side.about for side in benchmark.sides},
        "quality": {
            "name": benchmark.quality.name,
            "tolerance": benchmark.quality.tolerance,
        },
        "comparisons": [asdict(each) for each in benchmark.comparisons],
        "measured": [_rounded(each) for each in measured],
    }


def write(benchmark: Benchmark, plain: dict[str, Any]) -> None:
    """Write the result of a benchmark into the checkout."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(plain, indent=1) + "\n"
    (RESULTS / f"{benchmark.name}.json").write_text(text, encoding="utf-8")


def _rounded(measured: Measured) -> dict[str, Any]:
    plain = asdict(measured)
    return plain | {
        "cpu_seconds": round(measured.cpu_seconds, 6),
        "quality": round(measured.quality, 8),
    }
