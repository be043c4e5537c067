"""Looks for data on a disk of 1 MiB with ever more of it free; prints how each pod ended.

Run by `test_disk_full.py` in a mount namespace of its own: `unshare --mount python small_disk.py
<run file> <folder>`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from springtide_api.contract import RunFile
from springtide_trainer.rows import verify
from springtide_trainer.stage import conclude
from springtide_trainer.storage import Home

SIZE = 1 << 20
PAGE = 4096


def main(run: RunFile, disk: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)], check=True)
    home = Home(Path(run.home))
    for free in range(32):
        with (disk / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, SIZE - free * PAGE)
        ending = conclude(run, home, "pod-1")
        (disk / "ballast").unlink()
        again = conclude(run, home, "pod-2")
        print(
            json.dumps(
                {
                    "free": free * PAGE,
                    "code": ending.code,
                    "failure": ending.result.failure and ending.result.failure.plain(),
                    "again": again.code,
                    "window": again.result.probe.window is not None,
                    "left": [path.name for path in (home.path / "tmp").iterdir()],
                }
            )
        )
        for rows in (home.path / "data").iterdir():
            verify(rows, f"sha256:{rows.name.removeprefix('sha256-')}")
        shutil.rmtree(home.path)


if __name__ == "__main__":
    main(RunFile.model_validate_json(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
