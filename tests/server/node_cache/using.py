"""A process that takes artifacts from a cache, and gets a signal before a chosen step.

    python using.py CACHE LIMIT STEP:SIGNAL:PATH URI DIGEST [URI DIGEST]

Prints one line for each artifact: "copied" or "cache"; then holds them until its input ends.
"""

import os
import sys
from pathlib import Path

from springtide_server.loading.node_cache import NodeCache

STEPS = frozenset(
    {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime", "fcntl.flock"}
    | {"os.listdir", "os.scandir"}
)
"""Audit events: what Python reports before it asks the system to do it."""


def signal_before(step: int, signal: int, path: str = "") -> None:
    """Send this process a signal before its n-th step on paths with this text, counted from 1."""
    steps = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal steps
        if event in STEPS and path in str(arguments[0]):
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal)

    sys.addaudithook(count)


def main(cache: str, limit: str, stop: str, *artifacts: str) -> None:
    used = NodeCache(Path(cache), int(limit))
    step, signal, path = stop.split(":")
    signal_before(int(step), int(signal), path)
    for uri, digest in zip(artifacts[::2], artifacts[1::2], strict=True):
        entry = used.entry(uri, digest)
        print("copied" if entry.copied else "cache", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
