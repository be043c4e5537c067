"""What an example of a CEL rule is: a small spec, changed so that it just fits or just does not."""

import copy
import re
from dataclasses import dataclass
from typing import Any

ABSENT = "(absent)"
Change = dict[str, Any]
"""Paths of the spec with their new values; `ABSENT` removes what is there."""


@dataclass(frozen=True)
class Example:
    """`at` is the block that carries the rule whose message begins with `message`."""

    at: str
    message: str
    accepted: Change
    refused: Change
    before: Change | None = None
    """For a rule over a transition: how the spec was that is changed."""

    def __str__(self) -> str:
        return f"{self.at}: {self.message}"


def longest(at: str) -> Example:
    """A duration of ten years, and one of an hour more."""
    return Example(at, "must be at most 87600h", {at: "87600h"}, {at: "87601h"})


def inside(at: str, root: str, needed: Change | None = None) -> Example:
    """A path with two dots in a name, and one that leads out of its folder."""
    value = at.replace("[]", "[0]")
    return Example(
        at,
        "must not contain '..'",
        {**(needed or {}), value: f"{root}v1..2/x"},
        {**(needed or {}), value: f"{root}x/../../etc"},
    )


def hub(at: str) -> Example:
    """A model of a hub at a branch, and one without a revision."""
    return Example(
        at,
        "hf:// needs repository and revision",
        {at: "hf://shop/mini.LM-v2@release-1.0"},
        {at: "hf://shop/mini.LM-v2"},
    )


def changed(spec: dict[str, Any], change: Change) -> dict[str, Any]:
    """Return a copy with the change made; blocks on the way are made."""
    result = copy.deepcopy(spec)
    for path, value in copy.deepcopy(change).items():
        *way, last = [int(key) if key.isdigit() else key for key in re.findall(r"[^.\[\]]+", path)]
        block = result
        for key in way:
            block = block[key] if isinstance(key, int) else block.setdefault(key, {})
        if value == ABSENT:
            block.pop(last, None)
        elif isinstance(last, int) and last == len(block):
            block.append(value)
        else:
            block[last] = value
    return result
