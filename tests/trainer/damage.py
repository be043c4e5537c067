"""What can happen to a file on the storage, and to the sidecar that describes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DAMAGES = ["flipped", "cut", "missing", "no sidecar", "other rows"]


def damage(how: str, path: Path, sidecar: Path) -> None:
    """Damage a file, or the sidecar beside it."""
    content = bytearray(path.read_bytes())
    match how:
        case "flipped":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "missing":
            path.unlink()
        case "no sidecar":
            sidecar.unlink()
        case "other rows":
            written = json.loads(sidecar.read_text())
            written["key"]["rows"] = "sha256:0/other"
            sidecar.write_text(json.dumps(written))
        case _:
            raise ValueError(how)
