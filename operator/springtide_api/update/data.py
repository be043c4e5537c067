"""The training data: its location, its columns, and how it is cut into windows."""

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

MAX_SHARD_PODS = 32
"""Pods that share rows at most: a generation's status records each pod that scores."""


class VolumeClaim(Model):
    """A PersistentVolumeClaim in the namespace of the update."""

    claim_name: ObjectName
    """Name of the PersistentVolumeClaim."""


@cel(
    "!self.mountPath.matches('^/(springtide|tmp|dev|proc|sys)(/|$)')",
    "mountPath must not lie in /springtide, /tmp, /dev, /proc or /sys: the pods of Springtide use"
    " them; choose another folder such as /data",
    "mountPath",
)
class DataVolume(VolumeClaim):
    """A claim with the data. The pods of Springtide mount it read-only."""

    mount_path: Annotated[str, Field(max_length=256, pattern=r"^/[^\s:\\]*[^\s:\\/]$"), *Inside] = (
        "/data"
    )
    """Mount path of the claim in the pods of Springtide; source.uri must be below it. Default
    /data."""


@cel(
    "!self.successMarker || has(self.path)",
    "successMarker needs path: a marker lies in the folder of a partition; set path or remove"
    " successMarker",
)
class Partition(Model):
    """How the data is cut into partitions: calendar periods in UTC.

    A partition holds the rows whose timestamp is in its period (start included, end excluded).
    """

    period: Literal["Hour", "Day", "Week", "Month"] = "Month"
    """Length of a partition. A week starts on Monday. Default Month."""
    path: Annotated[
        Annotated[str, Field(max_length=256, pattern=r"^[^/\s][^\s\\]*$"), *Inside] | None, Field()
    ] = None
    """Path of a partition below source.uri, as a strftime pattern of its start: a folder such as
    "dt=%Y-%m-%d", or a file such as "%Y-%m.csv.gz". Default: source.uri is one file, or a folder
    of files, which is cut by the timestamp column."""
    success_marker: bool = False
    """A partition is complete only when its folder contains a file named _SUCCESS. Default
    false."""


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
    "!has(self.label) || (!has(self.text) || self.text != self.label)"
    " && (!has(self.textPair) || self.textPair != self.label)"
    " && (!has(self.features) || !(self.label in self.features))",
    "label must not be text, textPair or one of features: the label would leak into the input;"
    " remove the label's column from them, or name another label",
    "label",
)
@cel(
    "!has(self.servedGeneration) || ((!has(self.label) || self.servedGeneration != self.label)"
    " && self.servedGeneration != self.timestamp"
    " && (!has(self.text) || self.servedGeneration != self.text)"
    " && (!has(self.textPair) || self.servedGeneration != self.textPair)"
    " && (!has(self.features) || !(self.servedGeneration in self.features)))",
    "servedGeneration must not be label, timestamp, text, textPair or one of features: it holds the"
    " number of the generation that served the row; name a column of its own",
    "servedGeneration",
)
class Columns(Model):
    """The columns of the data."""

    text: ColumnName | None = None
    """Column with the text of an example, such as the query. Set either text or features."""
    text_pair: ColumnName | None = None
    """Column with the second text of an example, such as the item. For Embedding, which requires
    it, the document. Default: none."""
    features: Annotated[list[ColumnName], Field(max_length=64)] = []
    """Columns that the template combines into one text. Set either features or text."""
    template: Annotated[str | None, Field(max_length=4096)] = None
    """Text of an example, with feature columns in braces: "{title} for {price} in {country}".
    Default: "name: value" of each feature, joined by "; "."""
    label: ColumnName | None = None
    """Column with the label: one of model.labels, for Ranking of model.ranking.gains, for
    Regression a number, for Embedding the id of the document, for CausalLM the response to the
    prompt, which text or features are. It cannot be a text or feature column. Empty only with
    training.unlabelled. Required, but for task MaskedLM, which has none."""
    timestamp: ColumnName
    """Column with the time of the event: RFC 3339, "YYYY-MM-DD HH:MM:SS" or a Parquet timestamp.
    A time without a zone is UTC."""
    group: ColumnName | None = None
    """Column with the id of a ranking list or impression: rows that were shown together. NDCG is
    computed per group, and a group is never split between training and holdout. Required for task
    Ranking, where all rows of a group must have one entity. Default: none."""
    entity: ColumnName | None = None
    """Column with the id of the shopper or query whose rows depend on each other. It is the cluster
    of the bootstrap. Default: each row is its own entity; for task Ranking, each group."""
    weight: ColumnName | None = None
    """Column with the training weight of a row, a number of at least 0. A row of weight 2 counts as
    much as two rows of weight 1. For task Ranking, the weight of a group is the mean of those of
    its rows. Weights do not affect the evaluation. Default: equal weights."""
    slice: ColumnName | None = None
    """Column with the slice of a row, such as its category or country, of which replay.rowsPerSlice
    keeps rows; empty for none. Status and report show its values. Default: no slices."""
    served_generation: ColumnName | None = None
    """Column with the number of the generation that served what the row was logged for: the pod's
    label springtide.dev/generation, such as 6; empty for none. Rows of a generation that was rolled
    back are neither trained on nor in a holdout. Default: rows of all generations are used."""


class Source(Model):
    """Location and format of the data."""

    uri: Uri
    """A file or a folder, such as file:///data/clicks or s3://bucket/clicks (also gs://, az://).
    Files with the extension .gz are decompressed."""
    format: Literal["Parquet", "CSV", "JSONL"]
    """Format of the files. CSV files are UTF-8 and have a header line."""
    partition: Partition = Partition()
    """How the data is cut into partitions. Default: months."""
    columns: Columns
    """The columns of the data."""


@cel(
    "!has(self.maxRows) || self.minRows <= self.maxRows",
    "minRows must not be greater than maxRows; lower minRows or raise maxRows",
)
class Window(Model):
    """How much data a run uses, and how much of it a pod tokenizes or scores at a time."""

    min_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    """Minimum number of training rows of a run, of those with a label. With fewer rows, no run
    starts. Default 1."""
    max_rows: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    """Maximum number of training rows of a run. The oldest whole partitions are used first, at
    least one; the rest is used by later runs. With training.unlabelled, at least so many that
    minRows of them have a label. The partitions after them are the holdout: more than
    holdout.strategy asks for, if these have fewer than holdout.minRows or minEntities. Default: no
    limit."""
    watermark_delay: Duration = "0s"
    """A partition is complete this long after its end, to allow for late rows. Default 0s."""
    label_delay: Duration = "0s"
    """A label is final this long after its event. Default 0s."""
    max_wait: Duration | None = None
    """Start with fewer than minRows if the oldest pending partition ended longer ago than this.
    Default: always wait for minRows."""
    rows_per_shard: Annotated[int | None, Field(ge=1000, le=1_000_000_000)] = None
    """Rows of a shard: what a training tokenizes or an evaluation scores at a time and keeps, so
    that a failed attempt is continued. More training rows are tokenized by several pods before the
    training, one for each shard, at most 32; each has 1 CPU and no GPU. A holdout with more rows is
    scored by several pods, at most 32; each has the resources of training.compute and at most one
    GPU. Not for task Embedding. Default: one pod tokenizes or scores all rows at once."""
    max_gap: Duration = "72h"
    """How long a missing partition blocks the partitions after it. Then it is reported and
    quarantined by name, and used only after it is delivered and released. An empty folder counts
    as delivered. Applies if source.partition.path is set. Default 72h."""

    def pods_for(self, rows: int) -> int:
        """Return how many pods share so many rows."""
        if self.rows_per_shard is None:
            return 1
        return min(max(-(-rows // self.rows_per_shard), 1), MAX_SHARD_PODS)


class LatestPartitions(Model):
    """The newest partitions are the holdout; earlier rows are trained on."""

    partitions: Annotated[int, Field(ge=1, le=366)] = 1
    """Number of complete partitions in the holdout. Default 1."""


@cel(
    "double(self.fraction) > 0.0 && double(self.fraction) < 1.0",
    "fraction must be greater than 0 and less than 1; with 0.2 the newest fifth of the rows"
    " is the holdout",
    "fraction",
)
class Tail(Model):
    """The newest rows are the holdout, as a fraction of the new rows."""

    fraction: Fraction = "0.2"
    """Fraction of the new rows in the holdout, greater than 0 and less than 1. Default 0.2."""


@cel(
    "(self.type == 'LatestPartitions') == has(self.latestPartitions)",
    "set latestPartitions (it may be {}) if and only if type is LatestPartitions",
)
@cel(
    "(self.type == 'Tail') == has(self.tail)",
    "set tail (it may be {}) if and only if type is Tail",
)
class HoldoutStrategy(Model):
    """How the new rows are split into training rows and holdout."""

    type: Literal["LatestPartitions", "Tail"]
    """LatestPartitions splits at the boundary of a partition, Tail at a timestamp."""
    latest_partitions: LatestPartitions | None = None
    """Settings of LatestPartitions; present if and only if type is LatestPartitions."""
    tail: Tail | None = None
    """Settings of Tail; present if and only if type is Tail."""


class Filter(Model):
    """A filter on one column."""

    column: ColumnName
    """Name of the column."""
    equals: Word
    """Value that the column must have, compared as text."""


class Holdout(Model):
    """The holdout: evaluation rows that are later in time than the training rows."""

    strategy: HoldoutStrategy = HoldoutStrategy(
        type="LatestPartitions", latest_partitions=LatestPartitions()
    )
    """How the new rows are split into training rows and holdout. Default: the newest partition is
    the holdout."""
    min_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    """Minimum number of rows of a holdout. Default 1."""
    min_entities: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    """Minimum number of entities of a holdout. Default 1."""
    filter: Filter | None = None
    """Use only these rows of the holdout, such as randomly ranked traffic. Later runs train on all
    rows. Default: use all rows."""


@cel(
    "double(self.fraction) > 0.0 && double(self.fraction) <= 0.5",
    "fraction must be greater than 0 and at most 0.5; reserved entities are never trained"
    " on; remove data.reserve to reserve none",
    "fraction",
)
class Reserve(Model):
    """Entities that are never trained on, so that forgetting can be measured on their rows."""

    fraction: Fraction = "0.05"
    """Fraction of the entities, at most 0.5, chosen by hash. At a promotion, their rows of the
    training window become a historical shard. Requires source.columns.entity (for task Ranking:
    or group). Default 0.05."""


@cel(
    "!has(self.volume) || self.source.uri == 'file://' + self.volume.mountPath"
    " || self.source.uri.startsWith('file://' + self.volume.mountPath + '/')",
    "source.uri must begin with file:// and volume.mountPath (default /data), such as"
    " file:///data/clicks",
)
class Data(Model):
    """The training data, and how it is cut into windows."""

    source: Source
    """Location and format of the data."""
    window: Window = Window()
    """How much new data a run uses. Default: no limits."""
    holdout: Holdout = Holdout()
    """The holdout. Default: the newest complete partition."""
    reserve: Reserve | None = None
    """Entities that are never trained on. Default: none."""
    volume: DataVolume | None = None
    """The claim with the data. Default: the data is on the claim of storage, or in an object
    store."""
    secret_name: ObjectName | None = None
    """Secret in the namespace of the update, with endpoint and credentials of the object store of
    data, model.initial and storage. Its keys become environment variables of the pods of
    Springtide: for s3:// AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY;
    for gs:// GOOGLE_SERVICE_ACCOUNT_KEY; for az:// AZURE_STORAGE_ACCOUNT_NAME,
    AZURE_STORAGE_ACCOUNT_KEY; for hf:// HF_TOKEN. A change counts for the next pod. Default: none;
    the service account of the pods has access."""
    service_account_name: ObjectName | None = None
    """ServiceAccount in the namespace of the update, as which all pods of Springtide run: one to
    which a cloud grants access to the object store. They get no token of it for the API server. A
    change counts for the next pod. Default: that of the installation (jobs.serviceAccountName of
    the chart), else default."""

    def resolved(self, task: str) -> Data:
        """Return the data with the entity column that is the default of the task."""
        columns = self.source.columns
        if task != "Ranking" or columns.entity is not None:
            return self
        entity = columns.model_copy(update={"entity": columns.group})
        return self.model_copy(
            update={"source": self.source.model_copy(update={"columns": entity})}
        )
