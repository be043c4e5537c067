"""Models are loaded through the cache; whatever is wrong with it, what was judged is served."""

from __future__ import annotations

import logging
import os
import resource
import shutil
from collections import namedtuple
from contextlib import contextmanager
from dataclasses import replace

import pytest
from server.conftest import optimized

from springtide_server.loading import locks, node_cache
from springtide_server.model import Row, load
from springtide_trainer.artifact import manifest, models
from springtide_trainer.errors import Refused
from springtide_trainer.storage import folder_name, local_path, uri_of


@pytest.fixture
def settings(texts, cache, tmp_path):
    """Settings that serve a copy of an artifact through a cache."""
    claim = tmp_path / "model"
    shutil.copytree(local_path(texts.artifact.uri), claim)
    return replace(texts.settings, model_uri=uri_of(claim), model_cache=str(cache))


@pytest.fixture
def claim(settings):
    return local_path(settings.model_uri)


@pytest.fixture
def entry(settings, cache):
    """Where the artifact is in the cache."""
    return cache / folder_name(settings.model_digest)


def damage(folder):
    """Flip one bit of the weights."""
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)


def test_without_a_cache_the_model_is_loaded_from_the_storage(texts):
    assert load(texts.settings).source == "storage"


@pytest.mark.parametrize("form", ["weights", "quantized"])
def test_the_first_load_copies_and_the_next_one_needs_no_storage(texts, cache, tmp_path, form):
    made = texts if form == "weights" else optimized(tmp_path / "form", texts)
    claim = tmp_path / "claim"
    shutil.copytree(local_path(made.artifact.uri), claim)
    settings = replace(made.settings, model_uri=uri_of(claim), model_cache=str(cache))

    first = load(settings)
    shutil.rmtree(claim)
    second = load(settings)

    assert (first.source, second.source) == ("copied", "cache")
    rows = [Row(pair) for pair in first.scorer.preprocess.render({"text": ["red shoe"]})]
    assert (second.score(rows) == load(made.settings).score(rows)).all()


@pytest.mark.survives(
    "Model",
    "one flipped bit in an artifact of the node's cache",
    "it is removed and copied again before anything of it is loaded",
)
def test_a_corrupt_entry_is_copied_again(settings, entry, caplog):
    load(settings)
    damage(entry)

    model = load(settings)

    assert model.source == "copied"
    assert "a cached artifact is removed: DigestMismatch: model.safetensors in" in caplog.text
    manifest.verify(entry, settings.model_digest)


def test_an_entry_that_is_written_to_while_it_is_loaded_is_copied_again(
    settings, entry, monkeypatch, caplog
):
    load(settings)
    verified, written = models.verify, []

    def verify_then_write(folder, digest):
        verified(folder, digest)
        if folder == entry and not written:
            written.append(folder)
            damage(folder)

    monkeypatch.setattr(models, "verify", verify_then_write)

    assert load(settings).source == "copied"
    assert written == [entry]
    assert f"{entry} was changed while it was loaded" in caplog.text


def test_an_artifact_that_is_damaged_in_the_storage_is_refused_as_without_a_cache(
    settings, claim, cache
):
    damage(claim)

    with pytest.raises(Refused, match=f"model.safetensors in {claim} does not match its manifest"):
        load(settings)
    assert list(cache.iterdir()) == []


def test_a_good_copy_is_served_although_the_storage_was_damaged_later(settings, claim):
    load(settings)
    damage(claim)

    assert load(settings).source == "cache"


def absent(settings, cache, entry):
    cache.rmdir()
    return "FileNotFoundError: [Errno 2] No such file or directory"


def a_file(settings, cache, entry):
    cache.rmdir()
    cache.touch()
    return "NotADirectoryError"


def a_file_in_place_of_the_entry(settings, cache, entry):
    entry.touch()
    return "NotADirectoryError"


def a_link_in_place_of_the_entry(settings, cache, entry):
    entry.symlink_to(local_path(settings.model_uri))
    return "NotADirectoryError"


@pytest.mark.survives(
    "Model",
    "the folder of the node's cache is missing, or foreign files have its names",
    "the model is loaded from the storage; log and `springtide_server_loaded_from` say so",
)
@pytest.mark.parametrize(
    "arrange", [absent, a_file, a_file_in_place_of_the_entry, a_link_in_place_of_the_entry]
)
def test_a_cache_that_cannot_be_used_is_reported_and_not_used(
    settings, cache, entry, caplog, arrange
):
    reason = arrange(settings, cache, entry)

    assert load(settings).source == "fallback"
    warning = f"the cache {cache} is not used, the model is loaded from MODEL_URI: {reason}"
    assert warning in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@contextmanager
def files_of_at_most(size):
    """Let each write beyond this size of a file fail, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.survives(
    "Model",
    "the disk of the node's cache is full, or becomes full while an artifact is copied there",
    "the model is loaded from the storage, log and metric say so, and no part of it stays",
)
def test_a_disk_that_becomes_full_while_copying_is_not_used(settings, cache, caplog):
    with files_of_at_most(20_000):
        assert load(settings).source == "fallback"

    assert "OSError: [Errno 27] File too large" in caplog.text
    assert list(cache.iterdir()) == []


def test_a_disk_without_room_is_not_written_to(settings, cache, entry, caplog, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(node_cache.shutil, "disk_usage", lambda folder: usage(1000))

    assert load(settings).source == "fallback"

    assert "bytes are needed, and there is room for 1,000" in caplog.text
    assert list(cache.iterdir()) == []


def test_a_model_above_the_limit_is_not_cached_and_evicts_nothing(
    settings, texts, cache, tmp_path, caplog
):
    load(settings)
    (other,) = cache.iterdir()
    larger = optimized(tmp_path / "form", texts)
    size = sum(f.stat().st_size for f in local_path(larger.artifact.uri).rglob("*") if f.is_file())
    settings = replace(larger.settings, model_cache=str(cache), model_cache_bytes=size - 1)

    assert load(settings).source == "fallback"

    assert f"{size:,} bytes are more than MODEL_CACHE_BYTES, {size - 1:,}" in caplog.text
    assert list(cache.iterdir()) == [other]


@pytest.mark.survives(
    "Model",
    "a server that copies an artifact to the node's cache is stopped, or its storage is silent",
    "after 30 s without a byte the other servers load from the storage, and say so",
)
def test_a_stopped_holder_is_not_waited_for_for_ever(
    settings, cache, artifact, using, caplog, monkeypatch
):
    monkeypatch.setattr(locks, "STALLED_SECONDS", 0.5)
    stopped = using(artifact("g1"), stop="1:19:.partial/weights.json")
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)

    assert load(settings).source == "fallback"

    assert f"{cache} is locked by another process, which wrote nothing for 0.5 s" in caplog.text
