"""The server loads a generation from an object store."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
from local_cluster.object_store import SECRET
from trainer.training.conftest import imported, publish

from springtide_server.model import load
from springtide_server.settings import Settings
from springtide_trainer.artifact import models
from springtide_trainer.errors import Refused
from springtide_trainer.objects.mirror import Mirror
from springtide_trainer.objects.store import Store
from springtide_trainer.storage import Home, kept_by

pytestmark = pytest.mark.object_store


@pytest.fixture
def artifact(object_store, monkeypatch, tmp_path):
    """An imported model in a bucket, and its copy on this disk."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    object_store.bucket("served")
    home = Home(tmp_path / "home")
    mirror = Mirror(tmp_path / "copies", root=home.path, home="s3://served/shop", writer="test")
    with kept_by(mirror):
        made = imported(publish(tmp_path / "published", ["no", "yes"]), home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    yield made, home.artifact(made.digest)
    Store("s3://served").delete([entry.key for entry in Store("s3://served").list("")])


def test_it_scores_as_the_artifact_on_a_claim_and_leaves_no_copy(artifact, tmp_path):
    made, folder = artifact
    assert made.uri.startswith("s3://served/shop/artifacts/sha256-")
    model = load(Settings(model_uri=made.uri, model_digest=made.digest, max_batch=2))
    pairs = [("red shoe", None), ("a very good lamp", None)]
    expected = models.load(folder, made.digest).predict(pairs, batch_size=8)
    assert np.array_equal(model.score(pairs), expected)
    assert list((tmp_path / "tmp").iterdir()) == []
    (tmp_path / "cache").mkdir()
    for source in ("copied", "cache"):
        settings = Settings(
            model_uri=made.uri,
            model_digest=made.digest,
            model_cache=str(tmp_path / "cache"),
            max_batch=2,
        )
        cached = load(settings)
        assert cached.source == source
        assert np.array_equal(cached.score(pairs), expected)


def test_a_damaged_or_missing_artifact_is_refused_without_credentials(artifact):
    made, _ = artifact
    key = made.uri.removeprefix("s3://served/")
    (config,) = (
        entry.key for entry in Store("s3://served").list(key) if entry.key.endswith("/config.json")
    )
    Store("s3://served").put(config, b"{}")
    with pytest.raises(Refused) as caught:
        load(Settings(model_uri=made.uri, model_digest=made.digest))
    assert caught.value.failure.reason == "DigestMismatch"
    with pytest.raises(Refused) as caught:
        load(Settings(model_uri=f"{made.uri}x", model_digest=made.digest))
    assert f"{made.uri}x does not exist" in str(caught.value)
    assert SECRET not in str(caught.value)
