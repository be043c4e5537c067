"""An artifact has exactly the files of its manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from springtide_trainer.artifact import manifest
from springtide_trainer.errors import Refused
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from pathlib import Path


def folder(at: Path) -> Path:
    at.mkdir(parents=True)
    (at / "model.safetensors").write_bytes(bytes(range(256)))
    (at / "config.json").write_text("{}")
    return at


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_equal_content_has_the_same_digest_and_is_stored_once(home, tmp_path):
    first = manifest.commit(folder(tmp_path / "a"), home)
    second = manifest.commit(folder(tmp_path / "b"), home)
    assert first == second
    assert [path.name for path in (home.path / "artifacts").iterdir()] == [
        first.digest.replace(":", "-")
    ]
    manifest.verify(local_path(first.uri), first.digest)


def flip(path: Path) -> None:
    content = bytearray((path / "model.safetensors").read_bytes())
    content[100] ^= 4
    (path / "model.safetensors").write_bytes(content)


def cut(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"")


def take(path: Path) -> None:
    (path / "config.json").unlink()


def add(path: Path) -> None:
    (path / "more.json").write_text("{}")


def change_the_manifest(path: Path) -> None:
    (path / manifest.MANIFEST).write_text('{"files":[]}')


def remove_the_manifest(path: Path) -> None:
    (path / manifest.MANIFEST).unlink()


DAMAGES = [flip, cut, take, add, change_the_manifest, remove_the_manifest]


@pytest.mark.survives(
    "Model",
    "an artifact that was replaced or truncated, or that lacks or has an additional file",
    "refused by trainer, evaluator and server, with its folder, the digest and what to do",
)
@pytest.mark.parametrize("damage", DAMAGES)
def test_an_artifact_that_differs_from_its_manifest_is_refused(home, tmp_path, damage):
    made = manifest.commit(folder(tmp_path / "a"), home)
    damage(home.artifact(made.digest))
    with pytest.raises(Refused) as refused:
        manifest.verify(home.artifact(made.digest), made.digest)
    assert refused.value.failure.reason == "DigestMismatch"
    assert str(home.artifact(made.digest)) in refused.value.failure.message
    assert refused.value.failure.message.endswith("; restore the folder from a copy")


@pytest.mark.survives(
    "Model", "one flipped bit in an artifact", "refused with the file and both its hashes"
)
def test_a_flipped_bit_is_refused_with_the_file_and_both_hashes(home, tmp_path):
    made = manifest.commit(folder(tmp_path / "a"), home)
    right = manifest.file_digest(home.artifact(made.digest) / "model.safetensors")
    flip(home.artifact(made.digest))
    wrong = manifest.file_digest(home.artifact(made.digest) / "model.safetensors")
    with pytest.raises(Refused) as refused:
        manifest.verify(home.artifact(made.digest), made.digest)
    assert refused.value.failure.message == (
        f"model.safetensors in {home.artifact(made.digest)} does not match its manifest "
        f"(256 bytes, sha256 {wrong[:12]}, not 256 bytes, {right[:12]}); "
        "restore the folder from a copy"
    )


@pytest.mark.parametrize("damage", DAMAGES)
def test_committing_the_same_content_replaces_a_damaged_artifact(home, tmp_path, damage):
    made = manifest.commit(folder(tmp_path / "a"), home)
    damage(home.artifact(made.digest))
    assert manifest.commit(folder(tmp_path / "b"), home) == made
    manifest.verify(home.artifact(made.digest), made.digest)


@pytest.mark.survives("Model", "a symlink inside an artifact", "refused, whatever its target")
def test_a_link_is_refused_even_if_its_content_is_right(home, tmp_path):
    made = manifest.commit(folder(tmp_path / "a"), home)
    path = home.artifact(made.digest) / "config.json"
    path.rename(tmp_path / "config.json")
    path.symlink_to(tmp_path / "config.json")
    with pytest.raises(Refused) as refused:
        manifest.verify(home.artifact(made.digest), made.digest)
    assert refused.value.failure.reason == "UnsafeArtifact"
    assert f"{path} is a link or a special file" in refused.value.failure.message


@pytest.mark.survives(
    "Model",
    "a candidate with a pickle, a script or a library among its files",
    "refused before anything is loaded, with the file and the kinds that are allowed",
)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling.py", "weights.pkl", "library.so"])
def test_a_file_that_could_run_code_is_refused_even_if_the_manifest_lists_it(home, tmp_path, name):
    made = folder(tmp_path / "a")
    (made / name).write_bytes(b"code")
    committed = manifest.commit(made, home)
    with pytest.raises(Refused, match="could run code") as refused:
        manifest.verify(local_path(committed.uri), committed.digest)
    assert refused.value.failure.reason == "UnsafeArtifact"


@pytest.mark.survives(
    "Model", "a manifest that names files by ../", "refused before a file is opened"
)
def test_a_manifest_with_paths_outside_the_folder_is_refused(tmp_path):
    made = folder(tmp_path / "a")
    files = [{"path": "../b/config.json", "sha256": "0" * 64, "size": 2}]
    (made / manifest.MANIFEST).write_text(json.dumps({"files": files}))
    digest = f"sha256:{manifest.file_digest(made / manifest.MANIFEST)}"
    with pytest.raises(Refused) as refused:
        manifest.verify(made, digest)
    assert refused.value.failure.reason == "UnsafeArtifact"


def test_a_folder_that_does_not_exist_is_refused(home):
    with pytest.raises(Refused, match="is not a folder"):
        manifest.verify(home.artifact("sha256:" + "0" * 64), "sha256:" + "0" * 64)


def test_files_that_are_not_read_may_be_missing_or_damaged(home, tmp_path):
    made = manifest.commit(folder(tmp_path / "a"), home)
    final, unread = home.artifact(made.digest), frozenset({".safetensors"})
    flip(final)
    manifest.verify(final, made.digest, unread=unread)
    (final / "model.safetensors").unlink()
    manifest.verify(final, made.digest, unread=unread)
    take(final)
    with pytest.raises(Refused, match=r"'config\.json'"):
        manifest.verify(final, made.digest, unread=unread)
