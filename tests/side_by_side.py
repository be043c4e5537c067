"""Which tests run side by side: `make test` starts several workers (pytest-xdist).

Each worker is a process with an API server of its own. There is one full cluster, so one worker
runs all tests on it, and begins with them as they take longest. Tests that compute are given out a
folder at a time because of their fixtures, to as many workers as there are cores; they give way to
all others. Tests with an API server mostly wait; each is given to whichever worker is left.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from xdist.remote import Producer
    from xdist.scheduler import Scheduling
    from xdist.workermanage import WorkerController

ROOT = Path(__file__).parents[1]
EACH_BY_ITSELF = ("tests/cluster/", "tests/faults/", "tests/handlers/")
GIVING_WAY = 10
"""Added to the niceness of tests that compute."""
LONGEST = (
    "tests/trainer/training/processes",
    "tests/trainer/training",
    "tests/lifecycle",
    "tests/server",
)
"""Folders whose tests take minutes of a core: given out first, so that none is the last."""
CLUSTER = "cluster"
COMPUTING = 3
"""So many workers at most run the cluster's tests or folders: those on the cluster wait, too."""


def group_of(nodeid: str) -> str:
    """Name what one worker runs without a break: the tests of a name go to one worker."""
    path = nodeid.partition("::")[0]
    if _on_the_cluster(path):
        return CLUSTER
    return nodeid if path.startswith(EACH_BY_ITSELF) else path.rpartition("/")[0]


@cache
def _on_the_cluster(path: str) -> bool:
    """Whether the tests of a file need the full cluster; the others of its folder run beside it."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return bool(re.search(r"^pytestmark = .*\bmark\.cluster\b", text, re.MULTILINE))


def place_of(nodeid: str) -> int:
    """Return the place of a test among those that compute: the longest folders come first."""
    group = group_of(nodeid)
    return LONGEST.index(group) if group in LONGEST else len(LONGEST)


def next_of(waiting: Iterable[str], given: Iterable[Iterable[str]]) -> str:
    """Choose the group that a worker gets.

    Args:
        waiting: Groups that no worker has, in order.
        given: The groups that each other worker has and has not ended.
    """
    groups = list(waiting)
    computing = sum(any(map(_computes, each)) for each in given)
    wanted = [each for each in groups if _computes(each) == (computing < COMPUTING)]
    return next(iter(wanted or groups))


def _computes(group: str) -> bool:
    """Whether it is the cluster's or a folder; tests that are given out one by one mostly wait."""
    return "::" not in group


class InGroups(LoadScopeScheduling):
    """Hands groups to workers in the order in which the tests were collected, of two kinds."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        others = [work for other, work in self.assigned_work.items() if other != node]
        given = [
            [group for group, tests in work.items() if not all(tests.values())] for work in others
        ]
        self.workqueue.move_to_end(next_of(self.workqueue, given), last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    config.option.loadscopereorder = False
    return InGroups(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each worker list what takes long first, so that no worker is the last by much."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (_turn(item), place_of(item.nodeid), -_time_allowed(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    computes = hasattr(item.config, "workerinput") and _turn(item) == 1
    with _giving_way() if computes else nullcontext():
        return (yield)


def _turn(item: pytest.Item) -> int:
    if item.get_closest_marker("cluster"):
        return 0
    return 2 if item.get_closest_marker("apiserver") else 1


def _time_allowed(item: pytest.Item) -> float:
    allowed = item.get_closest_marker("timeout")
    return allowed.args[0] if allowed else float(item.config.getini("timeout"))


@contextmanager
def _giving_way() -> Iterator[None]:
    """Run at a lower priority; only root may take it back afterwards."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if os.geteuid() == 0:
        os.setpriority(os.PRIO_PROCESS, 0, before + GIVING_WAY)
    yield
    os.setpriority(os.PRIO_PROCESS, 0, before)
