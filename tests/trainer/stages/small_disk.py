"""Runs a stage on a disk with increasing free space; prints the outcome of each pod.

Run by `test_disk_full.py` in a mount namespace of its own: `unshare --mount python small_disk.py
<run file> <folder>`. After each pod that found the disk full there is room for the next one. Ends
with the first pod that gets through at once.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from springtide_api.contract import Result, RunFile
from springtide_trainer.artifact import manifest
from springtide_trainer.data.snapshots import frozen_rows, replay_buffer
from springtide_trainer.stages.runner import run_stage
from springtide_trainer.storage import Home

SIZE = 8 << 20
PAGE = 4096
TIMES = 12
"""Number of times that the disk is full, if the stage writes at least as many pages."""
PATIENCE = 60.0
"""Maximum seconds until a removed file is closed."""


def main(run: RunFile, disk: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)], check=True)
    home = Home(Path(run.home))
    undisturbed = run_stage(run, home, "pod-0")
    assert undisturbed.code == 0, undisturbed
    step = max(1, used(disk) // (TIMES * PAGE)) * PAGE
    shutil.rmtree(home.path)
    for free in range(0, SIZE, step):
        with ballast(disk, free):
            ending = run_stage(run, home, "pod-1")
        left = [path.name for path in (home.path / "tmp").iterdir()]
        kept = [path.name for path in whole(home)]
        again = run_stage(run, home, "pod-2")
        whole(home)
        print(
            json.dumps(
                {
                    "code": ending.code,
                    "failure": ending.result.failure and ending.result.failure.plain(),
                    "left": left,
                    "kept": kept,
                    "again": again.code,
                    "same": made(again.result) == made(undisturbed.result),
                }
            )
        )
        shutil.rmtree(home.path)
        if ending.code == 0:
            return


@contextmanager
def ballast(disk: Path, free: int) -> Iterator[None]:
    """Leave this many bytes of the disk free, and free all at the end."""
    wait_until_empty(disk)
    with (disk / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, SIZE - free)
    yield
    (disk / "ballast").unlink()


def wait_until_empty(disk: Path) -> None:
    """Wait for the last removed file to be closed; until then its pages count as used.

    A thread of pyarrow may close a Parquet file after `read_table` has returned its rows.
    """
    deadline = time.monotonic() + PATIENCE
    while used(disk):
        assert time.monotonic() < deadline, f"{used(disk)} bytes of removed files are still used"
        time.sleep(0.01)


def used(disk: Path) -> int:
    return shutil.disk_usage(disk).used


def whole(home: Home) -> list[Path]:
    """List all folders at final paths, and verify their content."""
    found = {
        kind: sorted(home.path.glob(pattern))
        for kind, pattern in {
            "artifacts": "artifacts/*",
            "buffers": "buffers/*",
            "checkpoints": "checkpoints/*/*",
            "data": "data/*",
            "reports": "reports/*",
            "results": "results/*",
        }.items()
    }
    for folder in found["artifacts"]:
        manifest.verify(folder, folder.name.replace("-", ":", 1))
    for folder in found["buffers"]:
        replay_buffer._verified(folder, folder.name.replace("-", ":", 1))
    for folder in found["checkpoints"]:
        manifest.verify(folder, f"sha256:{manifest.file_digest(folder / manifest.MANIFEST)}")
    for folder in found["data"]:
        frozen_rows.verify(folder, folder.name.replace("-", ":", 1))
    for folder in found["reports"]:
        json.loads((folder / "metrics.json").read_text())
        assert (folder / "report.html").read_text().rstrip().endswith("</html>")
        pq.read_table(folder / "scores.parquet")
    for file in found["results"]:
        Result.model_validate_json(file.read_bytes())
    return [path for paths in found.values() for path in paths]


def made(result: Result) -> object:
    """Return the part of a result that must not depend on the full disk."""
    match result:
        case Result(imported=imported) if imported:
            return imported.digest
        case Result(probe=probe) if probe:
            return probe.window and probe.window.digest
        case Result(train=train) if train:
            assert train.adapter
            return train.artifact.digest, train.adapter.digest, train.buffer
        case Result(evaluate=evaluate) if evaluate:
            return evaluate.rules
    return None


if __name__ == "__main__":
    main(RunFile.model_validate_json(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
