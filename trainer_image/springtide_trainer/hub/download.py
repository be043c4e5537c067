"""Downloads the model `hf://organization/name@revision` from a hub.

The revision is resolved to a commit once; every file is of that commit and is compared with the
digest that the hub has for it. Only safetensors, settings and vocabularies are downloaded.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from springtide_api.contract import ExitCode
from springtide_api.schema import hub_repository
from springtide_trainer.errors import Refused
from springtide_trainer.hub import refusals
from springtide_trainer.hub.client import Hub, online
from springtide_trainer.storage import file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

T = TypeVar("T")

log = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
SHARD = re.compile(r"model(\.safetensors)?-\d+-of-\d+\.safetensors")
SETTINGS = frozenset(
    {
        *("config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
        *("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model"),
        *("spiece.model", "sentencepiece.bpe.model"),
        "1_Pooling/config.json",  # with it task Embedding checks model.embedding.vectors.pooling
    }
)
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
WAITS = (1, 2, 4, 8, 15, 30)
"""Seconds until a failed request is repeated, one after the other."""
TIMEOUT = 30.0
"""Seconds until a hub must have answered."""
RECEIVED_AT_MOST = 3
"""How often a file may be received until it is complete."""
LOGGED = 15.0
"""Seconds between two lines of the log about one file."""
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    Attributes:
        name: Its path.
        size: In bytes.
        etag: SHA-256 of a file in large file storage; of another one the name of its Git blob.
    """

    name: str
    size: int
    etag: str


@dataclass(frozen=True)
class Repository:
    """A repository of a hub at a revision.

    Attributes:
        hub: The hub.
        uri: `hf://organization/name@revision`, for messages.
        field: Field of the spec that has it, for messages.
    """

    hub: Hub
    uri: str
    field: str

    @property
    def name(self) -> str:
        """Organization and name."""
        return self._parts[0]

    @property
    def revision(self) -> str:
        """Branch, tag or commit."""
        return self._parts[1]

    @property
    def _parts(self) -> tuple[str, str]:
        parts = hub_repository(self.uri)
        if parts is None:
            what = f"{self.uri!r} must be hf://organization/name@revision"
            raise Refused("InvalidUri", what, self.field)
        return parts

    def repeated(self, work: Callable[[], T]) -> T:
        """Do something, again and again while the hub is unavailable.

        Raises:
            Refused: it is unavailable for longer, or refuses.
        """
        for wait in (*WAITS, None):
            try:
                with refusals.explained(self.hub, self.uri, self.field):
                    return work()
            except Refused as refused:
                if refused.failure.reason != refusals.UNAVAILABLE or wait is None:
                    raise
                again = {"cause": refused.failure.message, "seconds": wait}
                log.warning("request to the hub is repeated", extra=again)
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")


def download(uri: str, folder: Path, field: str) -> str:
    """Write the files of a model to a new folder, and verify them.

    Args:
        uri: `hf://organization/name@revision`.
        folder: The folder.
        field: Field of the spec that has the URI, for messages.

    Returns:
        The commit of the revision.

    Raises:
        Refused: there is no such model, no access to it, or only weights that can run code; or the
            hub is unavailable, or sends something else.
        OSError: the disk is full, or has less space than the model takes.
    """
    repository = Repository(Hub.of(os.environ, field), uri, field)
    folder.mkdir(parents=True)
    with online(repository.hub):
        commit, names = repository.repeated(partial(_resolve, repository))
        chosen = _chosen(names, repository)
        files = [repository.repeated(partial(_head, repository, commit, name)) for name in chosen]
        size = sum(file.size for file in files)
        _check_space(folder, size, uri)
        found = {"uri": uri, "commit": commit, "files": len(files), "bytes": size}
        log.info("model of a hub is downloaded", extra=found)
        for file in files:
            received = _Received(repository, file)
            repository.repeated(partial(_fetch, received, commit, folder))
            _verify(folder / file.name, file, repository)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # huggingface_hub's own notes
    return commit


def _resolve(repository: Repository) -> tuple[str, list[str]]:
    """Return the commit of the revision, and the paths of its files."""
    from huggingface_hub import HfApi

    hub, revision = repository.hub, repository.revision
    info = HfApi(hub.endpoint, token=hub.token).model_info(
        repository.name, revision=revision, timeout=TIMEOUT
    )
    commit = str(info.sha)
    if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(revision) and commit != revision):
        what = f"{hub.host} resolves {revision} to {commit[:40]!r}, {refusals.NO_HUB}"
        raise refusals.unavailable(repository.uri, what)
    return commit, [str(file.rfilename) for file in info.siblings or ()]


def _chosen(names: Iterable[str], repository: Repository) -> list[str]:
    """Return the files to download, small ones first.

    Raises:
        Refused: there are no safetensors.
    """
    known = set(names)
    shards = sorted(name for name in known if SHARD.fullmatch(name))
    weights = [WEIGHTS] if WEIGHTS in known else [INDEX, *shards]
    if known >= {*weights}:
        return [*sorted(known & SETTINGS), *weights]
    if pickled := sorted(name for name in known if name.endswith(PICKLES) and "/" not in name):
        what = (
            f"{repository.uri} has its weights only in {pickled[0]}, a pickle file, which can run "
            f"code; use a revision with {WEIGHTS}, or convert them"
        )
        raise Refused("UnsafeArtifact", what, repository.field)
    what = f"{repository.uri} has no {WEIGHTS} and no {INDEX}; use a model with such weights"
    raise Refused("MissingModel", what, repository.field)


def _head(repository: Repository, commit: str, name: str) -> HubFile:
    """Return size and digest of a file."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    hub = repository.hub
    url = hf_hub_url(repository.name, name, revision=commit, endpoint=hub.endpoint)
    found = get_hf_file_metadata(url, token=hub.token, timeout=TIMEOUT, endpoint=hub.endpoint)
    etag = str(found.etag)
    known = SHA256.fullmatch(etag) or COMMIT.fullmatch(etag)
    if found.commit_hash != commit or found.size is None or not known:
        what = f"{hub.host} names no size and digest of {name} at {commit}, {refusals.NO_HUB}"
        raise refusals.unavailable(repository.uri, what)
    return HubFile(name, found.size, etag)


def _check_space(folder: Path, size: int, uri: str) -> None:
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, f"{uri} takes {size:,} bytes")


def _fetch(received: _Received, commit: str, folder: Path) -> None:
    """Download a file; huggingface_hub continues it after a broken connection."""
    from huggingface_hub import hf_hub_download

    repository = received.repository
    progress: Any = received.of_attempt
    hf_hub_download(
        repository.name,
        received.file.name,
        revision=commit,
        endpoint=repository.hub.endpoint,
        token=repository.hub.token,
        local_dir=folder,
        etag_timeout=TIMEOUT,
        tqdm_class=progress,
    )


class _Received:
    """Counts and logs the bytes of one file, where huggingface_hub would show a bar."""

    def __init__(self, repository: Repository, file: HubFile) -> None:
        self.repository = repository
        self.file = file
        self._bytes = self._all = 0
        self._logged = time.monotonic()

    def of_attempt(self, **_: object) -> Self:
        """Begin again with the first byte."""
        self._bytes = 0
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, count: int) -> None:
        """Count bytes; a negative number is received again.

        Raises:
            Refused: connections broke so often that the file was received several times.
        """
        self._bytes += count
        self._all += max(count, 0)
        if self._all > RECEIVED_AT_MOST * self.file.size:
            raise refusals.cut_short(self.repository.uri, self.repository.hub)
        if time.monotonic() - self._logged > LOGGED:
            self._logged = time.monotonic()
            done = {"file": self.file.name, "bytes": self._bytes, "of": self.file.size}
            log.info("file is downloaded", extra=done)


def _verify(path: Path, file: HubFile, repository: Repository) -> None:
    """Compare a downloaded file with the digest that the hub has for it."""
    found = file_digest(path) if SHA256.fullmatch(file.etag) else _git_blob(path)
    if found == file.etag:
        log.info("file was downloaded", extra={"file": file.name, "bytes": file.size})
        return
    what = (
        f"{file.name} of {repository.uri} does not match the digest that {repository.hub.host} has "
        f"for it ({found[:12]}, not {file.etag[:12]}); the import is repeated"
    )
    raise Refused("DigestMismatch", what, code=ExitCode.ENVIRONMENT)


def _git_blob(path: Path) -> str:
    """Return the name of the Git blob with this content."""
    found = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()
