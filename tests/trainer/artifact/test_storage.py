"""Everything at a final path is complete; the first writer wins."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

import pytest

from springtide_trainer.errors import Refused
from springtide_trainer.storage import (
    Home,
    check_storage,
    commit_file,
    commit_folder,
    local_path,
    uri_of,
)

if TYPE_CHECKING:
    from pathlib import Path


def some_folder(at: Path, text: str) -> Path:
    (at / "below").mkdir(parents=True)
    (at / "below" / "file").write_text(text)
    (at / "other").write_text(text)
    return at


def test_the_first_folder_is_kept_and_the_second_commit_returns_false(tmp_path):
    assert commit_folder(some_folder(tmp_path / "a", "first"), tmp_path / "deep" / "final")
    assert not commit_folder(some_folder(tmp_path / "b", "second"), tmp_path / "deep" / "final")
    assert (tmp_path / "deep" / "final" / "other").read_text() == "first"
    assert (tmp_path / "b" / "other").read_text() == "second"


def test_the_first_file_is_kept_and_the_second_commit_returns_false(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
    assert commit_file(tmp_path / "first", tmp_path / "deep" / "final")
    assert not commit_file(tmp_path / "second", tmp_path / "deep" / "final")
    assert (tmp_path / "deep" / "final").read_text() == "first"
    assert not (tmp_path / "first").exists()


@pytest.mark.survives(
    "Data",
    "a crash at any moment of committing a folder",
    "the folder is complete or does not exist",
)
@pytest.mark.parametrize("number", range(1, 40))
def test_a_crash_at_any_call_leaves_a_complete_folder_or_none(tmp_path, monkeypatch, number):
    made = some_folder(tmp_path / "a", "text")
    calls = 0

    def failing(function):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == number:
                raise OSError(errno.EIO, "Input/output error")
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        for name in ("open", "fsync", "close", "rename", "mkdir", "scandir"):
            patched.setattr(os, name, failing(getattr(os, name)))
        with contextlib.suppress(OSError):
            commit_folder(made, tmp_path / "deep" / "final")
    final = tmp_path / "deep" / "final"
    assert not final.exists() or (final / "below" / "file").read_text() == "text"
    assert not final.exists() or (final / "other").read_text() == "text"


def test_the_scratch_folder_is_empty_at_the_start_and_removed_at_the_end(tmp_path):
    home = Home(tmp_path)
    (tmp_path / "tmp" / "job-pod" / "left").mkdir(parents=True)
    with home.tmp("job", "pod") as tmp:
        assert not list(tmp.iterdir())
        (tmp / "more").mkdir()
    assert not tmp.exists()


@pytest.mark.survives(
    "Model", "../ in a URI, plain or encoded", "refused with the URI and its field"
)
@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/x", "file://host/x", "file:x", "/x", "file:///x/../y", "file:///x/%2e%2e/y", ""],
)
def test_only_file_uris_without_host_and_dots_are_accepted(uri):
    with pytest.raises(Refused) as refused:
        local_path(uri, "spec.model.initial.uri")
    assert refused.value.failure.message == f"{uri!r} must be a file:/// URI without '..'"
    assert refused.value.failure.field == "spec.model.initial.uri"


def test_a_claim_without_hard_links_is_refused_before_its_first_result(tmp_path, monkeypatch):
    check_storage(Home(tmp_path))

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(Refused) as refused:
        check_storage(Home(tmp_path))
    failure = refused.value.failure
    assert (failure.reason, failure.field) == ("UnsafeStorage", "spec.storage.volume.claimName")
    assert failure.message.startswith(f"the file system of {tmp_path} has no hard links (Operation")
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("uri", ["file:///data/clicks#2", "file:///data/a?b", "file:///data/a?"])
def test_a_file_uri_that_would_end_at_a_special_character_is_refused(uri):
    with pytest.raises(Refused) as refused:
        local_path(uri, "data.source.uri")
    assert refused.value.failure.reason == "InvalidUri"
    assert refused.value.failure.message == (
        f"{uri!r} has a '?' or '#'; write %3F or %23 for it, or rename the file or folder"
    )


def test_a_path_converted_to_a_uri_and_back_is_unchanged(tmp_path):
    path = tmp_path / "with space%20and#sign"
    assert local_path(uri_of(path)) == path
