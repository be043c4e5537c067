"""Tokens on disk: rows are tokenized once and mapped into memory after.

A cache is complete or absent. It is named by all that its tokens depend on, and its files are
verified before they are used; a damaged one is made again. If it cannot be written, such as on a
full disk, the rows are tokenized in memory. It is deleted with the folder that it is in: that of
its rows, or of the checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers
import transformers

from springtide_trainer import kept_folders
from springtide_trainer.artifact.saving import tokenizer_files
from springtide_trainer.artifact.tokens import collect, encode, input_types, tokens_of
from springtide_trainer.storage import TOKENS, commit_folder, file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from springtide_trainer.artifact.preprocess import Pair, Preprocess
    from springtide_trainer.artifact.tokens import Encoded, Integers, RowTokenizer, Tokens

log = logging.getLogger(__name__)

SIDECAR = "tokens.json"
NOT_RENDERING = ("task", "labels", "regression")
"""Fields of the preprocessing that say what is predicted, not what is read."""
_LENGTHS = "lengths.bin"
_LENGTH_TYPE = np.dtype("<i4")


@dataclass(frozen=True)
class Key:
    """All that tokens depend on.

    Attributes:
        rows: Digest of the rows and the name of their part.
        preprocess: Digest of the rendering of rows.
        tokenizer: Digest of the tokenizer's files.
        library: Versions of what renders and tokenizes: this package and its libraries.
        max_length: Maximum number of tokens of a row.
    """

    rows: str
    preprocess: str
    tokenizer: str
    library: str
    max_length: int

    @staticmethod
    def of(rows: str, preprocess: Preprocess, artifact: Path) -> Key:
        """Return the key of rows that the tokenizer of an artifact's folder encodes."""
        rendering = preprocess.plain()
        for name in NOT_RENDERING:
            rendering.pop(name, None)
        if preprocess.hides_tokens:
            rendering["hidden"] = True
        files = [(path.name, file_digest(path)) for path in tokenizer_files(artifact)]
        return Key(
            rows=rows,
            preprocess=_digest(rendering),
            tokenizer=_digest(files),
            library=", ".join(
                [
                    f"springtide {version('springtide')}",
                    f"tokenizers {tokenizers.__version__}",
                    f"transformers {transformers.__version__}",
                ]
            ),
            max_length=preprocess.max_length,
        )

    @property
    def folder(self) -> str:
        """Name of the folder of the cache."""
        return f"{TOKENS}{_digest(asdict(self))[:32]}"


@dataclass(frozen=True)
class Place:
    """Where tokens are kept.

    Attributes:
        room: The folder of the caches: that of the frozen rows, or one of the storage.
        scratch: A folder of this pod on the same file system, which exists as long as the tokens
            are used.
        count: How many caches of about this size there will be: all must leave as much space as
            they take.
    """

    room: Path
    scratch: Path
    count: int = 1


def cached(
    tokenizer: RowTokenizer,
    chunks: Callable[[], Iterable[Sequence[Pair]]],
    *,
    key: Key,
    place: Place,
) -> Tokens:
    """Return the tokens of rows from their cache; tokenize the rows if there is none.

    Args:
        tokenizer: The tokenizer.
        chunks: Reads and renders the rows.
        key: Identifies the tokens.
        place: Where they are kept.
    """
    if (found := read(tokenizer, key=key, place=place)) is not None:
        return found
    try:
        folder = keep(tokenizer, chunks(), key=key, place=place)
    except OSError as full:
        log.warning("no token cache: rows are tokenized in memory", extra={"error": str(full)})
        return collect(tokenizer, encode(tokenizer, chunks(), key.max_length))
    return _open(folder, key, tokenizer)


def read(tokenizer: RowTokenizer, *, key: Key, place: Place) -> Tokens | None:
    """Verify a cache and map its files. A damaged one is removed; None: there is none.

    Raises:
        Refused: the object store cannot be read.
    """
    try:
        return kept_folders.read(
            place.room / key.folder,
            place.scratch,
            lambda folder: _open(folder, key, tokenizer),
            what="token cache is",
        )
    except OSError as kept:
        log.warning("damaged token cache is not removed", extra={"error": str(kept)})
        return None


def keep(
    tokenizer: RowTokenizer, chunks: Iterable[Sequence[Pair]], *, key: Key, place: Place
) -> Path:
    """Tokenize rows, and keep their tokens.

    Returns:
        The folder of the tokens: in the pod's scratch folder if they could not be kept, or another
        pod was faster.

    Raises:
        OSError: the disk is full, or the pod's scratch folder was removed.
    """
    written, final = place.scratch / f"{key.folder}-{uuid.uuid4()}", place.room / key.folder
    try:
        _write(encode(tokenizer, chunks, key.max_length), written, key, tokenizer, place.count)
    except OSError:
        shutil.rmtree(written, ignore_errors=True)
        raise
    try:
        if commit_folder(written, final):
            log.info("token cache written", extra={"cache": final.name})
            return final
    except OSError as failed:
        log.warning("token cache is not kept", extra={"error": str(failed)})
    return written


def _write(
    encoded: Iterable[Encoded], folder: Path, key: Key, tokenizer: RowTokenizer, count: int
) -> None:
    """Write the tokens chunk by chunk, then the sidecar with the digest of each file.

    Raises:
        OSError: the disk is full, or has less space left than the tokens take: the space is for
            checkpoints and the artifact.
    """
    folder.mkdir()  # not its parent: a training that is over has removed it
    types = _stored_types(tokenizer)
    files = {name: (folder / f"{name}.bin").open("wb") for name in types}
    with (folder / _LENGTHS).open("wb") as lengths:
        try:
            for chunk in encoded:
                chunk.lengths.astype(_LENGTH_TYPE).tofile(lengths)
                for name, file in files.items():
                    chunk.values[name].astype(types[name]).tofile(file)
        finally:
            for file in files.values():
                file.close()
    size = sum(path.stat().st_size for path in folder.iterdir())
    if (free := shutil.disk_usage(folder).free) < size * count:
        taken = f"{size * count:,} bytes"
        raise OSError(f"the tokens take {taken} and only {free:,} bytes would stay free")
    kept_folders.seal(folder, SIDECAR, asdict(key))


def _open(folder: Path, key: Key, tokenizer: RowTokenizer) -> Tokens:
    """Verify a cache and map its files.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: the cache is damaged.
    """
    types = _stored_types(tokenizer)
    names = {_LENGTHS, *(f"{name}.bin" for name in types)}
    if {*kept_folders.verified(folder, SIDECAR, asdict(key))} != names:
        raise ValueError(f"{folder.name} has other files")
    lengths = np.fromfile(folder / _LENGTHS, _LENGTH_TYPE).astype(np.int64)
    values = {name: _map(folder / f"{name}.bin", kind) for name, kind in types.items()}
    return tokens_of(tokenizer, values, lengths)


def _stored_types(tokenizer: RowTokenizer) -> dict[str, np.dtype[Any]]:
    """Return the type of each file of tokens: those of `input_types`, little-endian."""
    return {name: kind.newbyteorder("<") for name, kind in input_types(tokenizer).items()}


def _map(path: Path, kind: np.dtype[Any]) -> Integers:
    """Map a file. Its pages are the page cache's, not memory of this process."""
    if path.stat().st_size == 0:
        return np.empty(0, kind)
    return np.asarray(np.memmap(path, kind, mode="r"))


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
