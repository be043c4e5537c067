"""The server loads a generation from an object store."""

from __future__ import annotations

import tempfile
from datetime import timedelta

import numpy as np
import pytest
from local_cluster.object_store import SECRET
from trainer.training.conftest import imported, publish

from springtide_api.warm_up import MAX_BYTES
from springtide_server.loading.fetch import place
from springtide_server.model import Row, load
from springtide_server.settings import Settings
from springtide_server.warm_up import queries
from springtide_server.warm_up.command import _parser
from springtide_server.warm_up.queries import Unusable, beside, read
from springtide_trainer.artifact import models
from springtide_trainer.errors import Refused
from springtide_trainer.evaluation.warm_up import content
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
    rows = [Row(pair) for pair in pairs]
    expected = models.load(folder, made.digest).predict(pairs, batch_size=8)
    assert np.array_equal(model.score(rows), expected)
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
        assert np.array_equal(cached.score(rows), expected)


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


def test_warm_up_queries_are_read_from_beside_the_model(artifact):
    made, _ = artifact
    store, file = Store("s3://served"), beside(place(made.uri))
    assert read(file, made.digest) == []
    asked = [{"inputs": []}]
    store.put(file.key, content(made.digest, asked))
    assert read(file, made.digest) == asked
    name = made.digest.replace(":", "-")
    given = _parser().parse_args(["warm-up", "--artifacts=s3://served/shop/artifacts/"])
    assert beside(given.artifacts / name) == file

    store.put(file.key, b"x" * (MAX_BYTES + 2))
    with pytest.raises(Unusable, match=f"^{file.uri} is larger than {MAX_BYTES} bytes"):
        read(file, made.digest)


@pytest.mark.survives(
    "Model",
    "an object store that does not answer when the warm-up queries are read",
    "the server is ready without them; log and metric say why, without credentials",
)
def test_queries_of_a_store_that_is_away_are_given_up(artifact, monkeypatch):
    made, _ = artifact
    words = r"cannot be read: .* the object store does not work"
    with monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        patched.setattr(queries, "CHECKING", timedelta(seconds=0.5))
        with pytest.raises(Unusable, match=words) as away:
            read(beside(place(made.uri)), made.digest)
    assert SECRET not in str(away.value)
