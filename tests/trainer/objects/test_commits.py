"""Folders in an object store are committed whole, once, and what killed writers left is deleted."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from springtide_api.contract import CollectInput, RunFile, Unreferenced
from springtide_trainer.artifact import manifest
from springtide_trainer.errors import Refused
from springtide_trainer.objects import folders, store
from springtide_trainer.objects.folders import COMMIT
from springtide_trainer.objects.mirror import Mirror
from springtide_trainer.objects.store import Store
from springtide_trainer.stages.collect import collect
from springtide_trainer.storage import (
    Home,
    check_storage,
    commit_file,
    commit_folder,
    committed_folders,
    file_digest,
    kept_by,
    local_path,
    uri_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.object_store

HOME = "storage/shop/ranker"
STEP = "checkpoints/g1/step-000000010"


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def pod(bucket, tmp_path: Path) -> Iterator[Callable[..., Home]]:
    """Be a pod from now on: `pod("g1-train-1", "uid")` returns its storage."""
    entered = []

    def pod(job: str = "g1-train-1", uid: str = "pod-1", opened=Store) -> Home:
        while entered:
            entered.pop().__exit__(None, None, None)
        disk = tmp_path / f"disk-{job}-{uid}"
        shutil.rmtree(disk, ignore_errors=True)
        mirror = Mirror(
            disk / "copies",
            root=disk / "home",
            home=f"{bucket.uri}/{HOME}",
            writer=f"{job}-{uid}",
            opened=opened,
        )
        entered.append(kept_by(mirror))
        entered[-1].__enter__()
        return Home(disk / "home")

    yield pod
    while entered:
        entered.pop().__exit__(None, None, None)


def folder(path: Path, text: str = "text") -> Path:
    (path / "below").mkdir(parents=True)
    (path / "below" / "file.json").write_text(text)
    (path / "other.json").write_text(text)
    return path


def read(home: Home, name: str = STEP) -> str | None:
    """Return the text of a committed folder, read by this pod; None if there is none."""
    found = local_path(uri_of(home.path / name))
    if not found.exists():
        return None
    texts = {path.read_text() for path in found.rglob("*.json")}
    assert len(list(found.rglob("*.json"))) == 2
    assert len(texts) == 1
    return texts.pop()


def test_the_first_folder_is_kept_and_the_second_commit_returns_false(pod, bucket, tmp_path):
    home = pod(uid="first")
    assert commit_folder(folder(tmp_path / "a", "first"), home.path / STEP)
    second = pod(uid="second")
    assert not commit_folder(folder(tmp_path / "b", "second"), second.path / STEP)
    assert read(second) == "first"
    assert (tmp_path / "b" / "other.json").read_text() == "second"
    assert not [key for key in bucket.keys(HOME) if "second" in key]


@pytest.mark.survives(
    "Data",
    "two pods that commit the same folder of an object store at once",
    "one of them wins whole; there is one manifest",
)
def test_of_writers_at_the_same_moment_one_wins_whole(bucket, tmp_path):
    for number in range(5):
        start, name = threading.Barrier(3), f"reports/job-{number}"

        def write(writer: str, start=start, name=name) -> str | None:
            root = tmp_path / f"{writer}-{name[-1]}"
            mirror = Mirror(root, root=root, home=f"{bucket.uri}/{HOME}", writer=writer)
            made = folder(root / "made", writer)
            start.wait()
            return writer if mirror.commit_folder(made, root / name) else None

        with ThreadPoolExecutor(3) as threads:
            won = [each for each in threads.map(write, "abc") if each]
        assert len(won) == 1
        key = f"{HOME}/{name}"
        assert bucket.keys(key) == [
            f"{key}/{won[0]}/below/file.json",
            f"{key}/{won[0]}/other.json",
            f"{key}/commit.json",
        ]


class Dying(Store):
    """A store whose process is killed before or after the request with a number."""

    number, after, requests = 0, False, 0


def _dying(name: str) -> Callable:
    def call(self, *arguments, **options):
        Dying.requests += 1
        last = Dying.requests == Dying.number
        if last and not Dying.after:
            raise Killed
        try:
            return getattr(Store, name)(self, *arguments, **options)
        finally:
            if last:
                raise Killed

    return call


for _name in ("read", "head", "list", "create", "put", "delete"):
    setattr(Dying, _name, _dying(_name))


@pytest.mark.survives(
    "Data",
    "a pod killed before or after any request to the object store",
    "each folder is complete or does not exist; the next attempt commits it",
)
@pytest.mark.parametrize("after", [False, True])
def test_a_pod_killed_at_any_request_leaves_a_complete_folder_or_none(pod, bucket, tmp_path, after):
    number, killed = 0, True
    while killed:
        number += 1
        Dying.number, Dying.after, Dying.requests = number, after, 0
        home = pod(uid="killed", opened=Dying)
        try:
            commit_folder(folder(tmp_path / f"a{number}", "killed"), home.path / STEP)
            killed = False
        except Killed:
            pass
        home = pod("g1-train-2", "next")
        before = read(home)
        assert before in {None, "killed"}
        mine = commit_folder(folder(tmp_path / f"b{number}", "next"), home.path / STEP)
        assert mine == (before is None)
        home = pod("g1-train-2", "reader")
        assert read(home) == ("next" if mine else "killed")
        home.sweep("g1-train-3")
        left = [key for key in bucket.keys(HOME) if "killed" in key]
        assert bool(left) == (not mine)
        pod().sweep("x-1")
        bucket.store.delete(bucket.keys(""))
    assert number >= 5


def artifact(home: Home, path: Path, text: str = '{"a": 1}') -> str:
    """Commit an artifact; return its digest."""
    path.mkdir()
    (path / "config.json").write_text(text)
    return manifest.commit(path, home).digest


def test_a_damaged_artifact_is_refused_by_readers_and_replaced_by_its_next_writer(
    pod, bucket, tmp_path
):
    digest = artifact(pod(uid="first"), tmp_path / "a")
    key = f"{HOME}/artifacts/{digest.replace(':', '-')}"
    for damage in ("replaced", "deleted", "commit"):
        name = f"{key}/commit.json"
        for part in bucket.keys(key):
            if part.endswith("config.json") and damage != "commit":
                name = part
        if damage == "deleted":
            bucket.store.delete([name])
        else:
            bucket.store.put(name, b'{"a": 2}')
        home = pod(uid=f"reader-{damage}")
        with pytest.raises(Refused) as caught:
            local_path(uri_of(home.artifact(digest)))
        assert caught.value.failure.reason == "DigestMismatch"
        home = pod(uid=f"writer-{damage}")
        if damage == "replaced":  # of the same size: found by those who read it
            bucket.store.delete([name])
        assert artifact(home, tmp_path / damage) == digest
        home = pod(uid=f"later-{damage}")
        manifest.verify(local_path(uri_of(home.artifact(digest))), digest)


def test_an_artifact_of_the_same_content_is_used_again_and_new(pod, bucket, tmp_path):
    digest = artifact(pod(uid="first"), tmp_path / "a")
    before = bucket.keys("")
    home = pod("g2-train-1", "second")
    room = home.path / "artifacts"
    commit = bucket.folder / HOME / "artifacts" / digest.replace(":", "-") / "commit.json"
    old = commit.stat().st_mtime_ns
    assert artifact(home, tmp_path / "b") == digest
    assert bucket.keys("") == before
    assert commit.stat().st_mtime_ns > old
    assert committed_folders(room) == [home.artifact(digest)]
    manifest.verify(home.artifact(digest), digest)


def test_what_the_manifest_has_hashed_is_not_hashed_again_for_its_upload(
    pod, tmp_path, monkeypatch
):
    hashed = []

    def recorded(path: Path) -> str:
        hashed.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(folders, "file_digest", recorded)
    digest = artifact(pod(), tmp_path / "a")
    assert hashed == [manifest.MANIFEST]
    home = pod(uid="reader")
    manifest.verify(local_path(uri_of(home.artifact(digest))), digest)


def collecting(home: Home, *delete: str, **unreferenced) -> RunFile:
    asked = Unreferenced(**unreferenced) if unreferenced else None
    return RunFile.model_construct(
        job="ranker-collect-1", collect=CollectInput(delete=list(delete), unreferenced=asked)
    )


def test_collect_deletes_the_listed_folders_and_those_that_nothing_names(pod, bucket, tmp_path):
    home = pod()
    first, second, third = (
        artifact(home, tmp_path / f"a{number}", f'{{"a": {number}}}') for number in range(3)
    )
    commit_folder(folder(tmp_path / "step"), home.path / STEP)
    now = datetime.now(UTC)
    home = pod("ranker-collect-1", "uid")
    times = {"since": now - timedelta(hours=1), "until": now - timedelta(minutes=30)}
    listed = [uri_of(home.artifact(first)), f"{bucket.uri}/{HOME}/checkpoints/g1"]
    collect(collecting(home, *listed, kept=[second], **times), home)
    assert set(committed_folders(home.path / "artifacts")) == {
        home.artifact(second),
        home.artifact(third),
    }
    assert not bucket.keys(f"{HOME}/checkpoints")
    times["until"] = now + timedelta(minutes=5)
    collect(collecting(home, kept=[second], **times), home)
    assert committed_folders(home.path / "artifacts") == [home.artifact(second)]


@pytest.mark.parametrize(
    "uri",
    [
        "{home}",
        "{home}/artifacts",
        "{home}/results/job.json",
        "{home}x/artifacts/sha256-aa",
        "s3://other/storage/shop/ranker/artifacts/sha256-aa",
        "{home}/artifacts/../results",
    ],
)
def test_collect_deletes_nothing_if_one_uri_is_not_allowed(pod, bucket, tmp_path, uri):
    home = pod()
    digest = artifact(home, tmp_path / "a")
    asked = uri.format(home=f"{bucket.uri}/{HOME}")
    with pytest.raises(Refused) as caught:
        collect(collecting(home, uri_of(home.artifact(digest)), asked), home)
    assert caught.value.failure.reason in {"UnsafePath", "InvalidUri"}
    assert committed_folders(home.path / "artifacts") == [home.artifact(digest)]


def test_weights_that_were_collected_after_they_were_used_again_are_there_with_the_result(
    pod, bucket, tmp_path
):
    """The result of a training is committed last; until then its weights may be collected."""
    home = pod()
    digest = artifact(home, tmp_path / "a")
    bucket.store.delete(bucket.keys(f"{HOME}/artifacts"))
    (tmp_path / "result.json").write_text("{}")
    assert commit_file(tmp_path / "result.json", home.result("g1-train"))
    home = pod(uid="reader")
    manifest.verify(local_path(uri_of(home.artifact(digest))), digest)


class Collected(Store):
    """A store of which a folder is collected while its commit is written once more: before it the
    commit is deleted, and after it the files."""

    done = False

    def put(self, key: str, content: bytes | Path) -> None:
        room, _, name = key.rpartition("/")
        if name != COMMIT or Collected.done:
            super().put(key, content)
            return
        Collected.done = True
        files = [entry.key for entry in self.list(room) if entry.key != key]
        self.delete([key])
        super().put(key, content)
        self.delete(files)


def test_weights_that_are_collected_while_they_are_used_again_are_there_with_the_result(
    pod, bucket, tmp_path
):
    digest = artifact(pod(uid="first"), tmp_path / "a")
    home = pod("g2-train-1", "second", opened=Collected)
    assert artifact(home, tmp_path / "b") == digest
    assert [key.rpartition("/")[2] for key in bucket.keys(f"{HOME}/artifacts")] == [COMMIT]
    (tmp_path / "result.json").write_text("{}")
    assert commit_file(tmp_path / "result.json", home.result("g2-train"))
    home = pod(uid="reader")
    manifest.verify(local_path(uri_of(home.artifact(digest))), digest)


def test_a_storage_is_checked_and_nothing_is_left_of_it(pod, bucket, monkeypatch):
    check_storage(pod())
    assert bucket.keys("") == []
    monkeypatch.setattr(Store, "create", lambda self, key, content: True)
    with pytest.raises(Refused, match="If-None-Match"):
        check_storage(pod())


@pytest.mark.survives(
    "Data",
    "an object store whose listing is late",
    "an older checkpoint is resumed; nothing that was committed is lost",
)
def test_a_late_listing_hides_the_newest_folder_until_later(pod, tmp_path, monkeypatch):
    home = pod()
    older, newer = home.path / STEP, home.path / "checkpoints/g1/step-000000020"
    for number, each in enumerate((older, newer)):
        commit_folder(folder(tmp_path / f"a{number}", str(number)), each)
    listed = Store.list

    def late(self, prefix):
        return (entry for entry in listed(self, prefix) if "20" not in entry.key)

    monkeypatch.setattr(store.Store, "list", late)
    home = pod(uid="next")
    assert committed_folders(home.path / "checkpoints/g1") == [home.path / STEP]
    assert read(home) == "0"
    assert not commit_folder(
        folder(tmp_path / "b", "other"), home.path / newer.relative_to(older.parents[2])
    )
    assert read(home, "checkpoints/g1/step-000000020") == "1"
