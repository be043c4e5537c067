"""Measures this trainer beside what a team would use instead.

    PYTHONPATH=tests python -m bench.training [--only full lora] [--rounds 3] [--write]

`--write` writes the results, and docs/benchmarks.md from them. Only the ratios of one run compare.
One thread by default, as in a pod of one CPU: threads that wait for each other use CPU time, too.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields

import torch
from bench.training import page, results
from bench.training.batch_assembly import ASSEMBLY
from bench.training.full import FROZEN, FULL
from bench.training.lora import LORA
from bench.training.machine import facts
from bench.training.rounds import Measured, Sizes, rounds
from bench.training.scoring import SCORING

BENCHMARKS = {each.name: each for each in (FULL, FROZEN, LORA, SCORING, ASSEMBLY)}


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--only", nargs="*", choices=BENCHMARKS, default=list(BENCHMARKS))
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--threads", type=int, default=1)
    for size in fields(Sizes):
        asked.add_argument(f"--{size.name.replace('_', '-')}", type=int, default=size.default)
    asked.add_argument("--write", action="store_true")
    given = asked.parse_args()
    torch.set_num_threads(given.threads)
    sizes = Sizes(**{name: getattr(given, name) for name in asdict(Sizes())})
    machine, made = facts(given.threads), {}
    found: dict[str, list[Measured]] = {name: [] for name in given.only}
    for benchmark, measured in rounds([BENCHMARKS[name] for name in found], sizes, given.rounds):
        name = benchmark.name
        found[name] += measured
        made[name] = results.result(benchmark, found[name], sizes=sizes, machine=machine)
        for each in measured:
            line = f"{name}: {each.side}: {each.rate:,.1f} rows/CPU-s"
            quality = f"{benchmark.quality.name} {each.quality:.4g}"
            print(f"round {each.round}: {line}, {quality}", flush=True)
        if given.write:
            results.write(benchmark, made[name])
            page.main()
    print(f"\n{page.table([*made.values()])}\n\n{page.summary([*made.values()])}")


if __name__ == "__main__":
    main()
