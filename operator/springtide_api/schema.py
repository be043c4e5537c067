"""Building blocks of the API types: base model, validated strings and CEL rules.

The API has no floating point numbers: decimals are strings, durations have the format of Go, and
digests are `sha256:` followed by 64 hex digits.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.config import JsonDict
    from pydantic.fields import FieldInfo

VALIDATIONS = "x-kubernetes-validations"


def rule(expression: str, message: str) -> JsonDict:
    """Return the schema keyword that attaches a CEL rule to a field."""
    return rules((expression, message))


def rules(*given: tuple[str, str]) -> JsonDict:
    """Return the schema keyword that attaches CEL rules, each with its message, to a field."""
    return {VALIDATIONS: [{"rule": expression, "message": text} for expression, text in given]}


def is_digest(text: str | None) -> bool:
    """Return whether a text has the format of `Digest`."""
    return re.fullmatch(r"sha256:[0-9a-f]{64}", text or "") is not None


_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> timedelta:
    """Parse a Go duration such as "1h30m".

    Raises:
        ValueError: the text is not a duration.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration; use a format such as 90s, 6h or 1h30m")
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))


def one_line(text: str) -> str:
    """Escape line breaks and control characters."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


Line = Annotated[str, AfterValidator(one_line)]
"""A text without line breaks and control characters; they are escaped."""

_LONGEST = "must be at most 87600h (10 years)"
_INSIDE = "must not contain '..'; write the resolved path"


def _at_most_ten_years(text: str) -> str:
    if duration(text) > timedelta(hours=87600):
        raise ValueError(_LONGEST)
    return text


def _inside(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError(_INSIDE)
    return path


_IS_INSIDE = "!self.matches('(^|/)[.][.](/|$)')"

Inside = (
    AfterValidator(_inside),
    Field(json_schema_extra=rule(_IS_INSIDE, _INSIDE)),
)
"""Refuses a path with '..', so that it stays below its root."""

Name = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
"""A DNS label, as Kubernetes requires it for many names."""

ObjectName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]

LabelValue = Annotated[
    str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")
]
"""A Kubernetes label value."""

_LABEL_KEY = (
    r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
LabelKey = Annotated[str, Field(max_length=317, pattern=_LABEL_KEY)]
"""A Kubernetes label key, such as example.com/pool."""

_KEYS = "keys must be valid label keys, such as pool or example.com/pool"


def _with_label_keys(labels: dict[str, str]) -> dict[str, str]:
    if not all(re.fullmatch(_LABEL_KEY, key) for key in labels):
        raise ValueError(_KEYS)
    return labels


Labels = Annotated[
    dict[str, LabelValue],
    Field(
        max_length=16,
        json_schema_extra=rule(f"self.all(key, key.matches('{_LABEL_KEY}'))", _KEYS),
    ),
    AfterValidator(_with_label_keys),
]

ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
Label = Annotated[str, Field(min_length=1, max_length=128)]

Decimal = Annotated[
    str, Field(max_length=32, pattern=r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?$")
]
"""A decimal number as a string, such as "0.005" or "2e-5". NaN and infinity are not allowed."""

Fraction = Annotated[str, Field(max_length=32, pattern=r"^(0(\.[0-9]+)?|1(\.0+)?)$")]
"""A decimal from 0 to 1."""

Duration = Annotated[
    str,
    Field(
        max_length=16,
        pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$",
        json_schema_extra=rule("duration(self) <= duration('87600h')", _LONGEST),
    ),
    AfterValidator(_at_most_ten_years),
]
"""A Go duration, such as "90s", "6h" or "1h30m"."""

Digest = Annotated[str, Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]

Uri = Annotated[
    str,
    Field(
        max_length=1024,
        pattern=r"^(file:///[^\s\\]*|(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/[^\s\\?#]*)?)$",
    ),
    *Inside,
]
"""Location of a file or folder: on a mounted claim (`file:///`), or in a bucket of an object store
(`s3://`, `gs://` or `az://`)."""

_HUB = r"^hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9._-]*$"
_REVISION = (
    "hf:// needs repository and revision; write hf://organization/name@revision, where revision is"
    " a branch, a tag or a commit"
)


def hub_repository(uri: str) -> tuple[str, str] | None:
    """Return repository and revision of a model of a hub; None for another URI."""
    found = re.fullmatch(_HUB, uri)
    if found is None:
        return None
    repository, _, revision = uri.removeprefix("hf://").rpartition("@")
    return repository, revision


def _with_revision(uri: str) -> str:
    if uri.startswith("hf:") and hub_repository(uri) is None:
        raise ValueError(_REVISION)
    return uri


ModelUri = Annotated[
    str,
    Field(
        max_length=1024,
        pattern=r"^(file:///[^\s\\]*|(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/[^\s\\?#]*)?"
        r"|hf://[^\s\\?#]*)$",
    ),
    AfterValidator(_inside),
    AfterValidator(_with_revision),
    Field(
        json_schema_extra=rules(
            (_IS_INSIDE, _INSIDE),
            (f"!self.startsWith('hf:') || self.matches('{_HUB}')", _REVISION),
        )
    ),
]
"""Location of a model: as `Uri`, or a repository of a Hugging Face hub at a revision (`hf://`)."""

Commit = Annotated[str, Field(max_length=40, pattern=r"^[0-9a-f]{40}$")]
"""A Git commit."""

Time = Annotated[
    AwareDatetime,
    Field(json_schema_extra={"maxLength": 40, "pattern": r"(Z|[-+][0-9]{2}:[0-9]{2})$"}),
]
"""A time with its zone, as RFC 3339."""

Text = Annotated[str, Field(max_length=1024)]
Word = Annotated[str, Field(max_length=128)]


class Model(BaseModel):
    """Base of all API types: camelCase in JSON, immutable, unknown fields ignored.

    Unknown fields are ignored so that an older operator works with a newer CRD. For users the API
    server refuses them (`fieldValidation=Strict`).
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return the object itself: it is immutable, and pydantic copies defaults at each parse."""
        return self

    def plain(self) -> dict[str, Any]:
        """Return the JSON form: camelCase names, without null fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


M = TypeVar("M", bound=type[BaseModel])

Rules = tuple[tuple[str, str], ...]
"""CEL expressions, each with the message of what it refuses."""


def cel(expression: str, message: str, *shown: str) -> Callable[[M], M]:
    """Attach a CEL rule to a type. Rules are written to the CRD in source order.

    The message includes the values of the fields in `shown`, because the API server prints the
    value of an invalid string but not of an invalid object. These fields must be strings (the cost
    of `string()` of a number cannot be estimated) and present whenever the rule fails.
    """
    validation = {"rule": expression, "message": message}
    if shown:
        leads = [f"{message} (", *[", "] * (len(shown) - 1)]
        values = [
            f"{json.dumps(f'{lead}{field}: ')} + self.{field}"
            for lead, field in zip(leads, shown, strict=True)
        ]
        validation["messageExpression"] = " + ".join([*values, '")"'])

    return _attached(validation)


def cel_rules(*rules: tuple[str, str]) -> Callable[[M], M]:
    """Attach CEL rules, each an expression and its message, in this order."""
    return _attached(*({"rule": rule, "message": message} for rule, message in rules))


def _attached(*validations: dict[str, str]) -> Callable[[M], M]:
    def attach(model: M) -> M:
        extra = model.model_config.get("json_schema_extra")
        known: dict[str, Any] = dict(extra) if isinstance(extra, dict) else {}
        # Decorators run from the lowest one up.
        rules = [*validations, *known.get(VALIDATIONS, [])]
        model.model_config["json_schema_extra"] = {**known, VALIDATIONS: rules}
        model.model_rebuild(force=True)
        return model

    return attach


def immutable_but(exempt: str, message: str) -> Callable[[M], M]:
    """Attach a CEL rule that refuses a change of any field but one.

    Every field of the type is compared, so one that is added later is immutable too.
    """

    def attach(model: M) -> M:
        parts = []
        fields: dict[str, FieldInfo] = model.model_fields  # type: ignore[call-overload]
        for name, field in fields.items():
            new, old = f"self.{field.alias}", f"oldSelf.{field.alias}"
            if name != exempt and field.is_required():
                parts.append(f"{new} == {old}")
            elif name != exempt:
                parts.append(f"(has({new}) ? has({old}) && {new} == {old} : !has({old}))")
        return cel(" && ".join(parts), message)(model)

    return attach


def timestamp(moment: datetime) -> str:
    """Format a time as the Kubernetes API does: RFC 3339, UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
