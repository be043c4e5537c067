"""The termination message: the result, shortened to the kubelet's size limit.

The full result is in the storage; the message has the numbers that the operator decides on.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from springtide_api.contract import TERMINATION_LIMIT, TERMINATION_MESSAGE, Result

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


def write(result: Result, path: str) -> None:
    """Write the message to the kubelet's file; without this file (no pod) nothing is written."""
    if path == TERMINATION_MESSAGE and not Path(path).exists():
        return
    try:
        Path(path).write_bytes(compact(result))
    except OSError as refused:
        log.warning("termination message not written", extra={"path": path, "error": str(refused)})


def compact(result: Result) -> bytes:
    """Write a result as JSON of at most 4096 bytes.

    Less important parts are shortened first: digits, the end of a failure's message, names of
    partitions, what was replayed, training metrics. Rules are never removed, only rounded.

    Raises:
        ValueError: the shortened result is still too long.
    """
    value = Result.model_validate(result.plain()).plain()
    for reduce in _REDUCTIONS:
        value = reduce(value)
        if len(message := _json(value)) <= TERMINATION_LIMIT:
            return message
    raise ValueError(f"result of {len(message)} bytes exceeds the limit of {TERMINATION_LIMIT}")


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _rounded(digits: int) -> Callable[[Any], Any]:
    def rounded(value: Any) -> Any:
        match value:
            case float():
                return float(f"{value:.{digits}g}")
            case dict():
                return {name: rounded(part) for name, part in value.items()}
            case list():
                return [rounded(part) for part in value]
            case _:
                return value

    return rounded


def _newest_partitions(keep: int) -> Callable[[Any], Any]:
    def shortened(value: Any) -> Any:
        match value:
            case {"probe": {"window": {"partitions": partitions} as window} as probe}:
                window = window | {"partitions": partitions[-keep:]}
                return value | {"probe": probe | {"window": window}}
            case _:
                return value

    return shortened


def _without_metrics(value: Any) -> Any:
    match value:
        case {"train": train}:
            return value | {"train": train | {"metrics": {}}}
        case _:
            return value


def _without_stop_reason(value: Any) -> Any:
    """Drop why training stopped, which the log and the result in the storage have."""
    match value:
        case {"train": {"stopReason": _, **others}}:
            return value | {"train": others}
        case _:
            return value


def _short_warnings(keep: int) -> Callable[[Any], Any]:
    """Cut each warning; with 0 none is kept, because the log has them."""

    def shortened(value: Any) -> Any:
        found = next((name for name in ("train", "evaluate") if name in value), "")
        stage = value.get(found) or {}
        if not stage.get("warnings"):
            return value
        cut = [text[:keep] for text in stage["warnings"]] if keep else []
        return value | {found: stage | {"warnings": cut}}

    return shortened


def _few_classes(keep: int) -> Callable[[Any], Any]:
    """Keep the classes and slices with the fewest rows: those that may be forgotten."""

    def fewest(rows: dict[str, int]) -> dict[str, int]:
        return dict(sorted(rows.items(), key=lambda one: (one[1], one[0]))[:keep])

    def few(counted: dict[str, Any]) -> dict[str, Any]:
        known = {name: counted[name] for name in ("classes", "slices") if name in counted}
        other = {name: part for name, part in counted.items() if name not in known}
        return other | {name: fewest(rows) for name, rows in known.items() if keep}

    def shortened(value: Any) -> Any:
        train = value.get("train") or {}
        cut = {name: few(train[name]) for name in ("replay", "pseudoLabels") if train.get(name)}
        return value | {"train": train | cut} if cut else value

    return shortened


def _short_shortfall(keep: int) -> Callable[[Any], Any]:
    """Cut what the replay buffer could not give."""

    def shortened(value: Any) -> Any:
        match value:
            case {"train": {"replay": {"message": str(text)} as replay} as train}:
                cut = text if len(text) <= keep else f"{text[:keep]}..."
                return value | {"train": train | {"replay": replay | {"message": cut}}}
            case _:
                return value

    return shortened


def _short_message(value: Any) -> Any:
    match value:
        case {"failure": {"message": str(text)} as failure}:
            return value | {"failure": failure | {"message": text[:900]}}
        case _:
            return value


_REDUCTIONS = (
    _rounded(9),
    _short_message,
    _newest_partitions(200),
    _newest_partitions(60),
    _newest_partitions(12),
    _short_warnings(80),
    _few_classes(32),
    _few_classes(8),
    _short_shortfall(200),
    _few_classes(0),
    _short_warnings(0),
    _without_stop_reason,
    _without_metrics,
    _short_shortfall(80),
    _short_shortfall(50),
    _rounded(7),
    _rounded(6),
    _rounded(4),
    _rounded(3),
)
