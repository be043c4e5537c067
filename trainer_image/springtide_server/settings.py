"""The server's settings, which are all environment variables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Settings:
    """Settings of one process, each with its environment variable."""

    model_name: str = "model"
    """MODEL_NAME: the name in `/v2/models/{name}`."""
    model_uri: str = ""
    """MODEL_URI: URI of the artifact's folder, on a claim (`file:///`) or in an object store
    (`s3://`, `gs://`, `az://`). Empty: there is no model yet."""
    model_digest: str = ""
    """MODEL_DIGEST: expected digest of the artifact."""
    model_cache: str = ""
    """MODEL_CACHE: folder that the pods of a node share for artifacts. Empty: there is none."""
    model_cache_bytes: int = 10 << 30
    """MODEL_CACHE_BYTES: maximum bytes of the artifacts in MODEL_CACHE."""
    generation: str = ""
    """SPRINGTIDE_GENERATION, or the content of the file SPRINGTIDE_GENERATION_FILE."""
    host: str = "0.0.0.0"
    """SPRINGTIDE_HOST: address to listen on."""
    port: int = 8080
    """SPRINGTIDE_PORT: port to listen on; 0 selects a free port."""
    max_batch: int = 64
    """SPRINGTIDE_MAX_BATCH: maximum rows of a batch."""
    max_delay: float = 0.005
    """SPRINGTIDE_MAX_DELAY_MS: maximum wait of a row for other rows, here in seconds."""
    max_waiting: int = 1024
    """SPRINGTIDE_MAX_WAITING: maximum waiting rows; further requests get 503."""
    max_body: int = 4 << 20
    """SPRINGTIDE_MAX_BODY: maximum bytes of a request; larger requests get 413."""
    warm_up_seconds: float = 30.0
    """SPRINGTIDE_WARM_UP_SECONDS: time limit of the warm-up queries; 0: none are sent."""
    drain_seconds: float = 5.0
    """DRAIN_SECONDS: grace period after SIGTERM, until the pod is removed from endpoints."""

    @property
    def has_warm_up(self) -> bool:
        """Whether warm-up queries are sent."""
        return self.warm_up_seconds > 0

    @property
    def version(self) -> str:
        """The generation, or the first 12 digits of the digest; "none" without a model."""
        return self.generation or self.model_digest[7:19] or "none"


def read_settings(env: Mapping[str, str]) -> Settings:
    """Read the settings from environment variables.

    Raises:
        Refused: a variable has an invalid value.
    """
    uri = env.get("MODEL_URI", "")
    return Settings(
        model_name=_name(env.get("MODEL_NAME") or Settings.model_name),
        model_uri=uri,
        model_digest=_digest(env.get("MODEL_DIGEST", "")) if uri else "",
        model_cache=env.get("MODEL_CACHE", ""),
        model_cache_bytes=int(
            _number(env, "MODEL_CACHE_BYTES", Settings.model_cache_bytes, low=1, high=1 << 50)
        ),
        generation=_generation(env),
        host=env.get("SPRINGTIDE_HOST") or Settings.host,
        port=int(_number(env, "SPRINGTIDE_PORT", Settings.port, low=0, high=65535)),
        max_batch=int(_number(env, "SPRINGTIDE_MAX_BATCH", Settings.max_batch, low=1, high=4096)),
        max_delay=_number(env, "SPRINGTIDE_MAX_DELAY_MS", 5.0, low=0, high=10_000, kind=float)
        / 1e3,
        max_waiting=int(
            _number(env, "SPRINGTIDE_MAX_WAITING", Settings.max_waiting, low=1, high=1_000_000)
        ),
        max_body=int(
            _number(env, "SPRINGTIDE_MAX_BODY", Settings.max_body, low=1024, high=256 << 20)
        ),
        warm_up_seconds=_number(
            env,
            "SPRINGTIDE_WARM_UP_SECONDS",
            Settings.warm_up_seconds,
            low=0,
            high=3600,
            kind=float,
        ),
        drain_seconds=_number(
            env, "DRAIN_SECONDS", Settings.drain_seconds, low=0, high=3600, kind=float
        ),
    )


def _name(value: str) -> str:
    if "/" in value:
        raise Refused(
            "InvalidSetting",
            f"MODEL_NAME is {value[:80]!r}; it is one part of the path /v2/models/NAME, so it must "
            "have no '/'",
        )
    return value


def _digest(value: str) -> str:
    if not _DIGEST.fullmatch(value):
        raise Refused(
            "InvalidDigest",
            f"MODEL_DIGEST is {value[:80]!r}; MODEL_URI is set, so it must be sha256: and 64 hex "
            "digits of the artifact",
        )
    return value


def _generation(env: Mapping[str, str]) -> str:
    if file := env.get("SPRINGTIDE_GENERATION_FILE"):
        try:
            return Path(file).read_text(encoding="utf-8").strip()[:63]
        except (OSError, UnicodeDecodeError) as wrong:
            raise Refused(
                "InvalidSetting", f"SPRINGTIDE_GENERATION_FILE {file!r} cannot be read: {wrong}"
            ) from wrong
    return env.get("SPRINGTIDE_GENERATION", "").strip()[:63]


def _number(
    env: Mapping[str, str],
    name: str,
    default: float,
    *,
    low: float,
    high: float,
    kind: type[int] | type[float] = int,
) -> float:
    written = env.get(name, "").strip()
    if not written:
        return default
    try:
        value = kind(written)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        what = "an integer" if kind is int else "a number"
        raise Refused(
            "InvalidSetting", f"{name} is {written[:40]!r}; it must be {what} from {low} to {high}"
        )
    return value
