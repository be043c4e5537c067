"""Reads and writes YAML with the types that kubectl takes.

PyYAML takes `1e-4` and `y` for texts, and kubectl for a number and a truth value: what passes here
would be refused there. Times stay texts, as for the API server.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

_TYPES = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (
        "bool",
        r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
        list("yYnNtTfFoO"),
    ),
    (
        "int",
        r"[-+]?(?:0x[0-9a-fA-F_]*[0-9a-fA-F]|0b[01_]*[01]|0(?:o?[0-7_]*[0-7])?|[1-9][0-9_]*)",
        list("-+0123456789"),
    ),
    (
        "float",
        r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
)
"""Types of texts without quotes: the first expression that matches, by the first character."""


class Loader(yaml.SafeLoader):
    """Reads a manifest like kubectl, and refuses a key that is written twice."""

    bool_values: ClassVar[dict[str, bool]] = {**yaml.SafeLoader.bool_values, "y": True, "n": False}
    yaml_implicit_resolvers: dict[str, list[Any]] = {}

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the node of a mapping, before other mappings are merged into it.

        Raises:
            ConstructorError: a key is written twice.
        """
        node = super().compose_mapping_node(anchor)
        names = [key.value for key, _ in node.value]
        for (key, _), name in zip(node.value, names, strict=True):
            if names.count(name) > 1:
                what = f"the key {name!r} is written twice"
                raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what PyYAML or kubectl would not take for a text."""


for _name, _pattern, _first in _TYPES:
    for _class in (Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first
        )


def dump(document: dict[str, Any], *, width: int = 80) -> str:
    """Return the text of a manifest, in the order of its keys."""
    return str(
        yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=width, allow_unicode=True)
    )
