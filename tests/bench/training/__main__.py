"""Compares trainings with a tutorial's loop, Hugging Face's Trainer and peft.

    PYTHONPATH=tests python -m bench.training [--only full lora] [--rounds 3]

Only the ratios of one run compare. One thread by default, as in a pod of one CPU: threads that wait
for each other use CPU time, too.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from statistics import median
from typing import TYPE_CHECKING

import torch
from bench.training.full import FROZEN, FULL
from bench.training.lora import LORA
from bench.training.rounds import Sizes, rounds

if TYPE_CHECKING:
    from bench.training.rounds import Benchmark, Measured

BENCHMARKS = {each.name: each for each in (FULL, FROZEN, LORA)}


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--only", nargs="*", choices=BENCHMARKS, default=list(BENCHMARKS))
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--threads", type=int, default=1)
    for size in fields(Sizes):
        asked.add_argument(f"--{size.name.replace('_', '-')}", type=int, default=size.default)
    given = asked.parse_args()
    torch.set_num_threads(given.threads)
    sizes = Sizes(**{name: getattr(given, name) for name in asdict(Sizes())})
    found: dict[str, list[Measured]] = {name: [] for name in given.only}
    for benchmark, measured in rounds([BENCHMARKS[name] for name in found], sizes, given.rounds):
        found[benchmark.name] += measured
        for each in measured:
            line = f"{benchmark.name}: {each.side}: {each.rate:,.1f} rows/CPU-s"
            print(f"round {each.round}: {line}, AUC {each.quality:.4f}", flush=True)
    for name, measured in found.items():
        report(BENCHMARKS[name], measured)


def report(benchmark: Benchmark, measured: list[Measured]) -> None:
    """Print the ratio of each comparison, of all rounds."""
    for each in benchmark.comparisons:
        ours, other = (
            [one.rate for one in measured if one.side == name] for name in (each.ours, each.other)
        )
        ratios = [mine / its for mine, its in zip(ours, other, strict=True)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{each.what}, {each.ours} to {each.other}: {spread}")


if __name__ == "__main__":
    main()
