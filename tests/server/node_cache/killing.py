"""Kills a process before each of its steps in a cache, and checks what is left.

    python killing.py SCENARIO CACHE OLD_URI OLD_DIGEST URI DIGEST

Prints how many processes were killed. A process of its own, because it forks: pytest has threads.
"""

import os
import shutil
import signal
import sys
from itertools import count
from pathlib import Path

from server.node_cache.using import signal_before

from springtide_server.loading.node_cache import NodeCache
from springtide_trainer.artifact import manifest
from springtide_trainer.storage import folder_name, local_path

LIMIT = 1_000_000
ONE = 15_000
"""A limit that one of the two artifacts fits, of 10,000 bytes and their manifests."""


def take(cache: Path, uri: str, digest: str, limit: int) -> None:
    """Take an artifact, and have it copied again if it is not whole, as the server does."""
    used = NodeCache(cache, limit)
    entry = used.entry(uri, digest)
    try:
        manifest.verify(entry.folder, digest)
    except manifest.Refused:
        used.discard(entry)
        entry = used.entry(uri, digest)
        manifest.verify(entry.folder, digest)
    entry.release()


def killed(step: int, *arguments: object) -> bool:
    """Take an artifact in a process that is killed before a step; return whether it was."""
    child = os.fork()
    if not child:
        signal_before(step, signal.SIGKILL)
        take(*arguments)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def main(scenario: str, cache: Path, old: tuple[str, str], new: tuple[str, str]) -> int:
    """Return the number of processes that were killed."""
    limit = ONE if scenario == "eviction" else LIMIT
    for step in count(1):
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        take(cache, *old, limit)
        if scenario == "corrupt":
            damaged = cache / folder_name(new[1])
            shutil.copytree(local_path(new[0]), damaged)
            (damaged / "weights.json").write_text("other")
        if not killed(step, cache, *new, limit):
            return step - 1
        for entry in cache.iterdir():
            if not entry.name.endswith(".partial") and scenario != "corrupt":
                manifest.verify(entry, entry.name.replace("-", ":"))
        take(cache, *new, limit)
        left = {entry.name for entry in cache.iterdir()}
        others = set() if scenario == "eviction" else {folder_name(old[1])}
        assert left == {folder_name(new[1]), *others}, left
    raise AssertionError


if __name__ == "__main__":
    scenario, cache, *rest = sys.argv[1:]
    print(main(scenario, Path(cache), (rest[0], rest[1]), (rest[2], rest[3])))
