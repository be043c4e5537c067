"""Renders rows as the texts that the model reads. Part of the artifact, and so of its digest.

Training, evaluation and server all use this type, so the served model is the evaluated one.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pydantic import Field

from springtide_api.schema import Model
from springtide_api.update.task import (
    CausalLMOptions,
    ClassificationOptions,
    EmbeddingOptions,
    RankingOptions,
    RegressionOptions,
)
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from springtide_api.generation.spec import Recipe

PREPROCESS = "preprocess.json"
CLASSIFICATION = "Classification"
EMBEDDING = "Embedding"
CAUSAL_LM = "CausalLM"
MASKED_LM = "MaskedLM"
_COLUMNS = "spec.data.source.columns"
_TEMPLATE_FIELD = f"{_COLUMNS}.template"
_LABEL_FIELD = f"{_COLUMNS}.label"
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

Pair = tuple[str, str | None]
"""The text of an example, and its second text or None."""


class Preprocess(Model):
    """Rendering of a row: either text columns, or features through a template."""

    text: str | None = None
    """The source column passed as `text`."""
    text_pair: str | None = None
    """The source column passed as `text_pair`."""
    features: list[str] = Field(default_factory=list)
    """Columns passed by their own names and rendered by the template."""
    template: str | None = None
    max_length: int
    """Maximum number of tokens of an example."""
    task: str = CLASSIFICATION
    """The task of the model. Not written for Classification."""
    labels: list[str] | None = None
    """Labels of the model's outputs, in order; None for a task without label names."""
    classification: ClassificationOptions | None = None
    """Options of Classification, if labels do not exclude each other."""
    regression: RegressionOptions | None = None
    """Options of Regression, with location and spread once they are fixed."""
    ranking: RankingOptions | None = None
    """Options of task Ranking."""
    embedding: EmbeddingOptions | None = None
    """Options of Embedding, with the length of vectors once it is fixed."""
    causal_lm: CausalLMOptions | None = None
    """Options of CausalLM."""

    @staticmethod
    def of(recipe: Recipe) -> Preprocess:
        """Return the preprocessing of a recipe.

        Raises:
            Refused: the template names a column that is not a feature, or the label is an input or
                is not named.
        """
        columns, options = recipe.data.source.columns, recipe.model.classification
        if columns.label is None and recipe.model.task != MASKED_LM:
            message = f"task {recipe.model.task} needs a label; name its column"
            raise Refused("MissingColumn", message, _LABEL_FIELD)
        if columns.label and columns.label in {columns.text, columns.text_pair, *columns.features}:
            raise Refused(
                "LabelIsFeature",
                f"column {columns.label!r} is both the label and an input of the model (label "
                "leakage); remove it from text, textPair and features, or name another label",
                _LABEL_FIELD,
            )
        made = Preprocess(
            text=columns.text,
            text_pair=columns.text_pair,
            features=columns.features,
            template=columns.template,
            max_length=recipe.model.max_length,
            task=recipe.model.task,
            labels=recipe.model.labels,
            classification=options if options and options.multi_label else None,
            regression=recipe.model.regression,
            ranking=recipe.model.ranking,
            embedding=_embedding(recipe),
            causal_lm=_causal_lm(recipe),
        )
        made._writer()
        return made

    @staticmethod
    def read(folder: Path) -> Preprocess:
        """Read `preprocess.json` of a verified artifact."""
        return Preprocess.model_validate_json((folder / PREPROCESS).read_bytes())

    def write(self, folder: Path) -> None:
        """Write `preprocess.json`; equal values give equal bytes."""
        written = self.plain()
        if self.task == CLASSIFICATION:
            # Artifacts from before there was a second task have no such key, and keep their digest.
            del written["task"]
        text = json.dumps(written, ensure_ascii=False, sort_keys=True, indent=1)
        (folder / PREPROCESS).write_text(text + "\n", encoding="utf-8")

    @property
    def inputs(self) -> list[str]:
        """Names of the columns that `render` needs: `text` and `text_pair`, or the features.

        Of Embedding, `text`: the queries.
        """
        if self.features:
            return list(self.features)
        if self.embedding:
            return ["text"]
        return ["text", "text_pair"] if self.text_pair else ["text"]

    @property
    def reads_labels(self) -> bool:
        """Whether the model reads the label of a row, too: the response of a prompt."""
        return self.causal_lm is not None

    @property
    def hides_tokens(self) -> bool:
        """Whether tokens of a row are hidden, for the model to predict them."""
        return self.task == MASKED_LM

    @property
    def predicts_tokens(self) -> bool:
        """Whether what a row is evaluated by are tokens: of a response, or hidden ones."""
        return self.reads_labels or self.hides_tokens

    def render(
        self, columns: Mapping[str, Sequence[str]], labels: Sequence[str] | None = None
    ) -> list[Pair]:
        """Render each row as the text or pair of texts that the model reads.

        Args:
            columns: One value per row for each name in `inputs`; other names are ignored.
            labels: The labels of the rows, where the model reads them; None: it reads prompts.

        Raises:
            Refused: a column is missing, or the columns differ in length.
        """
        prompts = self._render(columns)
        if labels is None:
            return prompts
        return [(text, label) for (text, _), label in zip(prompts, labels, strict=True)]

    def _render(self, columns: Mapping[str, Sequence[str]]) -> list[Pair]:
        if missing := [name for name in self.inputs if name not in columns]:
            raise Refused("MissingColumn", f"missing {missing}; the model reads {self.inputs}")
        values = [columns[name] for name in self.inputs]
        if len({len(column) for column in values}) > 1:
            counts = {name: len(columns[name]) for name in self.inputs}
            raise Refused("UnequalColumns", f"columns differ in their number of rows: {counts}")
        if self.features:
            write = self._writer()
            return [(write(row), None) for row in zip(*values, strict=True)]
        if self.embedding:
            return [(self.embedding.vectors.query_prefix + text, None) for text in values[0]]
        if self.text_pair:
            return list(zip(*values, strict=True))
        return [(text, None) for text in values[0]]

    def render_documents(self, texts: Sequence[str]) -> list[Pair]:
        """Render the documents of Embedding, for the model of documents."""
        assert self.embedding is not None
        return [(self.embedding.vectors.document_prefix + text, None) for text in texts]

    def _writer(self) -> Callable[[Sequence[str]], str]:
        """Compile the template to literal texts and positions of features."""
        if self.template is None:
            return lambda row: "; ".join(
                f"{name}: {value}" for name, value in zip(self.features, row, strict=True)
            )
        pieces = list(_pieces(self.template, self.features))
        return lambda row: "".join(
            row[piece] if isinstance(piece, int) else piece for piece in pieces
        )


def _embedding(recipe: Recipe) -> EmbeddingOptions | None:
    """Return the options of Embedding; None for another task."""
    if recipe.model.task != EMBEDDING:
        return None
    columns = recipe.data.source.columns
    if columns.text is None or columns.text_pair is None:
        raise Refused(
            "MissingColumn",
            "task Embedding needs the columns of the query and of the document; name "
            f"{_COLUMNS}.text and textPair",
            f"{_COLUMNS}.textPair",
        )
    return recipe.model.embedding or EmbeddingOptions()


def _causal_lm(recipe: Recipe) -> CausalLMOptions | None:
    """Return the options of CausalLM; None for another task."""
    if recipe.model.task != CAUSAL_LM:
        return None
    if recipe.data.source.columns.text_pair is not None:
        raise Refused(
            "UnsupportedOption",
            "task CausalLM has one prompt and one response; remove "
            f"{_COLUMNS}.textPair, or combine several columns by features and template",
            f"{_COLUMNS}.textPair",
        )
    return recipe.model.causal_lm or CausalLMOptions()


def _pieces(template: str, features: list[str]) -> list[str | int]:
    """Split a template once, so that braces in a row's values have no meaning."""
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
                f"{match[0]!r} at character {match.start()} of the template is not one of the "
                f"features {features}; write a feature in braces, or double a literal brace",
                _TEMPLATE_FIELD,
            )
    return [*pieces, template[end:]]
