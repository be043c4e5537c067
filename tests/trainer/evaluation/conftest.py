"""A small shop on disk: two months of ranking groups, frozen by a probe, and tiny models."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from springtide_api.contract import CommittedArtifact, RunFile
from springtide_trainer.artifact import manifest
from springtide_trainer.artifact.models import load
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.stages.evaluate import evaluate
from springtide_trainer.stages.probe import probe
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import EvaluateOutput, WindowFound

WORDS = ["red", "blue", "shoe", "dress", "lamp", "garden", "winter", "small", "cheap", "kids"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
RULES = [
    {"name": "floor", "metric": "auc", "min": "0.55"},
    {"name": "better", "metric": "auc", "minImprovement": {"absolute": "0"}},
]


def tokenizer() -> PreTrainedTokenizerFast:
    words = [*SPECIAL, *WORDS, *ascii_lowercase]
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, "[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    special = {f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=32, **special)


def commit_bert(
    home: Home, seed: int, *, outputs: int, preprocess: Preprocess
) -> CommittedArtifact:
    """Commit a random BERT with large weights, so that scores of texts differ."""
    torch.manual_seed(seed)
    words = tokenizer()
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        num_labels=outputs,
        initializer_range=0.3,
    )
    folder = home.path / "tmp" / f"model-{seed}-{outputs}"
    folder.mkdir(parents=True)
    BertForSequenceClassification(config).save_pretrained(folder)
    words.save_pretrained(folder)
    preprocess.write(folder)
    return manifest.commit(folder, home)


def make_model(home: Home, seed: int, labels: list[str]) -> CommittedArtifact:
    """Commit a random classifier of query and item."""
    preprocess = Preprocess(text="query", text_pair="item", max_length=32, labels=labels)
    return commit_bert(home, seed, outputs=len(labels), preprocess=preprocess)


@dataclass
class Shop:
    """The storage of an update with a window; `evaluate` evaluates two of its models."""

    home: Home
    source: Path
    window: WindowFound
    knowing: CommittedArtifact
    """The model whose scores determine the labels."""
    other: CommittedArtifact

    def model(self, seed: int) -> CommittedArtifact:
        return make_model(self.home, seed, ["no", "yes"])

    def recipe(self, **asked: Any) -> dict[str, Any]:
        columns = {
            "text": "query",
            "textPair": "item",
            "label": "clicked",
            "timestamp": "at",
            "entity": "shopper",
            "group": "list",
        }
        return {
            "model": {
                "initial": {"uri": "file:///models/minilm"},
                "labels": asked.get("labels", ["no", "yes"]),
                "maxLength": 32,
            },
            "data": {
                "source": {"uri": self.source.as_uri(), "format": "CSV", "columns": columns},
                "reserve": {"fraction": "0.3"},
            },
            "training": {},
            "evaluation": {
                "datasets": asked.get("datasets", [{"name": "holdout", "role": "Holdout"}]),
                "bootstrap": {"samples": 300},
            },
            "gate": {"rules": asked.get("rules", RULES)},
            "storage": {"uri": "file:///models", "volume": {"claimName": "models"}},
            "serving": asked.get("serving"),
        }

    def run(
        self, candidate: CommittedArtifact, live: CommittedArtifact | None, **asked: Any
    ) -> RunFile:
        def reference(made: CommittedArtifact) -> dict[str, str]:
            return {"uri": made.uri, "digest": made.digest}

        given: dict[str, Any] = {
            "candidate": reference(candidate),
            "holdout": {"uri": self.window.manifest, "digest": self.window.digest},
            "historical": asked.get("historical", []),
            "parentNumber": 1,
        }
        if live:
            given["baseline"] = reference(live)
        if "reference" in asked:
            given["reference"] = reference(asked["reference"])
        return RunFile.model_validate(
            {
                "stage": "evaluate",
                "namespace": "shop",
                "update": "ranker",
                "number": 2,
                "job": asked.get("job", "ranker-12345-g2-evaluate-1"),
                "home": str(self.home.path),
                "recipe": self.recipe(**asked),
                "evaluate": given,
            }
        )

    def evaluate(
        self, candidate: CommittedArtifact, live: CommittedArtifact | None, **asked: Any
    ) -> EvaluateOutput:
        run = self.run(candidate, live, **asked)
        with self.home.tmp(run.job, "pod") as tmp:
            return evaluate(run, self.home, tmp)

    def report(self, output: EvaluateOutput) -> Path:
        return local_path(output.report)


def in_shards(run: RunFile, size: int | None, pods: int = 1) -> RunFile:
    """Return the run file of an evaluation in shards of so many rows, also of few."""
    window = run.recipe.data.window.model_copy(update={"rows_per_shard": size})
    data = run.recipe.data.model_copy(update={"window": window})
    assert run.evaluate is not None
    return run.model_copy(
        update={
            "recipe": run.recipe.model_copy(update={"data": data}),
            "evaluate": run.evaluate.model_copy(update={"pods": pods}),
        }
    )


def rows_of(
    home: Home, knowing: CommittedArtifact, labels: list[str], count: int
) -> list[dict[str, str]]:
    """Groups of five items; labels by the scores of the model, 15 % of them at random."""
    random = np.random.default_rng(5)
    pairs = [
        (" ".join(random.choice(WORDS, 3)), " ".join(random.choice(WORDS, 4))) for _ in range(count)
    ]
    scores = load(local_path(knowing.uri), knowing.digest).predict(pairs)
    scores /= np.median(scores, axis=0)
    predicted = np.where(
        random.random(count) < 0.15, random.integers(0, len(labels), count), scores.argmax(axis=1)
    )
    return [
        {
            "at": f"2026-{1 + (at * 2) // count:02}-{1 + at % 27:02} 12:00:00",
            "shopper": f"s{(at // 5) % 60}",
            "list": f"l{at // 5}",
            "query": pairs[at][0],
            "item": pairs[at][1],
            "clicked": labels[predicted[at]],
        }
        for at in range(count)
    ]


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return open_shop(tmp_path_factory.mktemp("shop"), ["no", "yes"])


@pytest.fixture(scope="module")
def three_labels(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return open_shop(tmp_path_factory.mktemp("three"), ["no", "click", "buy"])


def open_shop(folder: Path, labels: list[str]) -> Shop:
    home = Home(folder / "home")
    knowing, other = (make_model(home, seed, labels) for seed in (1, 2))
    source = write_csv(folder / "clicks.csv", rows_of(home, knowing, labels, 1200))
    shop = Shop(home, source, None, knowing, other)  # type: ignore[arg-type]
    return with_window(shop, "2026-06-01T00:00:00Z", labels=labels)


def with_window(shop: Any, now: str, **asked: object) -> Any:
    """Probe the source of a shop with a recipe, and return the shop with the window found."""
    run = RunFile.model_validate(
        {
            "stage": "probe",
            "namespace": "shop",
            "update": "ranker",
            "job": "ranker-probe-1",
            "home": str(shop.home.path),
            "recipe": shop.recipe(**asked),
            "probe": {"now": now},
        }
    )
    with shop.home.tmp(run.job, "pod") as tmp:
        found = probe(run, shop.home, tmp)
    assert found.window is not None, found.message
    return replace(shop, window=found.window)
