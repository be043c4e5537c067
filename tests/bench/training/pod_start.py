"""Seconds from the start of a training process to its first step, and where they go.

    PYTHONPATH=tests python -m bench.training.pod_start [--rows 20000] [--rounds 3] [--write]

Each round starts the process of a pod on rows that are not tokenized yet. It uses all cores.
Bytecode is compiled before, as in the image; files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.relevance import MAX_LENGTH, weights
from bench.training import page
from bench.training.machine import facts
from bench.training.rounds import Round, Sizes

PROGRAM = """
import json, os, sys, time

def now():
    ticks, since_boot = os.sysconf("SC_CLK_TCK"), time.clock_gettime(time.CLOCK_BOOTTIME)
    began = open("/proc/self/stat").read().rpartition(")")[2].split()[19]
    return since_boot - int(began) / ticks, time.process_time()

marks = []

def marked(what, function):
    def timed(*given, **named):
        made = function(*given, **named)
        marks.append((what, *now()))
        return made
    return timed

def first_step(step):
    marks.append(("first step", *now()))
    sys.stdout.write(json.dumps(marks))
    sys.stdout.flush()
    os._exit(0)

from springtide_trainer.__main__ import main
from springtide_trainer.progress import shown_by
from springtide_trainer.stages import train

marks.append(("imports", *now()))
train.manifest.verify = marked("weights of the parent verified", train.manifest.verify)
train.load = marked("rows verified and tokenized", train.load)
train.session.prepare = marked("model and optimizer built", train.session.prepare)
with shown_by(first_step):
    main()
"""
"""Runs the stage of the environment's run file, and ends after the first step."""


def started(folder: Path, number: int, rows: int) -> list[dict[str, Any]]:
    """Start a training of so many rows; return the end of each part: seconds and CPU seconds."""
    shared = Round(folder, number, Sizes(trained=rows))
    plain = shared.world.run_file("start", hyperparameters={"batchSize": 32}).plain()
    plain["recipe"]["model"]["maxLength"] = MAX_LENGTH
    path = folder / "run.json"
    path.write_text(json.dumps(plain), encoding="utf-8")
    environ = {
        **{name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
        "SPRINGTIDE_RUN_FILE": str(path),
        "SPRINGTIDE_TERMINATION_LOG": str(folder / "termination"),
    }
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True)
    marks = json.loads(ended.stdout)
    return [
        {"part": part, "seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3)}
        for part, seconds, cpu in marks
    ]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rows", type=int, default=20_000)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--write", action="store_true")
    given = asked.parse_args()
    weights()
    found = []
    for number in range(given.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            marks = started(Path(folder), number, given.rows if number else 64)
        if number:  # round 0 loads files into the page cache
            found.append(marks)
            print(f"round {number}: {marks[-1]['seconds']:.1f} s", flush=True)
    cores = len(os.sched_getaffinity(0))
    title = f"Start of a training pod to its first step, {given.rows:,} rows"
    result = {"title": title, "machine": facts(cores), "rows": given.rows, "rounds": found}
    if given.write:
        text = json.dumps(result, indent=1) + "\n"
        (page.RESULTS / f"{page.POD_START}.json").write_text(text, encoding="utf-8")
        page.main()
    print(f"\n{page.pod_start(result)}")


if __name__ == "__main__":
    main()
