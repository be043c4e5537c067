"""Seconds and memory of a large model on its way through an object store.

    PYTHONPATH=tests python tests/bench/large_model.py [--gigabytes 5] [--folder /tmp]

A trainer commits a model, and a server fetches it; each is a process of its own, as a pod. The
store is versitygw on the same disk, so the seconds are those of this machine: beside them are those
of what cannot be left out, the same bytes hashed once, written once, and put and got by the client
alone. The memory is what a side has more (RssAnon, every 20 ms) than at its start: the model is
never in it. The disk needs four times the size.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from local_cluster.object_store import on_loopback

from springtide_server.loading.fetch import fetch
from springtide_trainer.artifact import manifest
from springtide_trainer.objects.folders import save
from springtide_trainer.objects.mirror import Mirror
from springtide_trainer.objects.store import Store
from springtide_trainer.storage import Home, file_digest, kept_by, sync

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL_MIB = 256
BLOCK = 64 << 20
BUCKET = "s3://bench"
WEIGHTS = "model.safetensors"


def write_model(folder: Path, size: int) -> None:
    """Write bytes that do not repeat."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    with (folder / WEIGHTS).open("wb") as file:
        for start in range(0, size, BLOCK):
            file.write(rng.bytes(min(BLOCK, size - start)))
    sync(folder / WEIGHTS)


def hashed(folder: Path) -> str:
    """Hash the weights once."""
    return file_digest(folder / "model" / WEIGHTS)


def written(folder: Path) -> None:
    """Write a copy of the weights once, to the disk."""
    source, copy = folder / "model" / WEIGHTS, folder / "copy"
    with source.open("rb") as reading, copy.open("wb") as writing:
        while block := reading.read(BLOCK // 16):
            writing.write(block)
    sync(copy)
    copy.unlink()


def put(folder: Path) -> None:
    """Upload the weights, without hashing and committing."""
    Store(BUCKET).put("put/weights", folder / "model" / WEIGHTS)


def got(folder: Path) -> None:
    """Download them to a file."""
    store = Store(BUCKET)
    save(store, store.head("put/weights"), folder / "got")
    (folder / "got").unlink()
    store.delete(["put/weights"])


def committed(folder: Path) -> dict[str, str]:
    """Commit the model as a trainer does, its manifest included."""
    home = Home(folder / "home")
    mirror = Mirror(folder / "copies", root=home.path, home=f"{BUCKET}/shop", writer="bench")
    with kept_by(mirror):
        made = manifest.commit(folder / "model", home)
    return {"uri": made.uri, "digest": made.digest}


def fetched(folder: Path) -> None:
    """Fetch and verify the model as a server does."""
    made = json.loads((folder / "committed").read_text())["result"]
    (folder / "server").mkdir()
    fetch(made["uri"], made["digest"], folder / "server", reserve=lambda size: None)


SIDES: dict[str, Callable[[Path], Any]] = {
    side.__name__: side for side in (hashed, written, put, got, committed, fetched)
}


def memory() -> int:
    """Return the anonymous memory of this process in kB."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


def run_side(name: str, folder: Path) -> None:
    """Run one side in this process; leave its seconds, its memory in MiB and its result."""
    over, before, peak = threading.Event(), memory(), 0

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.02):
            peak = max(peak, memory())

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.monotonic()
    result = SIDES[name](folder)
    seconds = time.monotonic() - began
    over.set()
    watching.join()
    found = {"seconds": seconds, "mib": max(peak - before, 0) / 1024, "result": result}
    (folder / name).write_text(json.dumps(found))


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--gigabytes", type=float, default=5.0)
    asked.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    asked.add_argument("--side", choices=SIDES)
    given = asked.parse_args()
    if given.side:
        run_side(given.side, given.folder)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder, size = Path(place), int(given.gigabytes * 1e9)
        write_model(folder / "model", size)
        server = on_loopback(folder / "s3")
        try:
            server.bucket(BUCKET.removeprefix("s3://"))
            peaks = [measured(side, folder, size, server.environment) for side in SIDES]
        finally:
            server.stop()
    if max(peaks) > GOAL_MIB:
        sys.exit(f"{max(peaks):.0f} MiB are more than {GOAL_MIB} MiB")


def measured(side: str, folder: Path, size: int, environment: dict[str, str]) -> float:
    """Run a side in a process of its own; print and return what it took."""
    command = [sys.executable, __file__, f"--side={side}", f"--folder={folder}"]
    subprocess.run(command, check=True, env={**os.environ, **environment})
    found = json.loads((folder / side).read_text())
    seconds, mib = found["seconds"], found["mib"]
    rate = f"{size / seconds / 1e6:7.0f} MB/s"
    print(f"{side:10} {seconds:7.1f} s {rate} {mib:6.0f} MiB", flush=True)
    return float(mib)


if __name__ == "__main__":
    main()
