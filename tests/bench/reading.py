"""Rows that a probe reads per CPU-second, against another checkout, for each format.

    PYTHONPATH=tests python tests/bench/reading.py --before CHECKOUT [--rows 400000] [--rounds 3]

`index` is a probe that finds too few rows, so it reads the index alone; `freeze` is one that also
freezes all rows. Each is a process of its own, as a pod, and the two checkouts take turns on the
same files: compare the ratios within one run only. The start of a process is measured with no rows,
and subtracted.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parents[2]
FORMATS = ("CSV", "JSONL", "Parquet")
COLUMNS = {
    "text": "query",
    "textPair": "item",
    "label": "clicked",
    "timestamp": "at",
    "entity": "shopper",
}
WORDS = 5_000
TOO_MANY = 10**9
"""Rows of the holdout that no source has: nothing is frozen."""


def rows(count: int) -> pa.Table:
    """Made-up clicks of two months: a query and an item of 4 and 12 words on average."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(chr(97 + c) for c in rng.integers(0, 26, 6)) for _ in range(WORDS)])

    def texts(mean: int) -> list[str]:
        lengths = rng.poisson(mean, count) + 1
        chosen = words[rng.integers(0, WORDS, lengths.sum())].tolist()
        ends = np.cumsum(lengths)
        return [
            " ".join(chosen[end - length : end]) for end, length in zip(ends, lengths, strict=True)
        ]

    times = np.datetime64("2026-01-01", "s") + rng.integers(0, 59 * 86_400, count)
    return pa.table(
        {
            "at": [f"{time}Z" for time in times],
            "query": texts(4),
            "item": [text.replace(" ", ", ", 1) for text in texts(12)],
            "clicked": rng.integers(0, 2, count).astype(str),
            "shopper": np.char.add("s", rng.integers(0, count // 20 + 1, count).astype(str)),
            "not read": texts(20),
        }
    )


def write(table: pa.Table, form: str, path: Path) -> None:
    if form == "Parquet":
        pq.write_table(table, path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if form == "CSV":
            writer.writerow(table.column_names)
        for batch in table.to_batches(10_000):
            if form == "CSV":
                writer.writerows(zip(*(column.to_pylist() for column in batch), strict=True))
            else:
                file.writelines(json.dumps(row) + "\n" for row in batch.to_pylist())


def run_file(form: str, source: Path, home: Path, holdout: int) -> dict[str, Any]:
    recipe = {
        "model": {"initial": {"uri": "file:///models/minilm"}, "labels": ["0", "1"]},
        "data": {
            "source": {"uri": source.as_uri(), "format": form, "columns": COLUMNS},
            "holdout": {"minRows": holdout},
        },
        "training": {},
        "evaluation": {},
        "gate": {"rules": [{"name": "auc", "metric": "auc", "min": "0.5"}]},
        "storage": {"uri": "file:///models", "volume": {"claimName": "models"}},
    }
    return {
        "stage": "probe",
        "namespace": "bench",
        "update": "rows",
        "job": "rows-probe-1",
        "home": str(home),
        "recipe": recipe,
        "probe": {"now": "2026-06-01T00:00:00Z"},
    }


def seconds(checkout: Path, run: dict[str, Any], folder: Path) -> tuple[float, object]:
    """Run a probe; return its CPU-seconds and what it found."""
    shutil.rmtree(run["home"], ignore_errors=True)
    Path(run["home"]).mkdir()
    path, ending = folder / "run.json", folder / "ending.json"
    path.write_text(json.dumps(run), encoding="utf-8")
    environ = {
        **os.environ,
        "PYTHONPATH": f"{checkout / 'operator'}:{checkout / 'trainer_image'}",
        "SPRINGTIDE_RUN_FILE": str(path),
        "SPRINGTIDE_TERMINATION_LOG": str(ending),
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "springtide_trainer"]
    subprocess.run(command, env=environ, check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(ending.read_bytes())["probe"]
    window = found.get("window") or {}
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, (found["reason"], found.get("message"), window.get("digest"))


def compare(checkouts: list[Path], form: str, table: pa.Table, rounds: int, folder: Path) -> None:
    """Print rows per CPU-second of both checkouts, of the index and of freezing."""
    source, empty = folder / "rows", folder / "none"
    write(table, form, source)
    write(table.slice(0, 1), form, empty)
    print(f"{form}: {len(table):,} rows, {source.stat().st_size / 2**20:.0f} MiB", flush=True)
    for what, holdout in (("index", TOO_MANY), ("freeze", 1)):
        used: list[list[float]] = [[] for _ in checkouts]
        for _ in range(rounds):
            found = []
            for checkout, times in zip(checkouts, used, strict=True):
                start, _ = seconds(
                    checkout, run_file(form, empty, folder / "home", holdout), folder
                )
                run = run_file(form, source, folder / "home", holdout)
                took, result = seconds(checkout, run, folder)
                times.append(took - start)
                found.append(result)
            if found[0] != found[-1]:
                sys.exit(f"{form} {what}: the checkouts differ: {found}")
        before, now = (len(table) / median(times) for times in used)
        print(f"  {what:8} {before:11,.0f} {now:11,.0f} rows/s {now / before:6.1f}x", flush=True)


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--before", type=Path, required=True)
    asked.add_argument("--rows", type=int, default=400_000)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--formats", nargs="+", default=FORMATS)
    given = asked.parse_args()
    table = rows(given.rows)
    print("per CPU-second; before, now, ratio", flush=True)
    for form in given.formats:
        with tempfile.TemporaryDirectory() as folder:
            compare([given.before.resolve(), HERE], form, table, given.rounds, Path(folder))


if __name__ == "__main__":
    main()
