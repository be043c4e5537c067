"""What replay is for: a department whose items no longer arrive is still known.

`springtide-trainer run` takes the recipe `examples/tasks/departments.yaml` to its third generation
on this machine, as on a laptop, and once more without replay.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shop
import yaml
from demo.cluster import EXAMPLES
from demo.kubectl import DemoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEPARTED = "christmas"
MONTHS = ("2026-01", "2026-02", "2026-03", "2026-04")
"""Each generation is trained on one, from the first on; the next is its holdout."""
SEED = 7


@dataclass(frozen=True)
class Remembered:
    """The share of items of the departed department that a model sorts right."""

    items: int
    """Items of the last month, which did not arrive: no model was trained on them."""
    before: float
    """Of generation 1, which was trained while they arrived; below: of the last generation."""
    without_replay: float
    with_replay: float


class Ahead:
    """Compares in the background. Pods of the local cluster get four times as much of a busy core.

    Args:
        model: Folder of the initial model.
    """

    def __init__(self, model: Path) -> None:
        self._model = model
        self._found: Remembered | None = None
        self._error: DemoError | None = None
        self._last = ""
        # A demo that fails meanwhile does not wait for it.
        self._thread = threading.Thread(target=self._compare, daemon=True)
        self._thread.start()

    def result(self, report: Callable[[str], None]) -> Remembered:
        """Wait for the result.

        Raises:
            DemoError: a generation was not accepted.
        """
        while self._thread.is_alive():
            report(self._last)
            self._thread.join(1)
        if self._found is None:
            raise self._error or DemoError("the comparison with and without replay failed")
        return self._found

    def _compare(self) -> None:
        try:
            self._found = compare(self._model, self._report)
        except DemoError as error:
            self._error = error

    def _report(self, line: str) -> None:
        self._last = line


def compare(model: Path, report: Callable[[str], None]) -> Remembered:
    """Train three generations with replay, and the last two of them once more without.

    Args:
        model: Folder of the initial model.
        report: Receives the progress.

    Raises:
        DemoError: a generation was not accepted.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, first = folder / "data", folder / "first"
        data.mkdir()
        for month in MONTHS:
            _write(data / f"{month}.csv", month)
        asked = [item for item, department in _items(MONTHS[-1]) if department == DEPARTED]
        shares = {}
        for replayed in (True, False):
            home = folder / ("with-replay" if replayed else "without-replay")
            manifest = _manifest(folder, replayed=replayed)
            for number, through in enumerate(MONTHS[1:], start=1):
                if number == 1 and not replayed:
                    # Nothing is older than the first month, so there was nothing to replay.
                    shutil.copytree(first, home)
                    continue
                report(f"generation {number} {home.name.replace('-', ' ')}")
                _run(manifest, data, model, storage=home, through=_end(through))
                shares[replayed, number] = _share(home, asked)
                if number == 1:
                    shutil.copytree(home, first)
        last = len(MONTHS) - 1
        return Remembered(len(asked), shares[True, 1], shares[False, last], shares[True, last])


def _items(month: str) -> Iterator[tuple[str, str]]:
    """Yield the items on offer in a month, and their departments."""
    year, number = map(int, month.split("-"))
    departments = list(shop.THEMES)
    for item in shop.assortment(SEED, year * 12 + number):
        yield item.text, departments[item.theme]


def _write(path: Path, month: str) -> None:
    """Write the items that arrive in a month: after the first one, none of the departed."""
    moment = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["ts", "item", "department"])
        for number, (item, department) in enumerate(_items(month)):
            if department != DEPARTED or month == MONTHS[0]:
                arrival = moment + timedelta(minutes=number)
                table.writerow([f"{arrival:%Y-%m-%d %H:%M:%S}", item, department])


def _manifest(folder: Path, *, replayed: bool) -> Path:
    manifest: dict[str, Any] = yaml.safe_load(
        (EXAMPLES / "tasks" / "departments.yaml").read_text(encoding="utf-8")
    )
    if not replayed:
        del manifest["spec"]["training"]["retention"]
    path = folder / f"departments-{replayed}.yaml"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return path


def _run(manifest: Path, data: Path, model: Path, *, storage: Path, through: str) -> None:
    arguments = [str(manifest), "--data", str(data), "--model", str(model)]
    arguments += ["--storage", str(storage), "--through", through]
    command = [sys.executable, "-m", "springtide_trainer", "run", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise DemoError(f"springtide-trainer run: {(done.stderr or done.stdout)[-800:]}")


def _share(storage: Path, items: list[str]) -> float:
    """Return the share of items that the live generation of a local run sorts right."""
    from springtide_trainer.artifact.models import load
    from springtide_trainer.local.lineage import Generations
    from springtide_trainer.storage import local_path

    live = Generations.read(storage / "shop" / "departments").live
    if live is None or live.artifact is None:
        raise DemoError(f"no generation is live in {storage}")
    scorer = load(local_path(live.artifact.uri), live.artifact.digest, "cpu")
    predicted = scorer.predict([(item, None) for item in items]).argmax(axis=1)
    return sum(scorer.task.outputs[code] == DEPARTED for code in predicted) / len(items)


def _end(month: str) -> str:
    """Return the end of a month, up to which a run reads."""
    year, number = map(int, month.split("-"))
    return f"{year + number // 12}-{number % 12 + 1:02}-01"
