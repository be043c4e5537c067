"""Looks for new data: reads what is there, cuts a window and freezes it, or says what is missing.

Runs without a GPU and often, so it reads no partition that is behind the cursor or not complete.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from springtide_api.contract import ProbeOutput, WindowFound
from springtide_api.schema import duration
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.partitions import micros, moment, named, undelivered
from springtide_trainer.data.snapshots import store
from springtide_trainer.data.snapshots.freeze import freeze
from springtide_trainer.data.source.files import URI, pieces
from springtide_trainer.data.source.stream import begun, read_index
from springtide_trainer.data.windows.new_data import Ask, Known, complete_prefix
from springtide_trainer.data.windows.window import Nothing, plan
from springtide_trainer.errors import Refused
from springtide_trainer.storage import uri_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from springtide_api.contract import ProbeInput, RunFile
    from springtide_api.data_spec import Data
    from springtide_api.generation import Recipe
    from springtide_trainer.data.partitions import Span
    from springtide_trainer.data.snapshots.freeze import Frozen
    from springtide_trainer.data.source.files import Piece
    from springtide_trainer.data.source.stream import Stream
    from springtide_trainer.data.windows.window import Plan
    from springtide_trainer.storage import Home

log = logging.getLogger(__name__)

_LARGEST = 3000
"""Bytes of an answer: with what wraps it, it must fit a termination message of 4096."""
_MOST_NAMES = 200
MOST_GAPS = 32
"""Missing partitions that are reported at once; what comes after them waits."""


def probe(run: RunFile, home: Home, tmp: Path) -> ProbeOutput:
    """Find the next window and freeze its rows.

    Args:
        run: The run file, with `probe` set.
        home: Where frozen rows are kept.
        tmp: A folder of this pod's own on the same file system.

    Raises:
        Refused: the data cannot be read or may not be frozen.
    """
    if run.probe is None:
        raise Refused("InvalidRunFile", "a probe needs the block probe in run.json")
    recipe = run.recipe
    Preprocess.of(recipe)
    ask = _ask(recipe, run.probe)
    try:
        found = pieces(recipe.data)
        known, ask = _known(found, recipe.data, ask)
        stream, known = _read(found, known, recipe.data, ask, run.probe.now)
        log.info("read", extra={"files": len(found), "rows": len(stream.rows.moment)})
        stream, planned = _plan(stream, known, ask, found, recipe.data)
    except PermissionError as wrong:
        hint = "our pods run without root; make it readable for others, or for their group"
        raise Refused("DataNotReadable", f"{wrong.filename!r}: {hint}", URI) from wrong
    if isinstance(planned, Nothing):
        said = _nothing(planned, recipe, paths=len(found))
    else:
        said = _freeze(stream, planned, recipe, ask, home=home, tmp=tmp)
    if run.probe.referenced is not None:
        store.sweep(home, run.probe.referenced, tmp)
    return _with_gaps(said, known, ask)


def _known(found: Sequence[Piece], data: Data, ask: Ask) -> tuple[list[Known], Ask]:
    """List the partitions that paths name, with those that the calendar misses among them.

    A missing one that was waited for long enough is left out like a quarantined one, and reported.
    What comes after the first that is still waited for is not new, so that no more are listed.
    """
    there = [Known(piece.span, piece.marked) for piece in found if piece.span is not None]
    period = data.source.partition.period
    missing: list[Known] = []
    given_up: list[Span] = []
    for span in undelivered([one.span for one in there], ask.cursor, period):
        one = Known(span, delivered=False)
        if ask.aside(one):
            continue
        missing.append(one)
        if not ask.given_up(one) or len(given_up) == MOST_GAPS:
            break
        given_up.append(span)
    known = sorted([*there, *missing], key=lambda each: each.span)
    return known, replace(ask, quarantined=(*ask.quarantined, *given_up))


def _with_gaps(said: ProbeOutput, known: Sequence[Known], ask: Ask) -> ProbeOutput:
    """Report the partitions that were given up, for the operator to quarantine."""
    gaps = [one.span.name for one in known if ask.given_up(one)][:MOST_GAPS]
    if not gaps:
        return said
    message = f"{said.message}; not delivered within data.window.maxGap: {', '.join(gaps)}"
    return _fitting(said.model_copy(update={"gaps": gaps, "message": message[:1000]}))


def _read(
    found: Sequence[Piece], known: list[Known], data: Data, ask: Ask, now: datetime
) -> tuple[Stream, list[Known]]:
    """Read the index of the stream, and list its partitions."""
    if data.source.partition.path is None:
        stream = read_index(found, data, now)
        return stream, stream.known(data)
    return read_index(_needed(found, known, ask), data, now), known


def _plan(
    stream: Stream, known: list[Known], ask: Ask, found: Sequence[Piece], data: Data
) -> tuple[Stream, Plan | Nothing]:
    """Cut a window. Its groups are looked for behind the cursor only once there is one."""
    planned = plan(stream.rows, known, ask)
    if isinstance(planned, Nothing) or stream.rows.group is None or ask.cursor is None:
        return stream, planned
    behind = [
        piece
        for piece in found
        if piece.span is not None
        and piece.span.end <= ask.cursor
        and not ask.aside(Known(piece.span))
    ]
    rows = replace(stream.rows, begun=begun(stream, behind, data, planned.holdout))
    stream = replace(stream, rows=rows)
    return stream, plan(rows, known, ask)


def _ask(recipe: Recipe, asked: ProbeInput) -> Ask:
    """Put together what the window must know."""
    window = recipe.data.window
    cursor = asked.cursor or recipe.model.initial.trained_through
    begin = asked.candidate_trained_through
    return Ask(
        now=micros(asked.now),
        window=window,
        holdout=recipe.data.holdout,
        delay=max(_micros(window.watermark_delay), _micros(window.label_delay)),
        cursor=micros(cursor) if cursor else None,
        judge_from=micros(begin) if begin else None,
        quarantined=tuple(named(name) for name in asked.quarantined),
        released=tuple(named(name) for name in asked.released),
    )


def _micros(text: str) -> int:
    return int(duration(text).total_seconds() * 1_000_000)


def _needed(found: Sequence[Piece], known: Sequence[Known], ask: Ask) -> list[Piece]:
    """Leave out partitions that are behind the cursor, not complete, or quarantined."""
    done, _ = complete_prefix(known, ask)
    wanted = {span.start for span in done}
    wanted |= {
        one.span.start
        for one in known
        for span in ask.released
        if span.start <= one.span.start < span.end and ask.complete(one)
    }
    return [piece for piece in found if piece.span and piece.span.start in wanted]


def _nothing(planned: Nothing, recipe: Recipe, paths: int) -> ProbeOutput:
    message = planned.message
    if paths == 0:
        source = recipe.data.source
        message += f"; nothing below {source.uri} matches {source.partition.path or 'a data file'}"
    return ProbeOutput(
        reason=planned.reason,
        message=message[:1000],
        pending_rows=planned.pending,
        newest_partition=planned.newest,
    )


def _freeze(
    stream: Stream, planned: Plan, recipe: Recipe, ask: Ask, *, home: Home, tmp: Path
) -> ProbeOutput:
    """Freeze a window and commit it, unless it lies there already."""
    folder = tmp / "rows"
    folder.mkdir()
    frozen = freeze(stream, planned, recipe=recipe, ask=ask, folder=folder)
    kinds = frozen.labels["train"]
    if planned.bounds.trained_through is not None and len(kinds) < 2:
        label, count = kinds.most_common(1)[0]
        message = (
            f"all {count:,} training rows have the label {label!r}: 1 of at least 2 labels "
            "(data.source.columns.label); newer rows join the next look, or mend the column"
        )
        return ProbeOutput(
            reason="NotEnoughData",
            message=message,
            pending_rows=planned.pending,
            newest_partition=planned.newest,
        )
    final = store.commit(folder, home, frozen.digest)
    window = _window(stream, planned, frozen, recipe, uri=uri_of(final))
    return _fitting(
        ProbeOutput(
            reason="WindowReady",
            message=_ready(window),
            pending_rows=planned.pending,
            newest_partition=planned.newest,
            window=window,
        )
    )


def _window(
    stream: Stream, planned: Plan, frozen: Frozen, recipe: Recipe, *, uri: str
) -> WindowFound:
    bounds, labels = planned.bounds, recipe.model.labels
    judged = frozen.labels["holdout"]
    return WindowFound(
        manifest=uri,
        digest=frozen.digest,
        from_=None if bounds.start is None else moment(bounds.start),
        to=None if bounds.trained_through is None else moment(bounds.trained_through),
        holdout_from=moment(bounds.judged_from),
        holdout_to=moment(bounds.judged_to),
        partitions=list(planned.partitions),
        holdout_partitions=list(planned.holdout_partitions),
        rows=int(np.count_nonzero(planned.train)),
        reserved_rows=int(np.count_nonzero(planned.reserved)),
        holdout_rows=int(np.count_nonzero(planned.holdout)),
        holdout_entities=len(np.unique(stream.rows.entity[planned.holdout])),
        holdout_positives=(
            judged[labels[1]] if len(labels) == 2 else min(judged[label] for label in labels)
        ),
    )


def _ready(window: WindowFound) -> str:
    judges = (
        f"{window.holdout_rows:,} rows of {window.holdout_entities:,} entities judge "
        f"({_range(window.holdout_partitions)})"
    )
    if window.to is None:
        return judges
    return f"{window.rows:,} rows train ({_range(window.partitions)}), {judges}"


def _range(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _fitting(output: ProbeOutput) -> ProbeOutput:
    """Shorten lists of partitions to their newest, until the answer fits; the manifest has all."""
    window = output.window
    most = _MOST_NAMES
    while window is not None:
        lists = {
            "partitions": window.partitions[-most:],
            "holdout_partitions": window.holdout_partitions[-most:],
        }
        fitting = output.model_copy(update={"window": window.model_copy(update=lists)})
        if most == 1 or len(fitting.model_dump_json(by_alias=True).encode()) <= _LARGEST:
            return fitting
        most = most * 9 // 10
    return output
