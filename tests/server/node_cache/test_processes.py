"""Processes that share a cache: one copies, all use it, whatever becomes of the others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from server.node_cache.conftest import ENV

from springtide_server.loading.node_cache import NodeCache
from springtide_trainer.artifact import manifest
from springtide_trainer.storage import folder_name


def test_of_many_processes_one_copies_each_artifact(cache, artifact, using):
    first, second = artifact("g1"), artifact("g2")
    started = [using(*order) for order in [(first, second), (second, first)] * 3]

    outcomes = [popen.stdout.readline().strip() for popen in started for _ in range(2)]

    assert sorted(outcomes) == ["cache"] * 10 + ["copied"] * 2
    assert {each.name for each in cache.iterdir()} == {folder_name(d) for _, d in (first, second)}
    for _, digest in (first, second):
        manifest.verify(cache / folder_name(digest), digest)


@pytest.mark.survives(
    "Model",
    "a server is killed at any step of copying an artifact to the node's cache, evicting one, or "
    "replacing a corrupt one",
    "what has the name of an artifact is whole; the next server copies it, and nothing is left",
)
@pytest.mark.parametrize(("scenario", "least"), [("copy", 20), ("eviction", 25), ("corrupt", 30)])
def test_a_process_that_is_killed_at_any_step_leaves_nothing_that_is_wrong(
    cache, artifact, scenario, least
):
    script = Path(__file__).with_name("killing.py")
    command = [sys.executable, str(script), scenario, str(cache), *artifact("g1"), *artifact("g2")]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least


def test_processes_that_wait_for_a_killed_one_copy_the_artifact_themselves(cache, artifact, using):
    g1 = artifact("g1")
    stopped = using(g1, stop=f"1:{signal.SIGSTOP:d}:.partial/weights.json")
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
    assert list(cache.glob("*.partial/more/*"))
    waiting = [using(g1), using(g1)]
    time.sleep(0.5)
    assert [popen.poll() for popen in waiting] == [None, None]

    stopped.kill()

    assert sorted(p.stdout.readline().strip() for p in waiting) == ["cache", "copied"]
    assert [each.name for each in cache.iterdir()] == [folder_name(g1[1])]


def test_the_least_recently_used_artifact_that_no_process_holds_is_evicted(cache, artifact, using):
    g1, g2, g3, g4 = (artifact(name) for name in ("g1", "g2", "g3", "g4"))
    for of_owner in ("notes.txt", "sha256-abc", "lost+found"):
        (cache / of_owner).mkdir()
    limit = 35_000  # three of 10,000 bytes and their manifests
    holder = using(g1, limit=limit)
    assert holder.stdout.readline() == "copied\n"
    mine = NodeCache(cache, limit)
    for age, (uri, digest) in enumerate((g2, g3)):
        mine.entry(uri, digest).release()
        os.utime(cache / folder_name(digest), (1000 + age, 1000 + age))
    os.utime(cache / folder_name(g1[1]), (1, 1))

    mine.entry(*g2).release()  # used again: g3 is now the one that was not used for longest
    mine.entry(*g4).release()

    kept = {each.name for each in cache.iterdir()}
    assert kept - {"notes.txt", "sha256-abc", "lost+found"} == {
        folder_name(digest) for _, digest in (g1, g2, g4)
    }
    assert {"notes.txt", "sha256-abc", "lost+found"} <= kept

    holder.kill()
    holder.wait()
    os.utime(cache / folder_name(g1[1]), (1, 1))
    mine.entry(*g3).release()
    assert not (cache / folder_name(g1[1])).exists()
