"""Rows are tokenized once; a cache of their tokens changes no weight and hardly uses memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from trainer.damage import DAMAGES, damage
from trainer.training.conftest import toy_rows

from springtide_trainer.artifact import token_cache, tokens
from springtide_trainer.artifact.models import load_tokenizer
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.storage import local_path
from springtide_trainer.training.early_stopping import validation_split
from springtide_trainer.training.rows import training_rows

OPTIONS = {"epochs": 1, "batchSize": 16, "learningRate": "1e-3"}
ANON = Path(__file__).with_name("anonymous_memory.py")
BYTES_A_ROW = 160
"""Numbers of a row that stay in memory: start, length, label, weight, index and order."""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the rows of each call of the tokenizer's encoder."""
    calls: list[int] = []
    encode = tokens.encode

    def counting(tokenizer: Any, chunks: Any, max_length: int) -> Any:
        for made in encode(tokenizer, chunks, max_length):
            calls.append(len(made.lengths))
            yield made

    for module in (tokens, token_cache):
        monkeypatch.setattr(module, "encode", counting)
    return calls


def caches(world: Any) -> list[Path]:
    return sorted(world.data[0].glob("tokens-*"))


def train(world: Any, job: str, **options: Any) -> str:
    run = world.run_file(job, hyperparameters={**OPTIONS, **options})
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    digest: str = world.train(run).artifact.digest
    return digest


def test_the_second_training_tokenizes_nothing_and_gives_the_same_weights(world, counted):
    first = train(world, "first")
    assert counted == [240]
    assert train(world, "second") == first
    assert counted == [240]
    assert len(caches(world)) == 1


@pytest.mark.survives(
    "Data",
    "no space for the cache of tokens, or a volume that is read-only",
    "training goes on with tokens in memory; same weights",
)
def test_without_space_for_the_cache_the_weights_are_the_same(world, monkeypatch, caplog):
    first = train(world, "first")
    shutil.rmtree(caches(world)[0])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token_cache, "_write", full)
    assert train(world, "second") == first
    assert "rows are tokenized in memory" in caplog.text
    assert caches(world) == []


def test_a_cache_that_would_take_more_than_half_of_the_free_space_is_not_kept(
    world, monkeypatch, caplog
):
    nothing = shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr(token_cache.shutil, "disk_usage", lambda _: nothing)
    train(world, "first")
    assert "only 100 bytes would stay free" in str([each.__dict__ for each in caplog.records])
    assert caches(world) == []


@pytest.mark.survives("Data", "a damaged cache of tokens", "it is made again; same weights")
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_cache_is_made_again(world, counted, caplog, how):
    first = train(world, "first")
    (cache,) = caches(world)
    damage(how, cache / "input_ids.bin", cache / token_cache.SIDECAR)
    assert train(world, "second") == first
    assert "damaged token cache is made again" in caplog.text
    assert counted == [240, 240]
    assert train(world, "third") == first
    assert counted == [240, 240]


def test_each_part_of_the_key_names_another_cache(world, tmp_path):
    parent = local_path(world.parent.uri)
    plain = Preprocess.of(world.run_file().recipe)
    other = tmp_path / "tokenizer"
    shutil.copytree(parent, other)
    words = json.loads((other / "tokenizer.json").read_text())
    words["model"]["vocab"]["good"], words["model"]["vocab"]["bad"] = 9, 5
    (other / "tokenizer.json").write_text(json.dumps(words))
    keys = [
        token_cache.Key.of("sha256:1/train", plain, parent),
        token_cache.Key.of("sha256:2/train", plain, parent),
        token_cache.Key.of("sha256:1/holdout", plain, parent),
        token_cache.Key.of("sha256:1/train", plain.model_copy(update={"text": "b"}), parent),
        token_cache.Key.of("sha256:1/train", plain.model_copy(update={"max_length": 9}), parent),
        token_cache.Key.of("sha256:1/train", plain, other),
    ]
    assert len({key.folder for key in keys}) == len(keys)
    assert f"springtide {version('springtide')}" in keys[0].library
    more = plain.model_copy(update={"labels": [*plain.labels, "maybe"]})
    assert token_cache.Key.of("sha256:1/train", more, parent) == keys[0]


def test_tokens_do_not_depend_on_chunks_and_are_those_of_the_tokenizer(world, tmp_path):
    tokenizer = load_tokenizer(local_path(world.parent.uri))
    texts = [" ".join(["good", "shoe", "red"][: 1 + row % 3]) for row in range(50)]
    pairs = [(text, None) for text in texts]
    whole = tokens.tokenize(tokenizer, pairs, 4)
    key = token_cache.Key("sha256:1/train", "", "", "", 4)
    parts = lambda: (pairs[start : start + 7] for start in range(0, 50, 7))  # noqa: E731
    (tmp_path / "scratch").mkdir()
    place = token_cache.Place(tmp_path, tmp_path / "scratch")
    mapped = token_cache.cached(tokenizer, parts, key=key, place=place)
    expected = tokenizer(texts, truncation=True, max_length=4)["input_ids"]
    for made in (whole, mapped):
        assert np.array_equal(made.values["input_ids"], np.concatenate(expected))
        assert np.array_equal(made.lengths, [len(row) for row in expected])
    assert mapped.values["input_ids"].dtype == np.uint16


def test_rows_of_weight_0_are_neither_trained_on_nor_validated(world, recipe_with, freeze_rows):
    rows = toy_rows(40)
    rows["weight"] = [float(number % 5 > 0) for number in range(40)]
    data = freeze_rows(world.home, rows)
    run = recipe_with(world.run_file(earlyStopping={}), None, data)
    with world.home.tmp(run.job, "pod") as tmp:
        parent = local_path(world.parent.uri)
        found = training_rows.load(data[0], data[1], run.recipe, parent=parent, scratch=tmp)
    used = sorted([*found.units.rows, *found.validation])
    assert used == [number for number in range(40) if number % 5]
    entities = [entity for number, entity in enumerate(rows["entity"]) if number % 5]
    held_out = validation_split(entities, 0.1, manifest=data[1])
    assert list(found.validation) == list(np.array(used)[held_out])


def test_the_validation_split_of_a_column_is_the_one_of_its_values():
    names = [f"s{number % 7}" for number in range(50)]
    column = pa.chunked_array([names[:20], names[20:]]).combine_chunks()
    expected = validation_split(names, 0.4, manifest="sha256:1")
    assert np.array_equal(validation_split(column, 0.4, manifest="sha256:1"), expected)
    encoded = pa.array(["unused", *names]).dictionary_encode().slice(1)
    assert np.array_equal(validation_split(encoded, 0.4, manifest="sha256:1"), expected)


@pytest.mark.parametrize("shard", [None, 2_000])
def test_anonymous_memory_hardly_grows_with_the_rows(world, freeze_rows, tmp_path, shard):
    """A process loads the rows twice, first without a cache, and takes steps from them."""
    few = toy_rows(2_000)
    measured = {}
    for times in (4, 80):
        data = freeze_rows(world.home, {name: values * times for name, values in few.items()})
        run = world.run_file(earlyStopping={}).model_dump(mode="json", by_alias=True)
        run["train"]["data"] = {"uri": data[0].as_uri(), "digest": data[1]}
        run["recipe"]["data"]["window"]["rowsPerShard"] = shard
        path = tmp_path / f"{times}.json"
        path.write_text(json.dumps(run))
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, str(ANON), str(path), str(tmp_path)]
        printed = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True).stdout
        measured[times] = [int(line) for line in printed.split()]
    grown = [more - less for less, more in zip(*measured.values(), strict=True)]
    assert max(grown) < BYTES_A_ROW * 76 * 2_000, measured


def test_no_flipped_bit_of_a_sidecar_gives_other_tokens(world, tmp_path):
    tokenizer = load_tokenizer(local_path(world.parent.uri))
    pairs = [("good red shoe", None), ("bad lamp", None)] * 3
    key = token_cache.Key("sha256:1/train", "", "", "", 8)
    (tmp_path / "scratch").mkdir()

    def made() -> tokens.Tokens:
        place = token_cache.Place(tmp_path, tmp_path / "scratch")
        return token_cache.cached(tokenizer, lambda: [pairs], key=key, place=place)

    expected = {name: values.tolist() for name, values in made().values.items()}
    sidecar = tmp_path / key.folder / token_cache.SIDECAR
    content = sidecar.read_bytes()
    for place, bit in ((place, 1 << place % 7) for place in range(len(content))):
        sidecar.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        found = made()
        assert {name: values.tolist() for name, values in found.values.items()} == expected
        assert found.lengths.tolist() == [5, 4] * 3
