"""The command `pick`: scores the rows, chooses some, and writes them for people to label."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from springtide_api.schema import is_digest
from springtide_trainer.errors import Refused
from springtide_trainer.local.display import display

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from springtide_trainer.artifact.models import Scorer
    from springtide_trainer.local.picking.rows import Rows
    from springtide_trainer.local.picking.strategies import Picked

STRATEGIES = ("Entropy", "Margin", "Diverse")
BATCH = {"cpu": 32, "cuda": 128}


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    pick = commands.add_parser("pick", help="choose rows without labels for people to label")
    pick.set_defaults(command=_pick)
    pick.add_argument("model", type=Path, help="the folder of a generation's weights")
    pick.add_argument("rows", type=Path, help="a file of rows: CSV, JSONL or Parquet")
    pick.add_argument("--count", type=_positive, default=100, help="how many rows; default 100")
    pick.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="Entropy",
        help="Entropy, Margin: the labels that the model is least sure of; Diverse: rows unlike "
        "all others; default Entropy",
    )
    pick.add_argument("--labelled", type=Path, help="Diverse: rows that have labels already")
    pick.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a column that the output has too, such as an id; may be repeated",
    )
    pick.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="a new .csv or .jsonl file"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _pick(given: argparse.Namespace) -> int:
    """Pick rows, and write them."""
    from springtide_trainer.artifact.models import load
    from springtide_trainer.local.picking import rows

    if given.labelled and given.strategy != "Diverse":
        raise Refused("UnsupportedOption", "--labelled belongs to --strategy Diverse; remove it")
    scorer, shown = load(given.model, _digest(given.model)), display()
    if scorer.preprocess.hides_tokens:
        message = f"{given.model} is of task MaskedLM, which needs no labels; name another model"
        raise Refused("UnsupportedOption", message)
    rows.check_output(given.output, given.keep, scorer.preprocess)
    found = rows.read(given.rows, scorer.preprocess, given.keep)
    with shown.stage("pick"):
        picked, predictions = _picked(given, scorer, found)
    lines = _lines(found, picked, predictions, scorer)
    names = ["pick", "row", "score", "prediction", *found.columns, "label"]
    rows.write(given.output, lines, names)
    beside = f", {found.repeated:,} repeated" if found.repeated else ""
    beside += f", {found.incomplete:,} incomplete" if found.incomplete else ""
    text = f"{len(picked.rows):,} of {len(found.numbers):,} rows by {given.strategy}"
    shown.done("pick", f"{text}{beside and f' (left out{beside[1:]})'}: {given.output}")
    return 0


def _digest(folder: Path) -> str:
    """Return the digest that the name of a folder says, else that of its own manifest.

    Raises:
        Refused: it is no folder of weights.
    """
    from springtide_trainer.artifact.manifest import MANIFEST
    from springtide_trainer.storage import file_digest

    named = folder.resolve().name.replace("-", ":", 1)
    if is_digest(named):
        return named
    if not (folder / MANIFEST).is_file():
        message = (
            f"{folder} has no {MANIFEST}; name a folder below artifacts/ of the storage, such as "
            "springtide/shop/recommender/artifacts/sha256-..."
        )
        raise Refused("MissingModel", message)
    return f"sha256:{file_digest(folder / MANIFEST)}"


def _picked(
    given: argparse.Namespace, scorer: Scorer, found: Rows
) -> tuple[Picked, NDArray[np.float32] | None]:
    """Return the picks, and the predictions of all rows where there are some.

    Raises:
        Refused: the strategy needs probabilities, and the task has none.
    """
    from springtide_trainer.local.picking import rows, strategies
    from springtide_trainer.local.picking.embeddings import embed
    from springtide_trainer.tasks.classification import Classification
    from springtide_trainer.tasks.multi_label import MultiLabel

    size = BATCH.get(scorer.model.device.type, 32)
    if given.strategy == "Diverse":
        labelled = rows.read(given.labelled, scorer.preprocess) if given.labelled else None
        total = len(found.numbers) + (len(labelled.numbers) if labelled else 0)
        parts, done = [], 0
        for part in (found, labelled):
            if part is not None:
                tokens, observe = _tokens(scorer, part), _observer(done, total)
                parts.append(embed(scorer, tokens, batch_size=size, observe=observe))
                done += len(part.numbers)
        known = parts[1] if labelled else None
        return strategies.diverse(parts[0], given.count, labelled=known), None
    if not isinstance(scorer.task, Classification):
        message = (
            f"--strategy {given.strategy} needs probabilities of labels, and model.task "
            f"{scorer.preprocess.task} has none; use --strategy Diverse"
        )
        raise Refused("UnsupportedOption", message, "--strategy")
    predictions = _predictions(scorer, found, size)
    choose = strategies.by_entropy if given.strategy == "Entropy" else strategies.by_margin
    exclusive = not isinstance(scorer.task, MultiLabel)
    return choose(predictions, given.count, exclusive=exclusive), predictions


def _tokens(scorer: Scorer, found: Rows) -> Any:
    from springtide_trainer.artifact.tokens import tokenize

    pairs = scorer.preprocess.render(found.inputs)
    return tokenize(scorer.tokenizer, pairs, scorer.preprocess.max_length)


def _predictions(scorer: Scorer, found: Rows, size: int) -> NDArray[np.float32]:
    import numpy as np

    from springtide_trainer.artifact.models import predict

    observe = _observer(0, len(found.numbers))
    return predict(
        scorer.task,
        scorer.model,
        _tokens(scorer, found),
        rows=np.arange(len(found.numbers)),
        batch_size=size,
        observe=observe,
    )


def _observer(before: int, total: int) -> Callable[[int], None]:
    from springtide_trainer.progress import Progress

    progress = Progress(None, first=0, total=total)
    return lambda rows: progress.observe(before + rows, float("nan"))


def _lines(
    found: Rows, picked: Picked, predictions: NDArray[np.float32] | None, scorer: Scorer
) -> Iterator[dict[str, object]]:
    """Return a line of the output for each pick."""
    for number, (row, score) in enumerate(zip(picked.rows, picked.scores, strict=True), start=1):
        yield {
            "pick": number,
            "row": found.numbers[row],
            "score": round(float(score), 6),
            "prediction": "" if predictions is None else _label(scorer, predictions[row]),
            **{name: column[row] for name, column in found.columns.items()},
            "label": "",
        }


def _label(scorer: Scorer, probabilities: NDArray[np.float32]) -> str:
    """Return what the model would say: the most probable label, or all labels of a row."""
    from springtide_trainer.tasks.multi_label import THRESHOLD, MultiLabel

    if isinstance(scorer.task, MultiLabel):
        has = [
            name
            for name, chance in zip(scorer.task.outputs, probabilities, strict=True)
            if chance >= THRESHOLD
        ]
        return scorer.task.separator.join(has)
    return scorer.task.outputs[int(probabilities.argmax())]
