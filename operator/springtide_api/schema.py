"""The building blocks of both kinds: a base model, checked strings, and CEL rules beside the types.

No floating point numbers travel through the Kubernetes API: decimals are strings, durations are
written as Go writes them, digests are `sha256:` and 64 hex digits.
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

VALIDATIONS = "x-kubernetes-validations"


def rule(expression: str, message: str) -> JsonDict:
    """Return the schema keyword that attaches one CEL rule to a field."""
    return {VALIDATIONS: [{"rule": expression, "message": message}]}


def is_digest(text: str | None) -> bool:
    """Whether a text is a digest, such as `Digest` asks for."""
    return re.fullmatch(r"sha256:[0-9a-f]{64}", text or "") is not None


_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> timedelta:
    """Read a Go duration such as "1h30m".

    Raises:
        ValueError: the text is no duration.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration; write it like 90s, 6h or 1h30m")
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))


def one_line(text: str) -> str:
    """Escape what would break a line or a terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


Line = Annotated[str, AfterValidator(one_line)]
"""A text on one line, whatever was given."""

_LONGEST = "must be at most 87600h (10 years)"
_INSIDE = "must not contain the folder '..'; write where it leads to"


def _at_most_ten_years(text: str) -> str:
    if duration(text) > timedelta(hours=87600):
        raise ValueError(_LONGEST)
    return text


def _inside(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError(_INSIDE)
    return path


Inside = (
    AfterValidator(_inside),
    Field(json_schema_extra=rule("!self.matches('(^|/)[.][.](/|$)')", _INSIDE)),
)
"""What keeps a path below the folder that it begins in."""

Name = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
"""A name as Kubernetes wants it for a label value or a small object."""

ObjectName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]

LabelValue = Annotated[
    str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")
]
"""A value of a label of Kubernetes."""

_LABEL_KEY = (
    r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
LabelKey = Annotated[str, Field(max_length=317, pattern=_LABEL_KEY)]
"""A key of a label of Kubernetes, such as example.com/pool."""

_KEYS = "keys must be those of labels, such as pool or example.com/pool"


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
"""A number in a string, such as "0.005" or "2e-5". NaN and infinity have no spelling."""

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
"""A duration as Go writes it: "90s", "6h", "1h30m"."""

Digest = Annotated[str, Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]

Uri = Annotated[str, Field(max_length=1024, pattern=r"^file:///[^\s\\]*$"), *Inside]
"""Where something lies. Only `file:///` on a mounted claim for now."""

Time = Annotated[
    AwareDatetime,
    Field(json_schema_extra={"maxLength": 40, "pattern": r"(Z|[-+][0-9]{2}:[0-9]{2})$"}),
]
"""A moment with its zone, as RFC 3339."""

Text = Annotated[str, Field(max_length=1024)]
Word = Annotated[str, Field(max_length=128)]


class Model(BaseModel):
    """Base of every type: camelCase outside, frozen, and lenient to fields it does not know.

    An older operator must survive a newer CRD, so unknown fields are ignored here; the API server
    refuses them for people (`fieldValidation=Strict`).
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return the object itself: nothing changes it, and defaults are copied at each parse."""
        return self

    def plain(self) -> dict[str, Any]:
        """Return what JSON would hold: camelCase names, unset and null fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


M = TypeVar("M", bound=type[BaseModel])


def cel(expression: str, message: str, *shown: str) -> Callable[[M], M]:
    """Attach one CEL rule to a type; it lands in the CRD at that type's place, in source order.

    The values of the fields in `shown` are told with the message, for the API server shows the
    value of a refused text, but not of a refused block. They must be texts (of what `string()` of
    a number costs it has no idea) and present whenever the rule fails.
    """
    validation = {"rule": expression, "message": message}
    if shown:
        leads = [f"{message} (", *[", "] * (len(shown) - 1)]
        values = [
            f"{json.dumps(f'{lead}{field}: ')} + self.{field}"
            for lead, field in zip(leads, shown, strict=True)
        ]
        validation["messageExpression"] = " + ".join([*values, '")"'])

    def attach(model: M) -> M:
        extra = model.model_config.get("json_schema_extra")
        known: dict[str, Any] = dict(extra) if isinstance(extra, dict) else {}
        # Decorators run from the lowest one up.
        rules = [validation, *known.get(VALIDATIONS, [])]
        model.model_config["json_schema_extra"] = {**known, VALIDATIONS: rules}
        model.model_rebuild(force=True)
        return model

    return attach


def timestamp(moment: datetime) -> str:
    """Write a moment as the Kubernetes API does: RFC 3339, UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
