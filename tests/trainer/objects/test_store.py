"""What a bucket promises, and what a user reads when the store fails."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest
from local_cluster.object_store import ACCESS, SECRET
from trainer.objects.proxy import Proxy

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Refused
from springtide_trainer.objects import folders, store
from springtide_trainer.objects.store import Changed, Store, place_of

pytestmark = pytest.mark.object_store


@pytest.fixture
def proxy(bucket, object_store, monkeypatch):
    """A proxy before the server, which the environment names."""
    made = Proxy(object_store.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
    yield made
    made.close()


def test_of_two_writers_of_an_object_the_first_wins(bucket):
    assert bucket.store.create("result.json", b"first")
    assert not bucket.store.create("result.json", b"second")
    assert bucket.store.create("result.json", b"first")
    assert bucket.store.read("result.json") == b"first"


def test_a_creation_whose_answer_is_lost_is_known_as_ones_own(bucket, proxy):
    proxy.fault = lambda method, path, number: "lost" if number == 1 else "pass"
    assert bucket.store.create("result.json", b"mine")
    assert bucket.store.read("result.json") == b"mine"


def test_an_object_that_is_replaced_while_it_is_read_is_noticed(bucket):
    bucket.store.put("rows.csv", b"before")
    entry = bucket.store.head("rows.csv")
    assert bucket.store.read_range("rows.csv", 1, 3, entry.etag) == b"ef"
    bucket.store.put("rows.csv", b"behind")
    with pytest.raises(Changed):
        bucket.store.read_range("rows.csv", 1, 3, entry.etag)


def test_a_file_larger_than_a_chunk_goes_up_in_parts_and_comes_back(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "CHUNK", 5 << 20)
    monkeypatch.setattr(folders, "CHUNK", 2 << 20)
    (tmp_path / "big").write_bytes(os.urandom(11 << 20))
    bucket.store.put("big", tmp_path / "big")
    entry = bucket.store.head("big")
    assert entry.etag.endswith('-3"')
    monkeypatch.setattr(store, "MAX_PARTS", 2)
    bucket.store.put("big", tmp_path / "big")
    entry = bucket.store.head("big")
    assert entry.etag.endswith('-2"')
    digest = folders.save(bucket.store, entry, tmp_path / "copy")
    assert digest == folders.file_digest(tmp_path / "big")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "big").read_bytes()


def test_empty_objects_that_mark_folders_are_not_files_of_a_model(bucket, tmp_path):
    for key in ("models/tiny", "models/tiny/onnx", "models/tiny/empty"):
        bucket.mark_folder(key)
    bucket.store.put("models/tiny/config.json", b"{}")
    bucket.store.put("models/tiny/merges.txt", b"")
    bucket.store.put("models/tiny/onnx/model.onnx", b"graph")
    place = place_of(f"{bucket.uri}/models/tiny")
    folders.download_plain(bucket.store, place, tmp_path / "copy", "spec.model.initial.uri")
    found = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    names = {path.relative_to(tmp_path / "copy").as_posix() for path in found}
    assert names == {"config.json", "merges.txt", "onnx/model.onnx"}
    place = place_of(f"{bucket.uri}/models/tiny/empty")
    with pytest.raises(Refused, match="MissingModel"):
        folders.download_plain(bucket.store, place, tmp_path / "none", "spec.model.initial.uri")


@pytest.mark.parametrize("fault", ["503", "cut", "lost", "slow"])
def test_requests_that_fail_for_a_while_are_repeated(bucket, proxy, tmp_path, fault):
    bucket.store.put("rows", b"x" * 100_000)
    count = proxy.requests
    proxy.fault = lambda method, path, number: fault if number <= count + 2 else "pass"
    assert folders.save(bucket.store, bucket.store.head("rows"), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"x" * 100_000
    count = proxy.requests
    bucket.store.put("again", b"y" * 1000)
    assert bucket.store.read("again") == b"y" * 1000
    assert proxy.requests > count


@pytest.mark.survives(
    "Data",
    "an object store that ignores If-None-Match",
    "refused at import, with the reason; nothing is stored",
)
def test_a_store_that_ignores_conditions_is_refused(bucket, proxy):
    folders.check_create_once(bucket.store, "home")
    server = bucket.folder.parent

    def ignorant(method: str, path: str, number: int) -> str:
        """Let the server see no object that is there already."""
        if method == "PUT":
            server.joinpath(path.lstrip("/")).unlink(missing_ok=True)
        return "pass"

    proxy.fault = ignorant
    with pytest.raises(Refused, match="If-None-Match") as caught:
        folders.check_create_once(bucket.store, "home")
    assert caught.value.failure.reason == "UnsafeStorage"
    assert caught.value.failure.field == "spec.storage.uri"
    assert caught.value.code == ExitCode.INVALID_INPUT
    proxy.fault = lambda method, path, number: "501" if method == "PUT" else "pass"
    with pytest.raises(Refused, match="conditional writes") as caught:
        folders.check_create_once(Store(bucket.uri, timedelta(seconds=1)), "home")
    assert caught.value.failure.reason == "UnsafeStorage"
    assert bucket.keys("") == []


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        ("403", "NoAccess", "access denied; check the credentials of the pods"),
        ("400 ExpiredToken", "NoAccess", "check the credentials of the pods"),
        ("400 MalformedXML", "StorageUnavailable", "MalformedXML: over"),
        ("507", "StorageUnavailable", "507"),
        ("503", "StorageUnavailable", "503"),
    ],
)
def test_a_store_that_keeps_failing_is_named_with_its_answer(
    bucket, proxy, monkeypatch, tmp_path, status, reason, words
):
    monkeypatch.setattr(store, "PATIENCE", timedelta(seconds=1))
    proxy.fault = lambda method, path, number: status
    (tmp_path / "file").write_bytes(b"x")
    opened = bucket.store
    for work in (
        lambda: opened.put("a", tmp_path / "file"),
        lambda: opened.create("a", b"x"),
        lambda: opened.read("a"),
        lambda: list(opened.list("")),
    ):
        with pytest.raises(Refused) as caught:
            work()
        assert caught.value.failure.reason == reason
        assert words in caught.value.failure.message
        assert caught.value.code == ExitCode.ENVIRONMENT


@pytest.mark.survives(
    "Data",
    "an object whose name has an empty part, such as clicks//a.csv, in the source's bucket",
    "refused with its name; not waited for, as a store that fails is",
)
def test_an_object_whose_name_is_no_path_is_named(bucket, proxy):
    proxy.fault = lambda method, path, number: "list clicks//a.csv"
    with pytest.raises(Refused, match=r"clicks has an object .*clicks//a\.csv.*; rename") as caught:
        list(bucket.store.list("clicks"))
    assert caught.value.failure.reason == "UnsafePath"
    assert caught.value.code == ExitCode.INVALID_INPUT


def test_credentials_that_may_only_read_are_named_at_the_first_creation(bucket, proxy):
    proxy.fault = lambda method, path, number: "403" if method == "PUT" else "pass"
    with pytest.raises(Refused, match="access denied"):
        bucket.store.create("result.json", b"x")
    assert proxy.requests == 1


def test_a_missing_bucket_and_wrong_credentials_are_named_without_them(bucket, monkeypatch):
    with pytest.raises(Refused, match="the bucket does not exist"):
        list(Store("s3://no-such-bucket").list(""))
    with pytest.raises(Refused, match="the bucket does not exist"):
        Store("s3://no-such-bucket").create("a", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET}-old")
    with pytest.raises(Refused, match="access denied") as caught:
        bucket.store.read("a")
    assert SECRET not in str(caught.value)
    assert ACCESS not in str(caught.value)


def test_values_of_credentials_and_queries_are_cut_out_of_messages(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", "very-secret-value")
    text = store._plain(
        ValueError("GET https://x.net/c/k?sv=1&sig=abc%3D failed: very-secret-value")
    )
    assert text == "GET https://x.net/c/k failed: ***"


@pytest.mark.parametrize(
    "uri",
    [
        "s3:///key",
        "s3://bucket/../x",
        "s3://bucket/a//b",
        "s3://bucket/a?b",
        "ftp://x/y",
        "s3://u:p@b/x",
    ],
)
def test_other_uris_are_refused(uri):
    with pytest.raises(Refused) as caught:
        place_of(uri, "spec.storage.uri")
    assert caught.value.failure.reason == "InvalidUri"


def test_transfers_hold_some_chunks_in_memory_and_never_a_file(bucket, tmp_path):
    """256 MB go up and down again in a process that may have 200 MB more than it begins with."""
    with (tmp_path / "big").open("wb") as file:
        for _ in range(256):
            file.write(os.urandom(1 << 20))
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from springtide_trainer.objects.folders import save
        from springtide_trainer.objects.store import Store

        def anonymous():
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

        bucket, path = sys.argv[1], Path(sys.argv[2])
        store = Store(bucket)
        store.put("warm", b"up")
        before, most = anonymous(), 0
        import threading, time
        done = False
        def watch():
            global most
            while not done:
                most = max(most, anonymous())
                time.sleep(0.01)
        thread = threading.Thread(target=watch)
        thread.start()
        store.put("big", path)
        save(store, store.head("big"), path.with_name("copy"))
        done = True
        thread.join()
        print(most - before)
        """
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, bucket.uri, str(tmp_path / "big")],
        stdout=subprocess.PIPE,
        check=True,
    )
    assert 0 < int(ran.stdout) < 200_000
