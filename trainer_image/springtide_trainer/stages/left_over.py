"""Deletes what pods left in the storage for generations that are gone, or were killed before.

A probe does it, as it deletes old rows (`data.snapshots.store`). Only what was written more than a
week before its run file goes: what a generation has that the operator did not know then is younger.
Names that no pod gives are left alone.
"""

from __future__ import annotations

import logging
import re
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from springtide_trainer.data.snapshots.store import RETENTION
from springtide_trainer.errors import Refused
from springtide_trainer.storage import LOCAL_RUNS, remote_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from springtide_api.contract import ProbeInput, RunFile
    from springtide_trainer.remote import Remote
    from springtide_trainer.storage import Home

    Rule = tuple[str, Collection[str]]

log = logging.getLogger(__name__)

_FILES = frozenset({"results", "tmp"})
"""Where the names in an object store are those of single objects."""


def delete(run: RunFile, home: Home, tmp: Path) -> None:
    """Delete what is left, as far as permissions allow.

    Args:
        run: The run file of a probe.
        home: The storage of the update.
        tmp: A folder that this pod has just created: its time is the storage's current time.
    """
    given = run.probe
    if given is None or given.generations is None:
        return
    for room, rules in _rules(run.update, given, given.generations).items():
        try:
            if remote := remote_of(home.path):
                _delete_objects(remote, home.path / room, rules, given.now)
            elif not (home.path / LOCAL_RUNS).exists():
                _delete_paths(home.path / room, rules, given.now, tmp)
        except (OSError, Refused) as kept:
            log.warning("not deleted", extra={"folder": room, "error": str(kept)})


def _rules(
    update: str, given: ProbeInput, generations: Sequence[str]
) -> dict[str, tuple[Rule, ...]]:
    """Return the names in each folder, and of which generations they are kept.

    The name of a Job is that of `names.job_name`, `job_set_name` or `probe_name`.
    """
    there, working = _numbers(generations), _numbers(given.unfinished)
    stage = r"(?:probe|(?P<generation>g\d+)-[a-z]+)"
    job = rf"(?:{re.escape(update)}|t[0-9a-f]{{10}})-.{{5}}-{stage}-\d+"
    return {
        "checkpoints": ((r"(?P<generation>g\d+)", working),),
        "reports": ((job, there),),
        "results": (
            (r"(?P<generation>g\d+-.{8})-.+\.json", set(generations)),
            (rf"{job}\.json", there),
        ),
        "tmp": ((rf"{job}-.+|create-once-.+", working),),
    }


def _numbers(generations: Sequence[str]) -> set[str]:
    return {name.partition("-")[0] for name in generations}


def _may_go(name: str, rules: Sequence[Rule]) -> bool:
    for pattern, kept in rules:
        if match := re.fullmatch(pattern, name):
            return match["generation"] not in kept
    return False


def _delete_objects(remote: Remote, room: Path, rules: Sequence[Rule], asked: datetime) -> None:
    """Delete them from an object store. Its clock and this pod's may differ by minutes."""
    until = min(asked, datetime.now(UTC)) - RETENTION
    for path, written in remote.folders(room).items():
        if _may_go(path.name, rules) and written < until:
            if room.name in _FILES:
                remote.remove_file(path)
            else:
                remote.forget(path)
            _log(path)


def _delete_paths(room: Path, rules: Sequence[Rule], asked: datetime, tmp: Path) -> None:
    until = min(asked.timestamp(), tmp.stat().st_mtime) - RETENTION.total_seconds()
    if room.is_symlink() or not room.is_dir():
        return
    for path in sorted(room.iterdir()):
        if path.is_symlink() or not _may_go(path.name, rules):
            continue
        try:
            if _written(path) < until:
                _delete(path, tmp / f"{room.name}-{path.name}")
        except FileNotFoundError:  # its pod or another probe deletes it
            continue
        except OSError as kept:
            log.warning("not deleted", extra={"folder": str(path), "error": str(kept)})


def _written(path: Path) -> float:
    """Return when a file, or anything in a folder, was last written: seconds since 1970."""
    return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))


def _delete(path: Path, aside: Path) -> None:
    """Delete a file or folder; it is renamed first, so that no reader sees a part of it."""
    path.rename(aside)
    if aside.is_dir():
        shutil.rmtree(aside)
    else:
        aside.unlink()
    _log(path)


def _log(path: Path) -> None:
    log.info("deleted: left over", extra={"folder": f"{path.parent.name}/{path.name}"})
