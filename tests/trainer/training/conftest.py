"""A tiny random BERT as a Hugging Face folder, frozen rows, and run files."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

from springtide_api.contract import CommittedArtifact, RunFile
from springtide_trainer.data.snapshots.frozen_rows import (
    partition_digests,
    row_hashes,
    write_file_digests,
)
from springtide_trainer.stages.import_model import import_model
from springtide_trainer.stages.train import train
from springtide_trainer.storage import Home, local_path, uri_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from springtide_api.contract import TrainOutput

GOOD = ["good", "great", "lovely", "fine"]
BAD = ["bad", "awful", "poor", "broken"]
PLAIN = ["shoe", "dress", "lamp", "red", "blue", "the", "a", "very", "and", "for"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LABELS = ["no", "yes"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, like the pods of these tests: bit-equal weights need the same number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tokenizer() -> PreTrainedTokenizerFast:
    words = [*SPECIAL, *GOOD, *BAD, *PLAIN]
    made = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    special = {f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=32, **special)


def publish(folder: Path, labels: Sequence[str] | None = None) -> Path:
    """Write a Hugging Face folder: with a trained head if labels are given, else without."""
    torch.manual_seed(3)
    words = tokenizer()
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        num_labels=len(labels or LABELS),
    )
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
    model = BertForSequenceClassification(config) if labels else BertModel(config)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return publish(tmp_path / "published")


def toy_rows(count: int, seed: int = 0) -> dict[str, list[Any]]:
    """Texts whose label depends on one word; four rows per entity; lengths from 3 to 12."""
    rng = torch.Generator().manual_seed(seed)

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=rng))

    rows: dict[str, list[Any]] = {"text": [], "label": [], "entity": []}
    for number in range(count):
        words = [PLAIN[below(len(PLAIN))] for _ in range(2 + below(10))]
        label = below(2)
        words.insert(below(len(words)), (GOOD if label else BAD)[below(4)])
        rows["text"].append(" ".join(words))
        rows["label"].append(LABELS[label])
        rows["entity"].append(f"shopper-{number // 4}")
    return rows


def freeze(home: Home, rows: dict[str, list[Any]]) -> tuple[Path, str]:
    """Write frozen rows like a probe; return folder and digest."""
    count = len(rows["text"])
    times = rows.get("timestamp", [datetime(2026, 3, 1, tzinfo=UTC)] * count)
    table = pa.table({name: values for name, values in rows.items() if name != "timestamp"})
    table = table.append_column("timestamp", pa.array(times, pa.timestamp("us", "UTC")))
    table = table.append_column("partition", pa.array(["2026-03"] * count, pa.string()))
    parts = {"train": table, "holdout": table.slice(0, 0), "reserved": table.slice(0, 0)}
    counted = {
        part: partition_digests(rows["partition"], row_hashes(rows, own_entity=False))
        for part, rows in parts.items()
    }
    manifest = json.dumps({"rows": counted, "columns": {"entity": "shopper"}}).encode()
    digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
    folder = home.data(digest)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_bytes(manifest)
    for part, rows in parts.items():
        pq.write_table(rows, folder / f"{part}.parquet", row_group_size=16_384)
    write_file_digests(folder)
    return folder, digest


def recipe(
    labels: Sequence[str] = LABELS,
    training: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a recipe as written by the operator, with the given training options."""
    columns = {"text": "text", "label": "label", "timestamp": "at", "entity": "shopper"}
    source = {"uri": "file:///data/x", "format": "CSV", "columns": columns}
    rule = {"name": "floor", "metric": "auc", "dataset": "holdout", "min": "0.5"}
    return {
        "model": {
            "initial": {"uri": "file:///models/tiny"},
            **(model or {"labels": list(labels)}),
            "maxLength": 16,
        },
        "data": {"source": source},
        "training": training or {},
        "evaluation": {},
        "gate": {"rules": [rule]},
        "storage": {"uri": "file:///models", "volume": {"claimName": "models"}},
    }


@dataclass
class World:
    """The storage of one update with a generation 0 and frozen rows in it."""

    home: Home
    parent: CommittedArtifact
    data: tuple[Path, str]
    model: dict[str, Any] | None = None
    """Fields of another task, in place of the labels."""

    def run_file(self, job: str = "g1-train-1", *, divisor: int = 1, **training: Any) -> RunFile:
        """Return the run file of a training, with the given training options."""
        return RunFile.model_validate(
            {
                "stage": "train",
                "namespace": "shop",
                "update": "ranker",
                "number": 1,
                "job": job,
                "home": str(self.home.path),
                "recipe": recipe(training=training, model=self.model),
                "train": {
                    "parent": {"uri": self.parent.uri, "digest": self.parent.digest},
                    "data": {"uri": self.data[0].as_uri(), "digest": self.data[1]},
                    "checkpoints": str(self.home.checkpoints(1)),
                    "batchDivisor": divisor,
                },
            }
        )

    def train(self, run: RunFile) -> TrainOutput:
        """Train in this process."""
        with self.home.tmp(run.job, "pod") as tmp:
            return train(run, self.home, tmp)


def imported(
    source: Path,
    home: Home,
    labels: Sequence[str] = LABELS,
    *,
    model: dict[str, Any] | None = None,
    serving: dict[str, Any] | None = None,
    **block: Any,
) -> CommittedArtifact:
    """Import a model's folder in this process; `model` replaces labels by another task."""
    run = RunFile.model_validate(
        {
            "stage": "import",
            "namespace": "shop",
            "update": "ranker",
            "number": 0,
            "job": "g0-import-1",
            "home": str(home.path),
            "recipe": recipe(labels, model=model) | {"serving": serving},
            "import": {"uri": source.as_uri(), **block},
        }
    )
    with home.tmp(run.job, "pod") as tmp:
        return import_model(run, home, tmp)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world of most tests, which each of them gets a copy of."""
    folder = tmp_path_factory.mktemp("prepared")
    home = Home(folder / "home")
    return World(home, imported(publish(folder / "published"), home), freeze(home, toy_rows(240)))


@pytest.fixture
def world(tmp_path: Path, prepared: World) -> World:
    home = Home(tmp_path / "models" / "shop" / "ranker")
    shutil.copytree(prepared.home.path, home.path)
    torch.manual_seed(3)
    artifact = local_path(prepared.parent.uri).relative_to(prepared.home.path)
    parent = prepared.parent.model_copy(update={"uri": uri_of(home.path / artifact)})
    digest = prepared.data[1]
    return World(home, parent, (home.data(digest), digest))


@pytest.fixture
def freeze_rows() -> Callable[[Home, dict[str, list[Any]]], tuple[Path, str]]:
    return freeze


@pytest.fixture
def recipe_with() -> Callable[[RunFile, list[str] | None, tuple[Path, str]], RunFile]:
    """Return a recipe with other labels and other rows."""

    def changed(run: RunFile, labels: list[str] | None, data: tuple[Path, str]) -> RunFile:
        plain = run.model_dump(mode="json", by_alias=True, exclude_none=True)
        plain["recipe"]["model"]["labels"] = labels or LABELS
        plain["train"]["data"] = {"uri": data[0].as_uri(), "digest": data[1]}
        return RunFile.model_validate(plain)

    return changed


@pytest.fixture
def publish_model() -> Callable[..., Path]:
    return publish


@pytest.fixture
def import_folder(tmp_path: Path) -> Callable[..., CommittedArtifact]:
    """Import a folder into a new storage."""

    def into(source: Path, labels: Sequence[str] = LABELS, **block: Any) -> CommittedArtifact:
        return imported(source, Home(tmp_path / "imported"), labels, **block)

    return into
