"""Loads a scorer: through the node's cache if there is one, else from MODEL_URI.

Whatever is wrong with the cache, the model is then loaded from MODEL_URI as without a cache. So an
error that ends the server is about the artifact or its storage.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from springtide_server.loading.fetch import fetch, place
from springtide_server.loading.node_cache import NodeCache
from springtide_server.loading.scratch import scratch
from springtide_trainer.errors import Refused
from springtide_trainer.libraries import import_libraries

if TYPE_CHECKING:
    from springtide_server.loading.node_cache import Entry
    from springtide_server.settings import Settings
    from springtide_trainer.artifact.models import Scorer

Source = Literal["storage", "copied", "cache", "fallback"]
"""Where the model was loaded from: MODEL_URI, no cache being set; the cache, to which this process
copied it; the cache, to which another did; MODEL_URI, because the cache could not be used."""

WRONG_FILES = frozenset({"DigestMismatch", "UnsafeArtifact"})

log = logging.getLogger("springtide.server")


def load_scorer(settings: Settings) -> tuple[Scorer, Source]:
    """Verify and load the artifact of the settings. Blocking.

    Raises:
        Refused: the artifact does not match the digest, or is unsafe.
    """
    if not settings.model_cache:
        return _load_uri(settings), "storage"
    try:
        return _load_cached(settings)
    except Exception as failed:
        log.warning(
            "the cache %s is not used, the model is loaded from MODEL_URI: %s",
            settings.model_cache,
            failed if isinstance(failed, Refused) else f"{type(failed).__name__}: {failed}",
        )
    return _load_uri(settings), "fallback"


def _load_uri(settings: Settings) -> Scorer:
    """Load from a claim, or from a copy of what is in an object store, which is then deleted."""
    uri, digest = settings.model_uri, settings.model_digest
    source = place(uri)
    if isinstance(source, Path):
        return _load(source, digest)
    with scratch() as folder:
        fetch(uri, digest, folder, reserve=lambda size: None)
        return _load(folder, digest)


def _load_cached(settings: Settings) -> tuple[Scorer, Source]:
    """Load from the cache; if its files are wrong, have them copied again, once."""
    cache = NodeCache(Path(settings.model_cache), settings.model_cache_bytes)
    uri, digest = settings.model_uri, settings.model_digest
    with ThreadPoolExecutor(1, thread_name_prefix="copying") as copying:
        coming = copying.submit(cache.entry, uri, digest)
        _import_libraries()  # takes seconds, in which most models are copied
        entry = coming.result()
    try:
        return _load_entry(entry, digest)
    except Refused as refused:
        if refused.failure.reason not in WRONG_FILES:
            raise
        log.warning("a cached artifact is removed: %s", refused)
        cache.discard(entry)
    return _load_entry(cache.entry(uri, digest), digest)


def _load_entry(entry: Entry, digest: str) -> tuple[Scorer, Source]:
    """Load an entry, which is not evicted while this process runs.

    Raises:
        Refused: the files do not match the digest, or were written to while they were loaded.
    """
    before = _times_of_change(entry.folder)
    scorer = _load(entry.folder, digest)
    if _times_of_change(entry.folder) != before:
        raise Refused("DigestMismatch", f"{entry.folder} was changed while it was loaded")
    return scorer, "copied" if entry.copied else "cache"


def _times_of_change(folder: Path) -> list[tuple[Path, int, int]]:
    """List files with inode and time of change, which each write sets and no user can set back."""
    return [
        (path, path.lstat().st_ino, path.lstat().st_ctime_ns) for path in sorted(folder.rglob("*"))
    ]


def _load(folder: Path, digest: str) -> Scorer:
    _import_libraries()
    from springtide_trainer.artifact import models

    return models.load(folder, digest)


def _import_libraries() -> None:
    """Import PyTorch and transformers, and let only our log have what transformers logs."""
    import_libraries()
    from transformers.utils import logging as transformers_logging

    import springtide_trainer.artifact.models  # noqa: F401

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
