"""The stream of examples: where it lies, what its columns mean, how it is cut in time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.schema import (
    ColumnName,
    Duration,
    Fraction,
    Inside,
    Model,
    ObjectName,
    Uri,
    Word,
    cel,
)


class VolumeClaim(Model):
    """A PersistentVolumeClaim in the namespace of the update."""

    claim_name: ObjectName
    """Name of the PersistentVolumeClaim."""


@cel(
    "!self.mountPath.matches('^/(springtide|tmp|dev|proc|sys)(/|$)')",
    "mountPath must not lie in /springtide, /tmp, /dev, /proc or /sys: our pods use them; choose"
    " another folder such as /data",
    "mountPath",
)
class DataVolume(VolumeClaim):
    """A claim that holds the data. Our pods mount it read-only."""

    mount_path: Annotated[str, Field(max_length=256, pattern=r"^/[^\s:\\]*[^\s:\\/]$"), *Inside] = (
        "/data"
    )
    """Where the claim is mounted in our pods; source.uri lies below it. Default /data."""


@cel(
    "!self.successMarker || has(self.path)",
    "successMarker needs path: a marker lies in the folder of a partition; set path or remove"
    " successMarker",
)
class Partition(Model):
    """How the stream is cut into partitions: calendar periods in UTC.

    A partition covers [start, end) of its period and holds the rows whose timestamp lies in it.
    """

    period: Literal["Hour", "Day", "Week", "Month"] = "Month"
    """Length of one partition. A week starts on Monday. Default Month."""
    path: Annotated[
        Annotated[str, Field(max_length=256, pattern=r"^[^/\s][^\s\\]*$"), *Inside] | None, Field()
    ] = None
    """Where a partition lies below source.uri, as a strftime pattern of its start, such as
    "dt=%Y-%m-%d" (a folder) or "%Y-%m.csv.gz" (a file). Default:
    source.uri is one file, or a folder of files, that is cut by the timestamp column."""
    success_marker: bool = False
    """A partition's folder is complete only when it holds a file named _SUCCESS. Default false."""


@cel(
    "has(self.text) != (has(self.features) && self.features.size() > 0)",
    "columns needs either text or features; set one and remove the other",
)
@cel(
    "!has(self.template) || (has(self.features) && self.features.size() > 0)",
    "template needs features: it writes them into one text; set features or remove template",
)
@cel(
    "!has(self.textPair) || has(self.text)",
    "textPair needs text: it is the second of two texts; set text or remove textPair",
)
@cel(
    "!has(self.features) || self.features.all(a, self.features.exists_one(b, a == b))",
    "features must name different columns; remove the repeated one",
)
@cel(
    "(!has(self.text) || self.text != self.label)"
    " && (!has(self.textPair) || self.textPair != self.label)"
    " && (!has(self.features) || !(self.label in self.features))",
    "label must not be text, textPair or one of features: the model would read the answer; remove"
    " the label's column from them, or name another label",
    "label",
)
class Columns(Model):
    """What the columns of the data mean."""

    text: ColumnName | None = None
    """Column with the text of an example, such as the query. Either this or features."""
    text_pair: ColumnName | None = None
    """Column with the second text of an example, such as the item. Default: none."""
    features: Annotated[list[ColumnName], Field(max_length=64)] = []
    """Columns that the template writes into one text. Either these or text."""
    template: Annotated[str | None, Field(max_length=4096)] = None
    """Text of an example with the feature columns in braces: "{title} for {price} in {country}".
    Default: "name: value" of each feature, joined by "; "."""
    label: ColumnName
    """Column with the label; its values are those of model.labels. It is no text and no feature."""
    timestamp: ColumnName
    """Column with the time of the event: RFC 3339, "YYYY-MM-DD HH:MM:SS" or Parquet's timestamp.
    Without a zone it is UTC."""
    group: ColumnName | None = None
    """Column that tells which rows were shown together: one ranking list or impression. NDCG is
    per group, and no group lies on both sides of a cut. Default: none."""
    entity: ColumnName | None = None
    """Column with the shopper or query whose rows depend on each other: the cluster of the
    bootstrap. Default: each row by itself."""
    weight: ColumnName | None = None
    """Column with the weight of a row in training, a number from 0 up: a row of weight 2 counts
    as much as two rows of weight 1, whatever else its step holds. It does not touch evaluation.
    Default: all weigh the same."""


class Source(Model):
    """Where the examples lie and how they read."""

    uri: Uri
    """One file, or a folder. Files ending in .gz are read through gzip."""
    format: Literal["Parquet", "CSV", "JSONL"]
    """Format of the files. CSV has a header line and is UTF-8."""
    partition: Partition = Partition()
    """How the stream is cut into partitions. Default: months."""
    columns: Columns
    """What the columns of the data mean."""


@cel(
    "!has(self.maxRows) || self.minRows <= self.maxRows",
    "minRows must not be greater than maxRows; lower minRows or raise maxRows",
)
class Window(Model):
    """How much new data makes a run."""

    min_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    """Training rows that a run needs; fewer wait for more. Default 1."""
    max_rows: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    """Training rows of a run at most: the oldest first, whole partitions and at least one; the
    rest is pending. Default: no limit."""
    watermark_delay: Duration = "0s"
    """A partition is complete so long after its end: time for late rows to arrive. Default 0s."""
    label_delay: Duration = "0s"
    """A label is final so long after its event. Default 0s."""
    max_wait: Duration | None = None
    """Start with fewer than minRows once the oldest waiting partition ended so long ago. Default:
    wait for minRows."""
    max_gap: Duration = "72h"
    """Where source.partition.path names partitions: how long a partition that is due and not there
    keeps back those after it. Then it is reported and quarantined by name, and trained on only
    once it is delivered and released. An empty folder counts as delivered. Default 72h."""


class LatestPartitions(Model):
    """The newest partitions judge; what came before trains."""

    partitions: Annotated[int, Field(ge=1, le=366)] = 1
    """How many of the newest complete partitions judge. Default 1."""


@cel(
    "double(self.fraction) > 0.0 && double(self.fraction) < 1.0",
    "fraction must be greater than 0 and less than 1; with 0.2 the newest fifth judges",
    "fraction",
)
class Tail(Model):
    """The newest rows judge, by number."""

    fraction: Fraction = "0.2"
    """Share of the new rows that judge, greater than 0 and less than 1. Default 0.2."""


@cel(
    "(self.type == 'LatestPartitions') == has(self.latestPartitions)",
    "set latestPartitions (it may be {}) if and only if type is LatestPartitions",
)
@cel(
    "(self.type == 'Tail') == has(self.tail)",
    "set tail (it may be {}) if and only if type is Tail",
)
class HoldoutStrategy(Model):
    """Where the cut between training and judging lies."""

    type: Literal["LatestPartitions", "Tail"]
    """LatestPartitions cuts at a partition's boundary, Tail at a timestamp."""
    latest_partitions: LatestPartitions | None = None
    """How many partitions judge; present if and only if type is LatestPartitions."""
    tail: Tail | None = None
    """Which share judges; present if and only if type is Tail."""


class Filter(Model):
    """Rows that count."""

    column: ColumnName
    """Column to compare."""
    equals: Word
    """Value that it must have, compared as text."""


class Holdout(Model):
    """The rows that judge: those that come after the training rows in time."""

    strategy: HoldoutStrategy = HoldoutStrategy(
        type="LatestPartitions", latest_partitions=LatestPartitions()
    )
    """Where the cut between training and judging lies. Default: the newest partition judges."""
    min_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    """Rows that a holdout needs. Default 1."""
    min_entities: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    """Entities that a holdout needs. Default 1."""
    filter: Filter | None = None
    """Only these rows of the holdout judge, such as randomly ranked traffic. They all train
    later. Default: all rows judge."""


@cel(
    "double(self.fraction) > 0.0 && double(self.fraction) <= 0.5",
    "fraction must be greater than 0 and at most 0.5; reserved entities never train, remove"
    " data.reserve to reserve none",
    "fraction",
)
class Reserve(Model):
    """Entities that are never trained on: the memory by which forgetting is seen."""

    fraction: Fraction = "0.05"
    """Share of the entities, at most 0.5, chosen by hash. Their rows of each training window become
    a historical shard at promotion. Needs source.columns.entity. Default 0.05."""


@cel(
    "!has(self.reserve) || has(self.source.columns.entity)",
    "reserve needs source.columns.entity: entities are reserved, not rows; name the column with"
    " the shopper or query",
)
@cel(
    "!has(self.volume) || self.source.uri == 'file://' + self.volume.mountPath"
    " || self.source.uri.startsWith('file://' + self.volume.mountPath + '/')",
    "source.uri must begin with file:// and volume.mountPath (default /data), such as"
    " file:///data/clicks",
)
class Data(Model):
    """The stream of examples, and how it is cut into windows."""

    source: Source
    """Where the examples lie and how they read."""
    window: Window = Window()
    """How much new data makes a run. Default: any."""
    holdout: Holdout = Holdout()
    """The rows that judge. Default: the newest complete partition."""
    reserve: Reserve | None = None
    """Entities that are never trained on. Default: none."""
    volume: DataVolume | None = None
    """The claim that holds the data. Default: it lies on the claim of storage."""
