"""kubectl as a function; an error comes back as one sentence."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class DemoError(Exception):
    """The demo cannot continue; the message says why and where to look."""


def run(
    *argv: str,
    stdin: bytes | None = None,
    seconds: float = 300,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> bytes:
    """Run a program and return what it printed.

    Raises:
        DemoError: it failed or took too long; the message ends with its last line.
    """
    called = " ".join(argv[:6]).splitlines()[0]
    try:
        ran = subprocess.run(
            argv, input=stdin, capture_output=True, timeout=seconds, check=False, env=env, cwd=cwd
        )
    except subprocess.TimeoutExpired:
        raise DemoError(f"{called} ... took more than {seconds:g} s") from None
    except OSError as error:
        raise DemoError(f"{called}: {error}") from error
    if ran.returncode:
        lines = (ran.stderr or ran.stdout).decode(errors="replace").strip().splitlines()
        raise DemoError(f"{called} ...: {lines[-1] if lines else f'exit code {ran.returncode}'}")
    return ran.stdout


@dataclass(frozen=True)
class Kubectl:
    """kubectl for one cluster, such as `Kubectl(("kubectl", "--context", "dev"))`."""

    argv: tuple[str, ...]

    def __call__(self, *arguments: str, stdin: bytes | None = None, seconds: float = 300) -> str:
        """Run it and return the text that it printed."""
        return self.bytes(*arguments, stdin=stdin, seconds=seconds).decode(errors="replace")

    def bytes(self, *arguments: str, stdin: bytes | None = None, seconds: float = 300) -> bytes:
        """Run it and return what it printed, byte for byte."""
        return run(*self.argv, *arguments, stdin=stdin, seconds=seconds)

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return an object, or a list of them, as JSON; {} where it does not exist."""
        text = self("get", *arguments, "--ignore-not-found", "--output=json")
        return json.loads(text) if text.strip() else {}

    def apply(self, objects: list[dict[str, Any]]) -> None:
        """Apply objects as a user does."""
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self("apply", "--filename=-", stdin=body.encode())
