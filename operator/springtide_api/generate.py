"""Generates files from the types: the CRDs, their copies in the chart, and the reference page.

Run `python -m springtide_api.generate` in an editable install. A test fails if the generated files
are out of date.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from springtide_api import names
from springtide_api.crd.definitions import KINDS
from springtide_api.crd.reference import reference

NOTICE = "# Generated from operator/springtide_api by `make generate`; edit the types instead.\n"
ROOT = Path(__file__).parents[2]
CRD_FOLDERS = ("crds", "charts/springtide/files/crds")


class _Dumper(yaml.SafeDumper):
    """Writes text with several paragraphs as a block scalar, and no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes 2e-5 without quotes, and Kubernetes would parse it as a number.
    quoted = '"' if text[:1] in set("+-.0123456789") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else quoted)


_Dumper.add_representer(str, _text)


@cache
def files() -> dict[str, str]:
    """Return the generated files by their path in the repository."""
    made = {"docs/reference/api.md": reference()}
    for kind in KINDS:
        document = NOTICE + yaml.dump(
            kind.definition(), Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True
        )
        for folder in CRD_FOLDERS:
            made[f"{folder}/{names.GROUP}_{kind.plural}.yaml"] = document
    return made


def main() -> None:
    """Write the generated files into the repository."""
    for path, text in files().items():
        file = ROOT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print(f"{path}: {len(text.encode()):,} bytes")


if __name__ == "__main__":
    main()
