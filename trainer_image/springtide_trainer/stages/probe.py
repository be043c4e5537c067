"""Probes for new data: selects a window and freezes its rows, or reports what is missing.

Probes run often and without a GPU, so they only read complete partitions after the cursor.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from springtide_api.schema import duration
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.partitions import micros, missing_partitions, named
from springtide_trainer.data.snapshots import store
from springtide_trainer.data.snapshots.freeze import freeze
from springtide_trainer.data.snapshots.group_checks import check_window
from springtide_trainer.data.source.files import URI, file_sets
from springtide_trainer.data.source.index import read_index
from springtide_trainer.data.source.index_cache import IndexCache
from springtide_trainer.data.source.stream import groups_seen_before
from springtide_trainer.data.source.values import SERVED
from springtide_trainer.data.windows.boundaries import next_holdout
from springtide_trainer.data.windows.new_data import PartitionState, WindowRequest, complete_prefix
from springtide_trainer.data.windows.window import NoWindow, WindowSplit, select_window
from springtide_trainer.errors import Refused
from springtide_trainer.stages import left_over, probe_output
from springtide_trainer.storage import uri_of
from springtide_trainer.tasks.table import task_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from springtide_api.contract import ProbeInput, ProbeOutput, RunFile
    from springtide_api.generation.spec import Recipe
    from springtide_api.update.data import Data
    from springtide_trainer.data.partitions import Span
    from springtide_trainer.data.source.files import FileSet
    from springtide_trainer.data.source.stream import Stream
    from springtide_trainer.storage import Home

log = logging.getLogger(__name__)

MAX_GAPS = 32
"""Maximum missing partitions in one report; partitions after them wait for the next probe."""


def probe(run: RunFile, home: Home, tmp: Path) -> ProbeOutput:
    """Find the next window and freeze its rows.

    Args:
        run: The run file, with `probe` set.
        home: The storage of the update.
        tmp: A scratch folder of this pod on the same file system.

    Raises:
        Refused: the data cannot be read or is not valid.
    """
    if run.probe is None:
        raise Refused("InvalidRunFile", "stage probe needs the block probe in run.json")
    Preprocess.of(run.recipe)
    left_over.delete(run, home, tmp)
    unlabelled = run.recipe.training.pseudo_labels is not None
    cache = IndexCache(home.path, run.recipe.data, run.probe.now, tmp, unlabelled=unlabelled)
    try:
        return _probe(run.recipe, run.probe, home, tmp, cache=cache)
    except Refused as refused:
        if refused.failure.reason != "DataChanged" or not cache.found:
            raise
    log.warning("a file changed after its index was kept: every file is read again")
    cache.collect(every=True)
    for left in (tmp / "rows", tmp / "runs"):
        shutil.rmtree(left, ignore_errors=True)
    return _probe(run.recipe, run.probe, home, tmp)


def _probe(
    recipe: Recipe, given: ProbeInput, home: Home, tmp: Path, *, cache: IndexCache | None = None
) -> ProbeOutput:
    request = _request(recipe, given)
    try:
        found = file_sets(recipe.data)
        if request.held_back and request.through is None and _placed_by_rows(recipe.data):
            request = _up_to_the_next_holdout(recipe, given, request, found, cache=cache)
        partitions, request = _partitions(found, recipe.data, request)
        request = request.holding_back(partitions)
        stream, partitions = _read(found, partitions, request, recipe, given, cache=cache)
        request = request.holding_back(partitions)
        extra = {"files": len(found), "rows": len(stream.rows.moment)}
        log.info("index read", extra=extra | {"kept": cache.found if cache else 0})
        stream, selected = _select(stream, partitions, request, found, recipe.data)
    except PermissionError as wrong:
        hint = "the pods do not run as root; make it readable for all users, or for their group"
        raise Refused("DataNotReadable", f"{wrong.filename!r}: {hint}", URI) from wrong
    if isinstance(selected, NoWindow):
        output = probe_output.no_window(selected, recipe, paths=len(found))
    else:
        output = _freeze(stream, selected, recipe, request, home=home, tmp=tmp)
    if given.referenced is not None:
        store.sweep(home, given.referenced, tmp)
    gaps = [one.span.name for one in partitions if request.gap_expired(one)][:MAX_GAPS]
    return probe_output.with_gaps(output, gaps) if gaps else output


def _read(
    found: Sequence[FileSet],
    partitions: list[PartitionState],
    request: WindowRequest,
    recipe: Recipe,
    given: ProbeInput,
    *,
    cache: IndexCache | None,
) -> tuple[Stream, list[PartitionState]]:
    """Read the index of what a request may read; return it with its partitions."""
    by_path = recipe.data.source.partition.path is not None
    read = _to_read(found, partitions, request) if by_path else found
    unlabelled = recipe.training.pseudo_labels is not None
    stream = read_index(read, recipe.data, given.now, cache, unlabelled=unlabelled)
    return stream, partitions if by_path else stream.partitions(recipe.data)


def _placed_by_rows(data: Data) -> bool:
    """Return whether the rows, not only their partitions, decide where a holdout begins."""
    tail = data.holdout.strategy.latest_partitions is None
    return tail or data.window.max_rows is not None


def _up_to_the_next_holdout(
    recipe: Recipe,
    given: ProbeInput,
    request: WindowRequest,
    found: Sequence[FileSet],
    *,
    cache: IndexCache | None,
) -> WindowRequest:
    """Return the request whose `through` leaves out the holdout of the next run of a cluster.

    That run begins at the cursor of the initial model, whatever was accepted here.
    """
    since = recipe.model.initial.trained_through
    cluster = replace(request, cursor=micros(since) if since else None, held_back=0)
    partitions, cluster = _partitions(found, recipe.data, cluster)
    stream, partitions = _read(found, partitions, cluster, recipe, given, cache=cache)
    return replace(request, through=next_holdout(stream.rows, partitions, cluster))


def _partitions(
    found: Sequence[FileSet], data: Data, request: WindowRequest
) -> tuple[list[PartitionState], WindowRequest]:
    """List the partitions of the paths, and the missing ones between them.

    A missing partition whose wait is over is skipped like a quarantined one, and reported.
    Partitions after the first that is still waited for are not new, so the list ends there.
    """
    delivered = [
        PartitionState(file_set.span, file_set.marked)
        for file_set in found
        if file_set.span is not None
    ]
    period = data.source.partition.period
    missing: list[PartitionState] = []
    expired: list[Span] = []
    for span in missing_partitions([one.span for one in delivered], request.cursor, period):
        one = PartitionState(span, delivered=False)
        if request.excluded(one):
            continue
        missing.append(one)
        if not request.gap_expired(one) or len(expired) == MAX_GAPS:
            break
        expired.append(span)
    partitions = sorted([*delivered, *missing], key=lambda each: each.span)
    return partitions, replace(request, quarantined=(*request.quarantined, *expired))


def _select(
    stream: Stream,
    partitions: list[PartitionState],
    request: WindowRequest,
    found: Sequence[FileSet],
    data: Data,
) -> tuple[Stream, WindowSplit | NoWindow]:
    """Select a window, and again without holdout rows whose group began before the cursor.

    Without them it may be lengthened, by rows whose groups are not known yet.
    """
    selected = select_window(stream.rows, partitions, request)
    if stream.rows.group is None or request.cursor is None:
        return stream, selected
    earlier = [
        file_set
        for file_set in found
        if file_set.span is not None
        and file_set.span.end <= request.cursor
        and not request.excluded(PartitionState(file_set.span))
    ]
    known = np.zeros(len(stream.rows.moment), dtype=bool)
    before = known
    while isinstance(selected, WindowSplit) and (selected.holdout & ~known).any():
        known = known | selected.holdout
        before = before | groups_seen_before(stream, earlier, data, selected.holdout)
        stream = replace(stream, rows=replace(stream.rows, group_seen_before=before))
        selected = select_window(stream.rows, partitions, request)
    return stream, selected


def _request(recipe: Recipe, given: ProbeInput) -> WindowRequest:
    """Return the cursor, the clock and the settings that select the window."""
    window = recipe.data.window
    if given.excluded_generations and not recipe.data.source.columns.served_generation:
        message = "no column says which generation served a row, so its rows cannot be left out"
        raise Refused("MissingColumn", message, SERVED)
    cursor = given.cursor or recipe.model.initial.trained_through
    holdout_from = given.candidate_trained_through
    return WindowRequest(
        now=micros(given.now),
        window=window,
        holdout=recipe.data.holdout,
        delay=max(_micros(window.watermark_delay), _micros(window.label_delay)),
        cursor=micros(cursor) if cursor else None,
        holdout_from=micros(holdout_from) if holdout_from else None,
        quarantined=tuple(named(name) for name in given.quarantined),
        released=tuple(named(name) for name in given.released),
        excluded_generations=tuple(given.excluded_generations),
        through=micros(given.through) if given.through else None,
        held_back=given.held_back,
    )


def _micros(text: str) -> int:
    return int(duration(text).total_seconds() * 1_000_000)


def _to_read(
    found: Sequence[FileSet], partitions: Sequence[PartitionState], request: WindowRequest
) -> list[FileSet]:
    """Return the file sets of new complete partitions, and of released ones."""
    complete, _ = complete_prefix(partitions, request)
    starts = {span.start for span in complete}
    starts |= {
        one.span.start
        for one in partitions
        for span in request.released
        if span.start <= one.span.start < span.end and request.complete(one)
    }
    return [file_set for file_set in found if file_set.span and file_set.span.start in starts]


def _freeze(
    stream: Stream,
    split: WindowSplit,
    recipe: Recipe,
    request: WindowRequest,
    *,
    home: Home,
    tmp: Path,
) -> ProbeOutput:
    """Freeze a window and commit it, unless equal rows are already stored."""
    folder, scratch = tmp / "rows", tmp / "runs"
    folder.mkdir()
    scratch.mkdir()
    frozen = freeze(stream, split, recipe=recipe, request=request, folder=folder, scratch=scratch)
    task = task_of(recipe.model)
    if task.grouping is not None:
        check_window(stream, split, task.grouping)
    trains = split.bounds.trained_through is not None
    if trains and (shortage := task.shortage(frozen.labels["train"])):
        later = split.bounds.trainable - frozen.labels["train"].total()
        return probe_output.not_trainable(split, shortage, later=later)
    final = store.commit(folder, home, frozen.digest)
    return probe_output.window_ready(
        stream,
        split,
        frozen,
        positives=task.positives(frozen.labels["holdout"]),
        uri=uri_of(final),
    )
