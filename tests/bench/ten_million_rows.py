"""Minutes and memory of probing, freezing and tokenizing many rows.

    PYTHONPATH=tests python tests/bench/ten_million_rows.py [--rows 10000000] [--one-partition]

Rows are made-up Parquet. Each stage is a process of its own, as a pod; its anonymous memory
(RssAnon) is read every 50 ms. The goal is 1.5 GiB at most, also in one partition.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench.relevance import MAX_LENGTH, weights
from trainer.training.conftest import imported, recipe

from springtide_api.contract import RunFile
from springtide_trainer.storage import Home

GOAL_GIB = 1.5
PART = 250_000
"""Rows of one Parquet file."""
WORDS = 20_000
HOLDOUT = 10_000
MONTHS = 12
TOKENIZE = """
import sys
from pathlib import Path
from springtide_api.contract import RunFile
from springtide_trainer.storage import local_path
from springtide_trainer.training.rows.training_rows import load
run = RunFile.model_validate_json(Path(sys.argv[1]).read_bytes())
data, parent = run.train.data, local_path(run.train.parent.uri)
scratch = Path(run.home) / "tmp" / "tokenize"
scratch.mkdir(parents=True)
rows = load(local_path(data.uri), data.digest, run.recipe, parent=parent, scratch=scratch)
print(f"{len(rows.units.rows):,} rows, {rows.examples.tokens.lengths.mean():.1f} tokens a row")
"""


def write_rows(folder: Path, rows: int, one_partition: bool) -> None:
    """Write rows of January, or of 12 months, and those of the month after."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(WORDS)])
    months = 1 if one_partition else MONTHS
    begin, cut = (np.datetime64(day, "us").astype(np.int64) for day in _bounds(months))
    written = 0
    while written < rows + HOLDOUT:
        late = written >= rows
        count = min(PART, rows + HOLDOUT - written if late else rows - written)
        lengths = np.clip(rng.lognormal(3.0, 0.5, count), 3, 80).astype(int)
        chosen = words[rng.integers(0, WORDS, lengths.sum())].tolist()
        ends = np.cumsum(lengths)
        texts = [
            " ".join(chosen[end - length : end]) for end, length in zip(ends, lengths, strict=True)
        ]
        span = (cut, cut + 86_400_000_000) if late else (begin, cut)
        shoppers = rng.integers(0, max(50, rows // 20), count).astype(str)
        table = pa.table(
            {
                "text": texts,
                "clicked": rng.integers(0, 2, count).astype(str),
                "at": pa.array(rng.integers(*span, count), pa.timestamp("us", "UTC")),
                "shopper": np.char.add("s", shoppers),
            }
        )
        pq.write_table(table, folder / f"part-{written:010}.parquet")
        written += count


def _bounds(months: int) -> tuple[str, str]:
    return ("2025-01-01", "2025-02-01") if months == 1 else ("2025-01-01", "2026-01-01")


def run_file(stage: str, source: Path, home: Path, **block: Any) -> RunFile:
    made = recipe(["0", "1"])
    made["model"]["maxLength"] = MAX_LENGTH
    columns = {"text": "text", "label": "clicked", "timestamp": "at", "entity": "shopper"}
    made["data"] = {
        "source": {"uri": source.as_uri(), "format": "Parquet", "columns": columns},
    }
    return RunFile.model_validate(
        {
            "stage": stage,
            "namespace": "bench",
            "update": "rows",
            "number": 1,
            "job": f"rows-{stage}-1",
            "home": str(home),
            "recipe": made,
            **block,
        }
    )


def measured(what: str, command: list[str], environ: dict[str, str]) -> float:
    """Run a process; print its minutes and its highest RssAnon; return that in GiB."""
    began, peak = time.monotonic(), 0
    with subprocess.Popen(command, env={**os.environ, **environ}) as process:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            if found := re.search(r"RssAnon:\s+(\d+) kB", status):
                peak = max(peak, int(found[1]))
            time.sleep(0.05)
    if process.returncode:
        sys.exit(f"{what} failed with exit code {process.returncode}")
    minutes, gib = (time.monotonic() - began) / 60, peak / 1024**2
    print(f"{what:22} {minutes:7.2f} min {gib:6.2f} GiB RssAnon", flush=True)
    return gib


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--rows", type=int, default=10_000_000)
    asked.add_argument("--one-partition", action="store_true")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source, home = folder / "source", folder / "home"
        source.mkdir()
        write_rows(source, given.rows, given.one_partition)
        parent = imported(weights(), Home(home), ["0", "1"])
        said, path = folder / "termination", folder / "run.json"
        probe = run_file("probe", source, home, probe={"now": "2026-06-01T00:00:00Z"})
        path.write_text(probe.model_dump_json(by_alias=True, exclude_none=True))
        environ = {"SPRINGTIDE_RUN_FILE": str(path), "SPRINGTIDE_TERMINATION_LOG": str(said)}
        command = [sys.executable, "-m", "springtide_trainer"]
        peaks = [measured("probe and freeze", command, environ)]
        window = json.loads(said.read_bytes())["probe"]["window"]
        train = {
            "parent": {"uri": parent.uri, "digest": parent.digest},
            "data": {"uri": window["manifest"], "digest": window["digest"]},
            "checkpoints": str(home / "checkpoints" / "g1"),
        }
        run = run_file("train", source, home, train=train)
        path.write_text(run.model_dump_json(by_alias=True, exclude_none=True))
        peaks.append(measured("tokenize", [sys.executable, "-c", TOKENIZE, str(path)], {}))
        again = TOKENIZE.replace('"tokenize"', '"again"')
        peaks.append(measured("tokens of the cache", [sys.executable, "-c", again, str(path)], {}))
    if max(peaks) > GOAL_GIB:
        sys.exit(f"{max(peaks):.2f} GiB are more than {GOAL_GIB} GiB")


if __name__ == "__main__":
    main()
