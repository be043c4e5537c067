"""Real data of a shop, read in place: its purchases by month, and the kinds of its products.

The environment variable SPRINGTIDE_ONLINE_RETAIL names the folder with UCI's "Online Retail"
(Chen 2015, CC BY 4.0) as `events.csv.gz`, and with pairs of a history and an item, which was bought
next or not, as `next_purchase_pairs.csv.gz`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "SPRINGTIDE_ONLINE_RETAIL"
KINDS = [
    *("bag", "box", "holder", "candle", "decoration"),
    *("card", "necklace", "tin", "bracelet", "mug"),
    *("cover", "wrap", "sign", "bowl", "cake"),
    *("earring", "bottle", "hook", "clock", "mirror"),
    *("ring", "garland", "jar", "notebook", "frame"),
]
"""Kinds of products with at least 30 descriptions each."""


def rows(name: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a file; end with a message where it is absent."""
    folder = os.environ.get(VARIABLE, "")
    path = Path(folder) / name
    if not folder or not path.is_file():
        sys.exit(f"{VARIABLE} must name a folder with {name} (is {folder!r}); not measured")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def products(*, hidden: bool) -> list[tuple[str, str]]:
    """Return the descriptions that name a kind of product, and the kind.

    A description can name several kinds ("box of 24 candles"): its own is the last one.

    Args:
        hidden: Whether the words for its own kind are removed from the description.
    """
    return list({kept if hidden else text: kind for text, kept, kind in described()}.items())


def described() -> Iterator[tuple[str, str, str]]:
    """Yield each description that names a kind, the same without the words for it, and the kind."""
    for text in sorted({row["Description"].strip() for row in rows("events.csv.gz")}):
        words = [(word, _singular(word)) for word in re.findall(r"[^\W_]+", text.lower())]
        if not (named := [word for _, word in words if word in KINDS]):
            continue
        kept = " ".join(word for word, singular in words if singular != named[-1])
        if kept:
            yield text, kept, named[-1]


def share_of(name: str, salt: str) -> float:
    """Return a number from 0 to 1 that depends on a name: those below a share are a sample."""
    digest = hashlib.sha256(f"{salt}/{name}".encode()).digest()
    return int.from_bytes(digest[:8]) / (1 << 64)


def _singular(word: str) -> str:
    if word.endswith(("xes", "ses", "shes", "ches")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
