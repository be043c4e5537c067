"""Small sources on disk, and run files of probes for them."""

from __future__ import annotations

import csv
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from springtide_api.contract import ExitCode, ProbeOutput, RunFile
from springtide_trainer.errors import Refused
from springtide_trainer.stages.probe import probe
from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

COLUMNS = {"text": "query", "textPair": "item", "label": "clicked", "timestamp": "at"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir()
    return Home(tmp_path / "home")


@pytest.fixture
def run_probe(home: Home, tmp_path: Path) -> Callable[..., ProbeOutput]:
    """Probe a source: `run_probe(path, format="CSV", now=..., columns=..., window=..., ...)`."""
    looks = iter(range(1000))

    def run_probe(path: Path, **asked: Any) -> ProbeOutput:
        scratch = tmp_path / "home" / "tmp" / str(next(looks))
        scratch.mkdir(parents=True)
        return probe(run_file(path, home.path, **asked), home, scratch)

    return run_probe


@pytest.fixture
def refuse(
    run_probe: Callable[..., ProbeOutput], home: Home
) -> Callable[..., tuple[str, str, str]]:
    """Probe a source that must be refused; return reason, field and message."""

    def refuse(path: Path, **asked: Any) -> tuple[str, str, str]:
        with pytest.raises(Refused) as caught:
            run_probe(path, **asked)
        assert caught.value.code == ExitCode.INVALID_INPUT
        assert not (home.path / "data").exists()
        failure = caught.value.failure
        return failure.reason, failure.field, failure.message

    return refuse


@pytest.fixture
def run_of(home: Home) -> Callable[..., RunFile]:
    """Return the run file of a probe."""
    return lambda path, **asked: run_file(path, home.path, **asked)


def run_file(path: Path, home: Path, **asked: Any) -> RunFile:
    source = {
        "uri": path.as_uri(),
        "format": asked.get("format", "CSV"),
        "partition": asked.get("partition", {}),
        "columns": COLUMNS | asked.get("columns", {}),
    }
    data = {
        "source": source,
        **{name: asked[name] for name in ("window", "holdout") & asked.keys()},
    }
    if "reserve" in asked:
        data["reserve"] = {"fraction": asked["reserve"]}
    looking = {"now": asked.get("now", "2026-06-01T00:00:00Z"), **asked.get("probe", {})}
    recipe = {
        "model": {
            "initial": {"uri": "file:///models/minilm"},
            "labels": asked.get("labels", ["0", "1"]),
            **asked.get("model", {}),
        },
        "data": data,
        "training": asked.get("training", {}),
        "evaluation": {},
        "gate": {"rules": [{"name": "auc", "metric": "auc", "min": "0.5"}]},
        "storage": {"uri": "file:///models", "volume": {"claimName": "models"}},
    }
    return RunFile.model_validate(
        {
            "stage": "probe",
            "namespace": "shop",
            "update": "ranker",
            "job": "ranker-probe-1",
            "home": str(home),
            "recipe": recipe,
            "probe": looking,
        }
    )


@pytest.fixture
def write_csv() -> Callable[[Path, Iterable[dict[str, Any]]], Path]:
    """Write rows with a header, with gzip if the name ends in .gz."""

    def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
        rows = list(rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "wt", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


@pytest.fixture
def write_jsonl() -> Callable[[Path, Iterable[dict[str, Any]]], Path]:
    def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def clicks() -> Callable[..., list[dict[str, Any]]]:
    """Rows of some months of 2026, one per day, clicked every second day."""

    def clicks(*months: int, a_month: int = 10) -> list[dict[str, Any]]:
        return [
            {
                "at": f"2026-{month:02}-{day + 1:02} 12:00:00",
                "shopper": f"s{(month * a_month + day) % 7}",
                "list": f"l{month}-{day // 2}",
                "query": f"red shoe {day}",
                "item": f"sneaker, size {month}",
                "clicked": str(day % 2),
            }
            for month in months
            for day in range(a_month)
        ]

    return clicks
