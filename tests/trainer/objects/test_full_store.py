"""An S3 server whose disk is full refuses what it cannot keep; nothing is half committed."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from local_cluster import object_store as s3
from local_cluster.ports import free_port
from local_cluster.prometheus import WITH_ITS_PARENT

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Refused
from springtide_trainer.objects import store
from springtide_trainer.objects.mirror import Mirror
from springtide_trainer.objects.store import Store

pytestmark = pytest.mark.object_store

SIZE = 4 << 20
MOUNT = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && mkdir "$2/models" && shift 2 && exec "$@"'


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> str:
    """A bucket of a server whose disk has 4 MiB."""
    home = tmp_path / "s3"
    files = home / "objects"
    files.mkdir(parents=True)
    enter = (*WITH_ITS_PARENT, "unshare", "--mount", "sh", "-c", MOUNT, "sh", str(SIZE), str(files))
    server = s3.ObjectStore(home, free_port(), enter=enter)
    server.start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield "s3://models"
    server.stop()


@pytest.mark.survives(
    "Data",
    "the disk of the object store is full",
    "StorageUnavailable with its answer, exit code 75; nothing is half committed; the next "
    "attempt succeeds when there is space",
)
def test_a_folder_that_does_not_fit_is_not_committed(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", timedelta(seconds=2))
    other = Store(bucket)
    other.put("ballast", os.urandom(2 << 20))
    made = tmp_path / "made"
    made.mkdir()
    (made / "small.json").write_text("{}")
    (made / "weights.safetensors").write_bytes(os.urandom(3 << 20))

    def commit(uid: str) -> bool:
        root = tmp_path / uid
        mirror = Mirror(root, root=root, home=f"{bucket}/shop", writer=f"g1-train-1-{uid}")
        committed = mirror.commit_folder(made, root / "reports/g1")
        assert mirror.fetch(f"{bucket}/shop/reports/g1").is_dir()
        return committed

    with pytest.raises(Refused) as caught:
        commit("full")
    assert caught.value.failure.reason == "StorageUnavailable"
    assert caught.value.code == ExitCode.ENVIRONMENT
    reader = Mirror(tmp_path / "r", root=tmp_path / "r", home=f"{bucket}/shop", writer="reader")
    assert reader.committed(tmp_path / "r/reports") == []
    other.delete(["ballast"])
    assert commit("again")
