"""Artifacts of a few bytes, which are never loaded, and processes that take them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from springtide_trainer.artifact import manifest
from springtide_trainer.storage import uri_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TESTS = Path(__file__).parents[2]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
SIZE = 10_000


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty folder of the node."""
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


@pytest.fixture
def artifact(tmp_path: Path) -> Callable[[str], tuple[str, str]]:
    """Make an artifact with a file of SIZE bytes; returns URI and digest."""

    def making(name: str) -> tuple[str, str]:
        folder = tmp_path / "claim" / name
        (folder / "more").mkdir(parents=True)
        (folder / "weights.json").write_text(name.ljust(SIZE))
        (folder / "more" / "vocabulary.txt").write_text(name)
        digest = manifest.write_manifest(folder)
        return uri_of(folder), digest

    return making


@pytest.fixture
def using(cache: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that take artifacts and hold them; they are killed at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def starting(
        *artifacts: tuple[str, str], limit: int = 1_000_000, stop: str = "0:0:"
    ) -> subprocess.Popen[str]:
        names = [text for artifact in artifacts for text in artifact]
        script = str(Path(__file__).with_name("using.py"))
        popen = subprocess.Popen(
            [sys.executable, script, str(cache), str(limit), stop, *names],
            env=ENV,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(popen)
        return popen

    yield starting
    for popen in started:
        popen.kill()
        popen.communicate()
