"""Generates the API reference page from the schemas of the CRDs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from springtide_api import names
from springtide_api.crd.definitions import KINDS
from springtide_api.schema import VALIDATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_api.crd.definitions import Kind
    from springtide_api.crd.openapi import Schema

HEAD = f"""# API reference

Group `{names.GROUP}`, version `{names.VERSION}`. Generated from the types in
`operator/springtide_api` by `make generate`; `kubectl explain` prints the same text.

The API server applies a default in the table if the block is present. If a block is left out, the
operator uses its defaults and the object stays unchanged.
"""


def reference() -> str:
    """Return the page, in Markdown."""
    return "\n".join([HEAD, *(line for kind in KINDS for line in _kind(kind))]) + "\n"


def _kind(kind: Kind) -> Iterator[str]:
    schema = kind.schema()
    yield f"## {kind.name}\n"
    yield f"`kubectl get {kind.short}`, namespaced. {schema['description']}\n"
    yield from _rules(schema)
    for part in ("spec", "status"):
        yield from _block(f"{kind.short}.{part}", schema["properties"][part])


def _block(path: str, block: Schema) -> Iterator[str]:
    """Yield the section of a block, then the sections of its nested blocks."""
    yield f"### {path}\n"
    yield f"{block['description']}\n"
    required = block.get("required", [])
    yield "| field | type | default | description |"
    yield "|---|---|---|---|"
    for name, field in block["properties"].items():
        default = "required" if name in required else _default(field)
        yield f"| `{name}` | {_type(field)} | {default} | {_cell(field.get('description', ''))} |"
    yield ""
    yield from _rules(block)
    for name, field in block["properties"].items():
        inner = field.get("items", field)
        if "properties" in inner:
            yield from _block(f"{path}.{name}" + ("[]" if inner is not field else ""), inner)


def _rules(block: Schema) -> Iterator[str]:
    if messages := [rule["message"] for rule in block.get(VALIDATIONS, [])]:
        yield from (f"- {message}" for message in messages)
        yield ""


def _default(field: Schema) -> str:
    if "default" not in field:
        return ""
    value: Any = field["default"]
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(field: Schema) -> str:
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "items" in field:
        return f"list of {_type(field['items'])}{_between('', field.get('maxItems'))}"
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    if field.get("format") == "date-time":
        return "time"
    return str(field["type"]) + _between(field.get("minimum", ""), field.get("maximum"))


def _between(least: object, most: object) -> str:
    if most is None:
        return f", at least {least}" if least != "" else ""
    return f", {least} to {most}" if least != "" else f", at most {most}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
