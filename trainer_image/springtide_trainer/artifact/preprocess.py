"""How a row becomes the text that the model reads; part of the artifact, so of its digest.

Trainer, evaluator and server all render through this one type: what is served is what was judged.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pydantic import Field

from springtide_api.schema import Model
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from springtide_api.generation import Recipe

PREPROCESS = "preprocess.json"
_TEMPLATE_FIELD = "spec.data.source.columns.template"
_LABEL_FIELD = "spec.data.source.columns.label"
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

Pair = tuple[str, str | None]
"""The text of an example, and its second text if there is one."""


class Preprocess(Model):
    """Rendering of a row: either text columns, or features through a template."""

    text: str | None = None
    """The user's column that is handed in as `text`."""
    text_pair: str | None = None
    """The user's column that is handed in as `text_pair`."""
    features: list[str] = Field(default_factory=list)
    """Columns that are handed in by their own names and go through the template."""
    template: str | None = None
    max_length: int
    """Tokens kept of each example."""
    labels: list[str]
    """Names of the model's outputs, in order."""

    @staticmethod
    def of(recipe: Recipe) -> Preprocess:
        """Take the rendering from a recipe.

        Raises:
            Refused: the template names a column that is no feature, or the label's column is read.
        """
        columns = recipe.data.source.columns
        if columns.label in {columns.text, columns.text_pair, *columns.features}:
            raise Refused(
                "LabelIsFeature",
                f"column {columns.label!r} is the label and part of the text: the model would read "
                "the answer; remove it from text, textPair and features, or name another label",
                _LABEL_FIELD,
            )
        made = Preprocess(
            text=columns.text,
            text_pair=columns.text_pair,
            features=columns.features,
            template=columns.template,
            max_length=recipe.model.max_length,
            labels=recipe.model.labels,
        )
        made._writer()
        return made

    @staticmethod
    def read(folder: Path) -> Preprocess:
        """Read `preprocess.json` of an artifact that was verified."""
        return Preprocess.model_validate_json((folder / PREPROCESS).read_bytes())

    def write(self, folder: Path) -> None:
        """Write `preprocess.json`, the same bytes for the same rendering."""
        text = json.dumps(self.plain(), ensure_ascii=False, sort_keys=True, indent=1)
        (folder / PREPROCESS).write_text(text + "\n", encoding="utf-8")

    @property
    def inputs(self) -> list[str]:
        """Names that `render` wants: `text` and perhaps `text_pair`, or the features."""
        if self.features:
            return list(self.features)
        return ["text", "text_pair"] if self.text_pair else ["text"]

    def render(self, columns: Mapping[str, Sequence[str]]) -> list[Pair]:
        """Write each row as the model reads it.

        Args:
            columns: A value per row under each name in `inputs`; other names are ignored.

        Raises:
            Refused: a column is missing, or the columns differ in length.
        """
        if missing := [name for name in self.inputs if name not in columns]:
            raise Refused("MissingColumn", f"missing {missing}; the model reads {self.inputs}")
        values = [columns[name] for name in self.inputs]
        if len({len(column) for column in values}) > 1:
            counts = {name: len(columns[name]) for name in self.inputs}
            raise Refused("UnequalColumns", f"columns differ in their number of rows: {counts}")
        if self.features:
            write = self._writer()
            return [(write(row), None) for row in zip(*values, strict=True)]
        if self.text_pair:
            return list(zip(*values, strict=True))
        return [(text, None) for text in values[0]]

    def _writer(self) -> Callable[[Sequence[str]], str]:
        """Compile the template: fixed texts, and between them positions of features."""
        if self.template is None:
            return lambda row: "; ".join(
                f"{name}: {value}" for name, value in zip(self.features, row, strict=True)
            )
        pieces = list(_pieces(self.template, self.features))
        return lambda row: "".join(
            row[piece] if isinstance(piece, int) else piece for piece in pieces
        )


def _pieces(template: str, features: list[str]) -> list[str | int]:
    """Split a template once, so that braces in a row's values mean nothing."""
    pieces: list[str | int] = []
    end = 0
    for match in _PIECE.finditer(template):
        pieces.append(template[end : match.start()])
        end = match.end()
        if match[0] in {"{{", "}}"}:
            pieces.append(match[0][0])
        elif match[1] in features:
            pieces.append(features.index(match[1]))
        else:
            raise Refused(
                "InvalidTemplate",
                f"{match[0]!r} at character {match.start()} of the template is none of the "
                f"features {features}; write one of them in braces, or double a literal brace",
                _TEMPLATE_FIELD,
            )
    return [*pieces, template[end:]]
