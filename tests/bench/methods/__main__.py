"""Compares the ways of updating a model on classes that arrive five at a time.

    SPRINGTIDE_ONLINE_RETAIL=FOLDER PYTHONPATH=tests python -m bench.methods [--write]

The rows are those of `bench.retention.class_arrival` without the word for the kind. Each option is
trained step by step with every seed, from its parent's weights and with what its parent left, and
is scored on products that no training saw. `--options` names some of the options, and `--write`
writes what was measured of these into the results, and docs/benchmarks.md from them.
"""

from __future__ import annotations

import argparse
import multiprocessing
from functools import partial
from typing import Any

import numpy as np
from bench.methods import page
from bench.methods.options import OPTIONS
from bench.methods.training import tried
from bench.retention.class_arrival import interval
from bench.training import page as whole_page
from bench.training.machine import facts


def gains(options: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Return the gain of each option to the one that it is compared with, and its bounds."""
    found = {
        name: np.array([[each == "1" for each in seed["hits"]] for seed in made])
        for name, made in options.items()
    }
    pairs = {name: OPTIONS[name].against for name in found}
    return {
        name: [round(each, 6) for each in interval(found[name], found[against])]
        for name, against in pairs.items()
        if name != against and len(found.get(against, ())) == len(found[name])
    }


def parsed() -> argparse.Namespace:
    asked = argparse.ArgumentParser()
    asked.add_argument("--options", nargs="+", default=[*OPTIONS], choices=[*OPTIONS])
    asked.add_argument("--seeds", type=int, default=5)
    asked.add_argument("--classes", type=int, default=15)
    asked.add_argument("--epochs", type=int, default=3)
    asked.add_argument("--rate", default="1e-4", help="of options that have none of their own")
    asked.add_argument("--processes", type=int, default=1, help="trainings at once")
    asked.add_argument("--write", action="store_true", help="write the results and the page")
    given = asked.parse_args()
    given.lower = 0
    return given


def main() -> None:
    given = parsed()
    settings = {name: getattr(given, name) for name in ("seeds", "classes", "epochs", "rate")}
    result = page.read() if given.write else {}
    if result.get("settings") != settings:
        result = {"settings": settings, "options": {}}
    result |= {"title": page.TITLE, "machine": facts(1)}
    jobs = [(option, seed) for option in given.options for seed in range(1, given.seeds + 1)]
    spawning = multiprocessing.get_context("spawn")
    # A process for each training, because memory is measured as the most that it ever had.
    with spawning.Pool(given.processes, maxtasksperchild=1) as processes:
        trained = processes.imap(partial(tried, given), jobs)
        for (option, seed), made in zip(jobs, trained, strict=True):
            seeds = [*result["options"].get(option, []), made] if seed > 1 else [made]
            result["options"][option] = seeds
            share = page.share(made["hits"])
            print(f"{option}, seed {seed}: {share:.3f}, {made['seconds']} CPU s", flush=True)
            result["gains"] = gains(result["options"])
            if given.write and seed == given.seeds:
                page.write(result)
                whole_page.main()
    print(page.section(result))


if __name__ == "__main__":
    main()
