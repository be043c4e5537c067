"""Converts the types into structural OpenAPI schemas, as CRDs require.

References, titles and "or null" are resolved, because CRDs do not support them. A string, list or
map without a maximum size is refused, although Kubernetes would allow it.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_api.schema import Model

Schema = dict[str, Any]

ORDER = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
    "required",
    "additionalProperties",
    "items",
    "properties",
)
"""All keywords of the schemas, in the order in which they are written."""

BOUND = {"string": "maxLength", "array": "maxItems"}


def structural(model: type[Model], *, defaults: bool = True) -> Schema:
    """Return the structural schema of a type.

    Defaults of plain fields are kept, for the API server to apply; those of blocks and lists are
    left to the operator, so that an object holds only what its author wrote. A status has none:
    the operator writes it whole.

    Raises:
        ValueError: a keyword that Kubernetes does not know, a value without a bound, or a field
            without a description.
    """
    document = model.model_json_schema(by_alias=True, mode="validation")
    schema = _resolve(document, document.get("$defs", {}), defaults=defaults)
    if unbounded := [path for path, node in nodes(schema) if not _is_bounded(node)]:
        raise ValueError(f"{model.__name__}: add a bound to {', '.join(unbounded)}")
    if silent := [path for path, node in nodes(schema) if not _is_described(path, node)]:
        raise ValueError(f"{model.__name__}: add a docstring to {', '.join(silent)}")
    return schema


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield each node of a structural schema with its path, such as gate.rules[].min."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


def _resolve(node: Schema, definitions: Schema, *, defaults: bool) -> Schema:
    flat = _merged(node, definitions)
    flat.pop("title", None)
    flat.pop("$defs", None)
    if "const" in flat:
        flat["enum"] = [flat.pop("const")]
    if not defaults or isinstance(flat.get("default"), dict | list | None):
        flat.pop("default", None)
    if "description" in flat:
        flat["description"] = unwrapped(flat["description"])
    if "properties" in flat:
        flat["properties"] = {
            name: _resolve(child, definitions, defaults=defaults)
            for name, child in flat["properties"].items()
        }
    for single in ("items", "additionalProperties"):
        if single in flat:
            flat[single] = _resolve(flat[single], definitions, defaults=defaults)
    if unknown := sorted(flat.keys() - set(ORDER)):
        raise ValueError(f"no structural schema may hold {', '.join(unknown)}: {node}")
    return {key: flat[key] for key in ORDER if key in flat}


def _merged(node: Schema, definitions: Schema) -> Schema:
    """Resolve the reference and the "or null" of a node; its own keywords take precedence."""
    own = dict(node)
    if "anyOf" in own:
        (chosen,) = (each for each in own.pop("anyOf") if each.get("type") != "null")
        own = {**_merged(chosen, definitions), **own}
    if "$ref" in own:
        target = definitions[own.pop("$ref").removeprefix("#/$defs/")]
        own = {**_merged(target, definitions), **own, "description": _both(own, target)}
    return own


def _both(field: Schema, block: Schema) -> str:
    """Combine the descriptions of a field and of its type, without repeating a sentence."""
    of_block = unwrapped(block.get("description", ""))
    sentences = re.split(r"(?<=\.) (?=[A-Z])", unwrapped(field.get("description", "")))
    news = [each for each in sentences if each.rstrip(".") not in of_block]
    if news == sentences and of_block:
        return " ".join(news) + "\n\n" + of_block
    return " ".join([of_block, *news])


def unwrapped(text: str) -> str:
    """Join the wrapped lines of each paragraph."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _is_described(path: str, node: Schema) -> bool:
    return path.endswith(("[]", "{}")) or bool(node.get("description"))


def _is_bounded(node: Schema) -> bool:
    if "enum" in node:
        return True
    if "additionalProperties" in node:
        return "maxProperties" in node
    return BOUND.get(node["type"], "type") in node
