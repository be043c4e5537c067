"""A tiny random model as an artifact, servers in this process, and servers as processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from string import ascii_lowercase, digits
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import torch
from forks import Fork
from local_cluster.ports import free_port
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from springtide_api.update.model import Optimise
from springtide_api.update.task import ClassificationOptions, RankingOptions, RegressionOptions
from springtide_server.app import build_app
from springtide_server.model import load
from springtide_server.service import Service
from springtide_server.settings import Settings
from springtide_trainer.artifact import manifest
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.optimise import form
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact

PASSED_ON = {"PATH", "PYTHONPATH", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"}
WORDS = ["red", "blue", "shoe", "dress", "lamp", "for", "garden", "winter", "small", "cheap"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizer() -> PreTrainedTokenizerFast:
    letters = [*ascii_lowercase, *digits]
    pieces = [*SPECIAL, *WORDS, *letters, *(f"##{letter}" for letter in letters), *".,:;{}"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    special = {f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **special)


def make_artifact(
    home: Path, preprocess: Preprocess, added: Sequence[str] = ()
) -> CommittedArtifact:
    """Commit a random BERT of two layers with large weights, so that scores of texts differ.

    Its tokenizer has the words of all, and some that are added to these.
    """
    torch.manual_seed(7)
    words = tokenizer()
    words.add_tokens([*added])
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=len(preprocess.labels or ["value"]),
        initializer_range=0.3,
    )
    folder = home / "tmp" / "made"
    folder.mkdir(parents=True)
    BertForSequenceClassification(config).save_pretrained(folder)
    words.save_pretrained(folder)
    preprocess.write(folder)
    return manifest.commit(folder, Home(home))


@dataclass(frozen=True)
class Made:
    """An artifact and the settings that serve it."""

    artifact: CommittedArtifact
    settings: Settings


def made(home: Path, preprocess: Preprocess, added: Sequence[str] = ()) -> Made:
    committed = make_artifact(home, preprocess, added)
    settings = Settings(
        model_uri=committed.uri, model_digest=committed.digest, generation="3", max_batch=16
    )
    return Made(committed, settings)


INT8 = Optimise(quantization="Int8Dynamic")


def optimized(home: Path, made: Made, wanted: Optimise = INT8) -> Made:
    """A form of an artifact, and the settings that serve it."""
    home.mkdir(parents=True, exist_ok=True)
    form.write(local_path(made.artifact.uri), home / "form", wanted)
    committed = manifest.commit(home / "form", Home(home))
    settings = replace(made.settings, model_uri=committed.uri, model_digest=committed.digest)
    return Made(committed, settings)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model that reads `text`."""
    preprocess = Preprocess(text="query", max_length=32, labels=["no", "maybe", "yes"])
    return made(tmp_path_factory.mktemp("texts"), preprocess)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model that reads `text` and `text_pair`."""
    preprocess = Preprocess(text="query", text_pair="item", max_length=32, labels=["no", "yes"])
    return made(tmp_path_factory.mktemp("pairs"), preprocess)


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model that reads the features `title` and `price`."""
    preprocess = Preprocess(
        features=["title", "price"],
        template="{title} for {price}",
        max_length=32,
        labels=["no", "yes"],
    )
    return made(tmp_path_factory.mktemp("features"), preprocess)


@pytest.fixture(scope="session")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model that predicts a price of `text`."""
    preprocess = Preprocess(
        text="item",
        max_length=32,
        task="Regression",
        regression=RegressionOptions(location="100", spread="20"),
    )
    return made(tmp_path_factory.mktemp("prices"), preprocess)


@pytest.fixture(scope="session")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model that scores pairs of `text` and `text_pair`."""
    preprocess = Preprocess(
        text="query",
        text_pair="item",
        max_length=32,
        task="Ranking",
        ranking=RankingOptions(gains={"no": "0", "yes": "1"}),
    )
    return made(tmp_path_factory.mktemp("ranker"), preprocess)


@pytest.fixture(scope="session")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model that predicts several labels of `text`."""
    preprocess = Preprocess(
        text="item",
        max_length=32,
        labels=["sport", "music", "travel"],
        classification=ClassificationOptions(multi_label=True),
    )
    return made(tmp_path_factory.mktemp("topics"), preprocess)


@asynccontextmanager
async def hosting(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    """Run a service in this process, with its model if the settings have one."""
    service = Service(settings)
    scoring = None
    if service.settings.model_uri:
        scoring = asyncio.create_task(service.start(load(service.settings)).run())
    transport = httpx.ASGITransport(build_app(service), raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            yield client, service
    finally:
        if scoring:
            scoring.cancel()
            await asyncio.wait({scoring})


@pytest.fixture
def serve() -> Callable[..., Any]:
    """Serve settings in this process: `async with serve(made.settings, max_batch=4) as client`."""

    @asynccontextmanager
    async def serving(settings: Settings, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        async with hosting(replace(settings, **changes)) as (client, _):
            yield client

    return serving


@pytest.fixture
def hosted() -> Callable[..., Any]:
    """Like `serve`, but yields the service too: `as (client, service)`."""
    return lambda settings, **changes: hosting(replace(settings, **changes))


@pytest.fixture
def ask() -> Callable[..., dict[str, Any]]:
    """Return the body of a request: `ask(text=["red shoe"])`."""
    return lambda **columns: {
        "inputs": [
            {"name": name, "shape": [len(rows)], "datatype": "BYTES", "data": rows}
            for name, rows in columns.items()
        ]
    }


@dataclass
class Process:
    """A server process on a loopback port; each request has a new connection."""

    popen: subprocess.Popen[str] | Fork
    port: int
    client: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> httpx.Response:
        return self.client.get(self.url + path)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.client.post(self.url + path, **body)

    def wait_for(self, status: int, path: str = "/v2/health/ready") -> httpx.Response:
        """Poll until a path returns this status, or the process ends."""
        while self.popen.poll() is None:
            try:
                answer = self.get(path)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == status:
                return answer
            time.sleep(0.02)
        raise AssertionError(f"ended with {self.popen.returncode}: {self.output()}")

    def output(self) -> list[dict[str, Any]]:
        """Wait for the process to end and return its log."""
        output, _ = self.popen.communicate(timeout=300)
        return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start servers with an environment, as forks: they are spared the imports.

    Running ones are killed at the end of the test.
    """
    numbers = count(1)

    def forked(env: dict[str, str]) -> Fork:
        log = tmp_path / f"server-{next(numbers)}.log"
        return Fork("springtide_server.__main__", env, log)

    yield from _started(tmp_path, forked)


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Like `start`, but `python -m springtide_server`, by a command before it if there is one."""

    def opened(env: dict[str, str], *before: str) -> subprocess.Popen[str]:
        command = [*before, sys.executable, "-m", "springtide_server"]
        return subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    yield from _started(tmp_path, opened)


def _started(tmp_path: Path, begin: Callable[..., Any]) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []
    # One client without TLS verification takes a hundredth of the time of httpx.get.
    client = httpx.Client(
        verify=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0)
    )

    def starting(*before: str, **env: str) -> Process:
        port = free_port()
        known = {
            **{name: value for name, value in os.environ.items() if name in PASSED_ON},
            "OMP_NUM_THREADS": "1",
            "SPRINGTIDE_HOST": "127.0.0.1",
            "SPRINGTIDE_PORT": str(port),
            "SPRINGTIDE_TERMINATION_LOG": str(tmp_path / "termination-log"),
            **env,
        }
        started.append(Process(begin(known, *before), port, client))
        return started[-1]

    yield starting
    for server in started:
        server.popen.kill()
        server.popen.communicate()
    client.close()
