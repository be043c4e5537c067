"""One bucket of an object store, through obstore: `s3://`, `gs://` and `az://`.

Endpoint and credentials come from the environment, as obstore documents them (`AWS_*`, `GOOGLE_*`,
`AZURE_*`), or from the service account of the pod. No error message contains them.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from urllib.parse import urlsplit

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az")
READABLE = "file:///path, s3://bucket/path, gs://bucket/path or az://container/path"
"""What a location may be, for messages."""
PATIENCE = timedelta(minutes=4)
"""A request is repeated for so long while the store is down or overloaded."""
CHECKING = timedelta(seconds=15)
"""The same for the check of a store, which may refuse requests for good."""
TIMEOUT = timedelta(seconds=60)
"""Of one request, which mostly transfers CHUNK bytes."""
CHUNK = 8 << 20
"""Bytes of one request of an upload or a download, unless an upload then had too many parts."""
MAX_PARTS = 10_000
"""S3 takes no more parts of one upload."""
AT_ONCE = 4
"""Requests of an upload or a download at the same time."""
BROKEN = "HTTP error"
"""What obstore says if there was no answer."""
_EXPIRED = re.compile(
    r"<Code>(ExpiredToken|InvalidToken|TokenRefreshRequired|InvalidIdentityToken)|\binvalid_grant\b"
)
"""In an answer 400: S3 and its token service, and Google's, say so of credentials that are over."""
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|SAS|ACCOUNT", re.IGNORECASE)
_PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")
_MESSAGE = 300


@dataclass(frozen=True)
class Entry:
    """An object in a listing."""

    key: str
    size: int
    etag: str
    """Changes with the content; empty if the store has none."""
    modified: datetime
    """When it was written, by the clock of the store."""


@dataclass(frozen=True)
class Place:
    """A bucket, and a key or the start of keys in it."""

    bucket: str
    """URI without a path: s3://bucket."""
    key: str
    """Without a slash at either end; empty: the whole bucket."""

    @property
    def uri(self) -> str:
        """The URI of the place."""
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    def __truediv__(self, name: str) -> Place:
        return Place(self.bucket, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return self.uri


def part_size(size: int) -> int:
    """Return the bytes of one part of an upload of `size` bytes: at most MAX_PARTS of them."""
    return max(CHUNK, -(-size // MAX_PARTS))


def is_object_uri(text: str) -> bool:
    """Return whether a URI or path is in an object store."""
    return text.partition("://")[0] in SCHEMES and "://" in text


def place_of(uri: str, field: str = "") -> Place:
    """Return the place of a URI.

    Raises:
        Refused: the URI has another scheme, no bucket, a query or `..`.
    """
    parts = urlsplit(uri)
    key = parts.path.strip("/")
    known = parts.scheme in SCHEMES and re.fullmatch(r"[A-Za-z0-9][\w.-]*", parts.netloc)
    odd = parts.query or parts.fragment or any(name in {"", ".", ".."} for name in key.split("/"))
    if not known or (key and odd):
        raise Refused("InvalidUri", f"{uri!r} must be {READABLE}, without '..' and '?'", field)
    return Place(f"{parts.scheme}://{parts.netloc}", key)


class Store:
    """The objects of a bucket. An object is written whole or not at all, and found at once.

    Args:
        bucket: URI of the bucket, such as s3://models.
        patience: How long a request is repeated; default PATIENCE.

    Raises of all methods:
        FileNotFoundError: there is no such object.
        Refused: NoAccess, or StorageUnavailable if the store fails for longer than PATIENCE. A pod
            that ends with it is retried.
    """

    def __init__(self, bucket: str, patience: timedelta | None = None) -> None:
        self.bucket = bucket
        self._patience = patience or PATIENCE
        with _explained(bucket):
            self._store = _open(bucket, self._patience)

    def read(self, key: str) -> bytes:
        """Return the content of a small object."""
        import obstore

        with self._explained(key):
            return bytes(obstore.get(self._store, key).bytes())

    def read_range(self, key: str, start: int, end: int, etag: str | None = None) -> bytes:
        """Return the bytes from `start` to before `end`.

        Raises:
            Changed: the object has another etag by now.
        """
        import obstore
        from obstore.exceptions import PreconditionError

        with self._explained(key):
            try:
                options: Any = {"range": (start, end), **({"if_match": etag} if etag else {})}
                return bytes(obstore.get(self._store, key, options=options).bytes())
            except PreconditionError as changed:
                raise Changed(f"{self.bucket}/{key} changed while it was read") from changed

    def head(self, key: str) -> Entry:
        """Return size, etag and time of an object."""
        import obstore

        with self._explained(key):
            return _entry(obstore.head(self._store, key))

    def list(self, prefix: str) -> Iterator[Entry]:
        """List the objects below a folder, in the order of their keys."""
        import obstore

        with self._explained(prefix):
            for chunk in obstore.list(self._store, prefix or None):
                yield from map(_entry, chunk)

    def is_folder(self, entry: Entry) -> bool:
        """Return whether an entry marks a folder, as consoles do: an empty object `<key>/`.

        A listing has it without the slash, and there is no object of that name.
        """
        if entry.size:
            return False
        try:
            self.head(entry.key)
        except FileNotFoundError:
            return True
        return False

    def create(self, key: str, content: bytes) -> bool:
        """Write a small object unless there is one. Atomic: of several writers one succeeds.

        Returns:
            Whether the object has this content, by this call or by an earlier one whose answer was
            lost.

        Raises:
            Unsupported: the store refuses conditional writes.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError

        deadline = time.monotonic() + self._patience.total_seconds()
        while True:
            try:
                obstore.put(self._store, key, content, mode="create")
                return True
            except NotSupportedError as missing:
                raise Unsupported(_plain(missing)) from missing
            except AlreadyExistsError:
                failed = None
            except (BaseError, FileNotFoundError) as unclear:
                failed = self._unclear(key, unclear)
            try:
                return self.read(key) == content
            except FileNotFoundError:  # refused in favour of a writer that failed
                if time.monotonic() > deadline:
                    with self._explained(key):
                        raise failed or TimeoutError(f"{key} is not there") from None
            time.sleep(1)

    def _unclear(self, key: str, failed: Exception) -> Exception:
        """Return an error after which an object may have been written; raise every other."""
        if re.search("501 Not Implemented|NotImplemented", str(failed)):
            raise Unsupported(_plain(failed)) from failed
        if _is_denied(failed):
            with self._explained(key):
                raise failed
        return failed

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, or replace it. A file is uploaded in parts, never held as a whole."""
        import obstore

        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        part = part_size(size)

        def put() -> None:
            obstore.put(self._store, key, content, chunk_size=part, max_concurrency=AT_ONCE)

        with self._explained(key):
            self._repeat(put)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that do not exist are deleted already."""
        import obstore

        for start in range(0, len(keys), 1000):
            some = list(keys[start : start + 1000])
            with suppress(FileNotFoundError), self._explained(some[0]):
                self._repeat(partial(obstore.delete, self._store, some))

    def _repeat(self, work: Callable[[], object]) -> None:
        """Do what may be done twice again while connections break: obstore repeats only reads."""
        from obstore.exceptions import BaseError

        deadline = time.monotonic() + self._patience.total_seconds()
        while True:
            try:
                work()
                return
            except BaseError as failed:
                if BROKEN not in str(failed) or time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def _explained(self, key: str) -> Any:
        return _explained(f"{self.bucket}/{key}")


class Changed(OSError):
    """An object was replaced while it was read."""


class Unsupported(Exception):
    """The store has no conditional writes."""


class _Options(TypedDict):
    client_options: dict[str, Any]
    retry_config: dict[str, Any]


def _open(bucket: str, patience: timedelta) -> ObjectStore:
    from obstore.store import AzureStore, GCSStore, S3Store

    scheme, _, name = bucket.partition("://")
    options: Any = _Options(
        client_options={"timeout": TIMEOUT, "connect_timeout": timedelta(seconds=10)},
        # The time alone decides: 100 refused connections take a minute.
        retry_config={"retry_timeout": patience, "max_retries": 100_000},
    )
    if os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true":
        options["client_options"]["allow_http"] = True
    match scheme:
        case "gs":
            return GCSStore(name, **options)
        case "az":
            return AzureStore(name, **options)
        case _:
            return S3Store(name, **options)


def _entry(meta: Any) -> Entry:
    return Entry(meta["path"], meta["size"], meta["e_tag"] or "", meta["last_modified"])


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Give errors of the store the words and the exit codes of this package."""
    from obstore.exceptions import BaseError, InvalidPathError, NotFoundError

    try:
        yield
    except InvalidPathError as wrong:  # of any object in a listing
        what = f"{uri} has an object that cannot be read: {_plain(wrong)}; rename or delete it"
        raise Refused("UnsafePath", what) from None
    except (BaseError, FileNotFoundError, TimeoutError) as failed:
        if "<Code>NoSuchBucket" in str(failed):
            what = f"{uri}: the bucket does not exist; create it, or change the URI"
            raise _failed("NoAccess", what) from None
        if isinstance(failed, (NotFoundError, FileNotFoundError)):
            raise FileNotFoundError(2, "No such object", uri) from None
        if _is_denied(failed):
            what = f"{uri}: access denied; check the credentials of the pods ({_plain(failed)})"
            raise _failed("NoAccess", what) from None
        what = f"{uri}: the object store does not work: {_plain(failed)}"
        raise _failed("StorageUnavailable", what) from None


def _is_denied(failed: Exception) -> bool:
    """Whether the store refused the credentials: the request did nothing, and never will."""
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    denied = isinstance(failed, (PermissionDeniedError, UnauthenticatedError))
    return denied or "403 Forbidden" in str(failed) or bool(_EXPIRED.search(str(failed)))


def _failed(reason: Literal["NoAccess", "StorageUnavailable"], message: str) -> Refused:
    return Refused(reason, message, code=ExitCode.ENVIRONMENT)


def _plain(error: Exception) -> str:
    """Return an error in one line, without queries of URLs and values of credentials."""
    text = str(error).partition("\n\nDebug source")[0] or type(error).__name__
    if answer := re.search(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", text, re.DOTALL):
        text = f"{text.partition('<')[0]}{answer[1]}: {answer[2]}"
    text = re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", " ".join(text.split()))
    for name, value in os.environ.items():
        if name.startswith(_PREFIXES) and _SECRET.search(name) and len(value) > 3:
            text = text.replace(value, "***")
    return text[:_MESSAGE]
