"""Checks a manifest like the API server does: unknown fields, types and bounds, CEL rules.

The schema is the one of the CRD, so a manifest that passes is accepted by the cluster.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from springtide_api.crd.definitions import UPDATE
from springtide_api.objects import InvalidObject, Problem, parse_update
from springtide_api.schema import VALIDATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    Schema = dict[str, Any]

cel: Any = import_module("cel") if find_spec("cel") else None
"""The CEL engine of the extra `cli`; without it rules are not checked."""
OWN_RULES = ("metadata", "apiVersion", "kind", "status")
"""Parts of the object that the API server checks by itself."""
_NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_UNITS |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGT", 1)}


def problems(manifest: dict[str, Any]) -> list[Problem]:
    """List what is wrong with a manifest of an update; nothing if the API server accepts it."""
    schema, manifest = UPDATE.schema(), without_nulls(manifest)
    found = list(_wrong_names(manifest.get("metadata", {})))
    found += _unknown_fields(schema, manifest, "")
    found += _type_errors(manifest)
    paths = {each.field for each in found}
    found += (each for each in _other_types(schema, manifest, "") if each.field not in paths)
    if not found and cel is not None:
        found += _broken_rules(schema, _with_defaults(schema, manifest), "")
    return found


def without_nulls(value: Any) -> Any:
    """Return a value without the fields that are null: the API server removes them."""
    if isinstance(value, dict):
        return {name: without_nulls(part) for name, part in value.items() if part is not None}
    return [without_nulls(part) for part in value] if isinstance(value, list) else value


def _wrong_names(metadata: dict[str, Any]) -> Iterator[Problem]:
    """Yield names that are no labels; they are part of paths on this machine, too."""
    for field in ("name", "namespace"):
        name = metadata.get(field, "default")
        if not isinstance(name, str) or not re.fullmatch(_NAME, name):
            message = "must be lower case letters, digits and hyphens, at most 63"
            yield Problem(f"metadata.{field}", f"{message} (is {str(name)[:64]!r})")


def _type_errors(manifest: dict[str, Any]) -> tuple[Problem, ...]:
    """Return the errors of the types; the API server fills in what metadata lacks here."""
    filled = {"namespace": "default", "uid": "", "creationTimestamp": datetime.now(UTC)}
    metadata = {**filled, **manifest.get("metadata", {})}
    try:
        parse_update({**manifest, "metadata": metadata})
    except InvalidObject as invalid:
        return invalid.problems
    return ()


def _unknown_fields(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    properties = schema.get("properties")
    if isinstance(value, dict) and properties is not None:
        for name, part in value.items():
            if name not in properties:
                known = ", ".join(properties)
                yield Problem(f"{path}.{name}".lstrip("."), f"unknown field; known are {known}")
            elif path or name not in OWN_RULES:
                yield from _unknown_fields(properties[name], part, f"{path}.{name}")
    elif isinstance(value, list) and "items" in schema:
        for index, part in enumerate(value):
            yield from _unknown_fields(schema["items"], part, f"{path}[{index}]")


def _other_types(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    """Yield texts, numbers and truth values that Python would convert and the API server not."""
    expected = {"integer": int, "boolean": bool}.get(schema.get("type", ""))
    if expected and isinstance(value, str | int) and type(value) is not expected:
        yield Problem(path.lstrip("."), f"must be of type {schema['type']} (is {value!r})")
    for part in _parts(schema, value, path):
        yield from _other_types(*part)


def _with_defaults(schema: Schema, value: Any) -> Any:
    """Return a value with the defaults that the API server sets before it checks rules."""
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        defaults = {name: part["default"] for name, part in properties.items() if "default" in part}
        other = schema.get("additionalProperties", {})
        return {
            name: _with_defaults(properties.get(name, other), part)
            for name, part in {**defaults, **value}.items()
        }
    if isinstance(value, list):
        return [_with_defaults(schema.get("items", {}), part) for part in value]
    return value


def _broken_rules(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    for rule in schema.get(VALIDATIONS, []):
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], value):
            message = rule.get("messageExpression")
            shown = _evaluate(message, value) if message else rule["message"]
            yield Problem(path.lstrip("."), str(shown))
    for part in _parts(schema, value, path):
        yield from _broken_rules(*part)


def _parts(schema: Schema, value: Any, path: str) -> Iterator[tuple[Schema, Any, str]]:
    """Yield what an object or a list consists of: schema, value and path of each part."""
    if isinstance(value, dict):
        properties, other = schema.get("properties", {}), schema.get("additionalProperties", {})
        for name, part in value.items():
            yield properties.get(name, other), part, f"{path}.{name}"
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield schema.get("items", {}), part, f"{path}[{index}]"


def _holds(expression: str, value: Any) -> bool:
    """Return whether a value fulfils a rule; not if the rule fails on it, as on the API server."""
    try:
        return bool(_evaluate(expression, value))
    except (RuntimeError, TypeError, ValueError):
        return False


def _evaluate(expression: str, value: Any) -> Any:
    """Evaluate a CEL expression with Kubernetes' functions for quantities and lists."""
    context = cel.Context()
    context.add_variable("self", value)
    context.add_function("quantity", _quantity)
    context.add_function("isLessThan", lambda one, other: one < other)
    context.add_function("isGreaterThan", lambda one, other: one > other)
    context.add_function("isSorted", lambda values: list(values) == sorted(values))
    return cel.evaluate(expression, context)


def _quantity(text: str) -> float:
    match = re.fullmatch(r"([0-9.]+(?:[eE][-+]?[0-9]+)?)([A-Za-z]*)", text)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a quantity")
    return float(match[1]) * _UNITS[match[2]]
