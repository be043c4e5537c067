"""The storage of the world without a cluster: folders that Jobs wrote and did not delete yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lifecycle.answers import digest

from springtide_api.contract import ArtifactRef
from springtide_api.generation.spec import ReplayBuffer

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from springtide_api.contract import Result, RunFile, TrainInput, Unreferenced


@dataclass
class Storage:
    """Folders by their URI, and the partitions of the rows in them."""

    folders: set[str] = field(default_factory=set)
    written: dict[str, datetime] = field(default_factory=dict)
    """When weights, adapters and buffers were written, or committed again."""
    partitions: dict[str, frozenset[str]] = field(default_factory=dict)
    """Training partitions of frozen rows and of replay buffers, by digest."""
    served: dict[str, frozenset[int]] = field(default_factory=dict)
    """Generations that served any of the frozen rows, by digest."""
    on_deletion: Callable[[int | None, list[str]], None] = lambda number, folders: None
    """Called with the generation of a collect Job and its folders, before they are deleted."""

    def freeze(self, rows: str, partitions: list[str], served: set[int]) -> None:
        """Record of which training partitions frozen rows are, and which generations served any."""
        self.partitions[rows], self.served[rows] = frozenset(partitions), frozenset(served)

    def leave_buffer(self, asked: TrainInput) -> ReplayBuffer:
        """Make a buffer of the parent's buffer and of the rows of a run."""
        before = asked.buffer.digest if asked.buffer else ""
        known = self.partitions.get(before, frozenset()) | self.partitions.get(
            asked.data.digest, frozenset()
        )
        made = digest(f"buffer {before} {asked.data.digest} {sorted(asked.quarantined)}")
        self.partitions[made] = known - {*asked.quarantined}
        uri = f"file:///models/search/shop/buffers/{made.replace(':', '-')}"
        return ReplayBuffer(uri=uri, digest=made, rows=100)

    def leave_fisher(self, asked: TrainInput) -> str:
        """Make the Fisher information of the parent's and of the rows of a run."""
        before = asked.fisher.digest if asked.fisher else ""
        made = digest(f"fisher {before} {asked.data.digest}")
        self.partitions[made] = self.partitions.get(before, frozenset()) | self.partitions.get(
            asked.data.digest, frozenset()
        )
        return made

    def finish(self, run: RunFile, result: Result | None, now: datetime) -> None:
        """Write or delete what a Job that succeeded wrote or deleted."""
        if run.collect:
            self._delete(run.number, run.collect.delete)
        if run.collect and run.collect.unreferenced:
            self._delete(None, self._unreferenced(run.collect.unreferenced))
        if result is None:
            return
        if weights := result.imported:
            self.write(now, weights.uri, weights.served_uri)
        if result.probe and result.probe.window:
            self.folders.add(result.probe.window.manifest)
        if made := result.train:
            parts = (made.artifact, made.adapter, made.buffer)
            self.write(now, made.artifact.served_uri, *(part.uri for part in parts if part))
            if made.fisher:
                room = made.artifact.uri.rpartition("/")[0]
                self.write(now, f"{room}/{made.fisher.replace(':', '-')}")

    def write(self, now: datetime, *uris: str) -> None:
        """Commit weights, adapters or buffers."""
        self.folders |= {*uris}
        self.written |= dict.fromkeys(uris, now)

    def _delete(self, number: int | None, folders: list[str]) -> None:
        self.on_deletion(number, folders)
        self.folders -= {each if "://" in each else f"file://{each}" for each in folders}

    def _unreferenced(self, asked: Unreferenced) -> list[str]:
        """Folders that nothing names, as the stage finds them."""
        return [
            uri.removeprefix("file://")
            for uri, moment in self.written.items()
            if uri in self.folders
            and uri.rpartition("/")[2].replace("-", ":", 1) not in asked.kept
            and asked.since < moment < asked.until
        ]


def read_by(run: RunFile) -> set[str]:
    """Folders that a stage with a generation reads."""
    read: list[ArtifactRef | ReplayBuffer | None] = []
    shards: list[str] = []
    if tokenized := run.tokenize:
        read += [tokenized.parent, tokenized.data]
    if asked := run.train:
        read += [asked.parent, asked.data, asked.buffer, asked.fisher]
        if asked.adapter:
            read += [ArtifactRef(uri=asked.adapter.uri, digest=asked.adapter.digest)]
            read += [asked.adapter.base]
    if scored := run.evaluate:
        read += [scored.candidate, scored.baseline, scored.reference, scored.holdout]
        shards = scored.historical
    return {each.uri for each in read if each} | {*shards}
