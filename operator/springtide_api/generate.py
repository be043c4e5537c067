"""Writes what is made from the types: the CRDs, their copies in the chart and the reference page.

`python -m springtide_api.generate` in an editable install; a test says when it is due.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from springtide_api import names
from springtide_api.crd import KINDS
from springtide_api.reference import reference

NOTICE = "# Generated from operator/springtide_api by `make generate`; edit the types instead.\n"
ROOT = Path(__file__).parents[2]
CRD_FOLDERS = ("crds", "charts/springtide/files/crds")


class _Dumper(yaml.SafeDumper):
    """Writes text of several paragraphs as a block, and repeats instead of referring."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML leaves 2e-5 bare; Kubernetes would read it as a number.
    quoted = '"' if text[:1] in set("+-.0123456789") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else quoted)


_Dumper.add_representer(str, _text)


@cache
def files() -> dict[str, str]:
    """Return every generated file by its path below the root of the checkout."""
    made = {"docs/reference/api.md": reference()}
    for kind in KINDS:
        document = NOTICE + yaml.dump(
            kind.definition(), Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True
        )
        for folder in CRD_FOLDERS:
            made[f"{folder}/{names.GROUP}_{kind.plural}.yaml"] = document
    return made


def main() -> None:
    """Write all generated files into the checkout."""
    for path, text in files().items():
        file = ROOT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print(f"{path}: {len(text.encode()):,} bytes")


if __name__ == "__main__":
    main()
