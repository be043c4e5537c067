"""A bucket of a real S3 server, and run files whose model, data and storage are in it."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from springtide_api.contract import RunFile
from springtide_trainer.objects.folders import COMMIT
from springtide_trainer.objects.store import Store
from springtide_trainer.stages.runner import StageOutcome, opened, run_stage

# PyTorch is imported by the fixtures that need it: most tests of this folder do not.
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from local_cluster.object_store import ObjectStore

    from springtide_api.contract import CommittedArtifact, WindowFound

_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Bucket:
    """A bucket, and the folder in which the server keeps its objects."""

    uri: str
    folder: Path

    @property
    def store(self) -> Store:
        return Store(self.uri)

    def upload(self, folder: Path, key: str) -> str:
        for path in folder.rglob("*"):
            if path.is_file():
                self.store.put(f"{key}/{path.relative_to(folder)}", path)
        return f"{self.uri}/{key}"

    def mark_folder(self, key: str) -> None:
        """Create the empty object `<key>/`, as consoles do; the server keeps it as a folder."""
        folder = self.folder / key
        folder.mkdir(parents=True, exist_ok=True)
        etag = hashlib.md5(b"", usedforsecurity=False).hexdigest()
        os.setxattr(folder, "user.etag", etag.encode())

    def keys(self, prefix: str) -> list[str]:
        return sorted(entry.key for entry in self.store.list(prefix))


CHECKPOINTS = "storage/shop/ranker/checkpoints/g1"
"""Where folders are kept for other pods of generation 1."""
DAMAGES = ["flipped", "missing", "commit"]


def commits(bucket: Bucket) -> list[str]:
    """Return the objects by which folders are committed there."""
    return [key for key in bucket.keys(CHECKPOINTS) if key.endswith(f"/{COMMIT}")]


def damage(bucket: Bucket, how: str, name: str) -> None:
    """Damage the first object that is kept there under a name, or the first commit."""
    if how == "commit":
        key, content = commits(bucket)[0], b"{}"
    else:
        key = next(key for key in bucket.keys(CHECKPOINTS) if key.endswith(f"/{name}"))
        content = bucket.store.read(key)
        content = content[:-1] + bytes([content[-1] ^ 1])
    bucket.store.delete([key])
    if how != "missing":
        bucket.store.create(key, content)


@pytest.fixture
def bucket(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket; the environment has the credentials for it."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    name = f"test-{next(_NUMBERS)}"
    return Bucket(f"s3://{name}", object_store.bucket(name))


@dataclass
class Update:
    """Run files of an update whose model, data and storage are in a bucket."""

    bucket: Bucket
    recipe: dict[str, Any]

    @property
    def home(self) -> str:
        return f"{self.bucket.uri}/storage/shop/ranker"

    def run_file(self, stage: str, job: str, **blocks: Any) -> RunFile:
        return RunFile.model_validate(
            {
                "stage": stage,
                "namespace": "shop",
                "update": "ranker",
                "number": None if stage == "probe" else 1,
                "job": job,
                "home": self.home,
                "recipe": self.recipe,
                **blocks,
            }
        )

    def run(self, stage: str, job: str, pod: str = "pod-1", **blocks: Any) -> StageOutcome:
        return run(self.run_file(stage, job, **blocks), pod)


NOW = {"now": "2026-06-01T00:00:00Z"}


def training(update: Update, parent: CommittedArtifact, window: WindowFound) -> dict[str, Any]:
    """Return the block of a run file for the training of generation 1."""
    return {
        "train": {
            "parent": {"uri": parent.uri, "digest": parent.digest},
            "data": {"uri": window.manifest, "digest": window.digest},
            "checkpoints": f"{update.home}/checkpoints/g1",
        }
    }


def run(asked: RunFile, pod: str = "pod-1") -> StageOutcome:
    """Run a stage as its pod would."""
    with opened(asked, pod) as home:
        return run_stage(asked, home, pod)


@pytest.fixture
def update(bucket: Bucket) -> Update:
    from trainer.training.conftest import recipe

    asked = recipe(training={"hyperparameters": {"epochs": 1}})
    asked["storage"] = {"uri": f"{bucket.uri}/storage"}
    asked["model"]["initial"]["uri"] = f"{bucket.uri}/models/tiny"
    asked["data"]["source"]["uri"] = f"{bucket.uri}/data/clicks"
    asked["data"]["source"]["partition"] = {"path": "%Y-%m/"}
    asked["data"]["source"]["format"] = "CSV"
    asked["gate"] = {"rules": [{"name": "floor", "metric": "auc", "dataset": "h", "min": "0.5"}]}
    asked["evaluation"] = {
        "datasets": [{"name": "h", "role": "Holdout"}],
        "bootstrap": {"samples": 200},
    }
    return Update(bucket, asked)


@pytest.fixture
def published_model(bucket: Bucket, tmp_path: Path) -> str:
    """URI of a Hugging Face folder in the bucket."""
    from trainer.training.conftest import LABELS, publish

    return bucket.upload(publish(tmp_path / "published", LABELS), "models/tiny")


def month(number: int, rows: int = 120) -> bytes:
    """Rows of a month of 2026 as CSV."""
    from trainer.training.conftest import toy_rows

    known = toy_rows(rows, seed=number)
    start = datetime(2026, number, 1, tzinfo=UTC)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["text", "label", "shopper", "at"])
    for index, (words, label, entity) in enumerate(
        zip(known["text"], known["label"], known["entity"], strict=True)
    ):
        at = start + timedelta(minutes=index)
        writer.writerow([words, label, entity, at.isoformat()])
    return text.getvalue().encode()


@pytest.fixture
def deliver(bucket: Bucket) -> Callable[..., None]:
    """Write months of 2026 to the source, each as one file of a folder."""

    def deliver(*months: int) -> None:
        for number in months:
            bucket.store.put(f"data/clicks/2026-{number:02}/part-0.csv", month(number))

    return deliver
