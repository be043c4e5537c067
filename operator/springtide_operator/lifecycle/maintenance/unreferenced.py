"""What may be deleted in the storage because nothing names it: all that is not kept here.

A buffer, an adapter or weights may have been written by a training without a result, or by a
generation that a user deleted. Whatever a generation, a target or a Job may need is kept.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.contract import Unreferenced
from springtide_api.schema import is_digest
from springtide_operator.lifecycle.state.generations import (
    finished,
    referenced_artifacts,
    unknown_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

RETENTION = timedelta(days=7)
"""What was written later is not deleted: its generation may not name it yet."""


def unreferenced(seen: Observation, without: ModelGeneration, now: datetime) -> Unreferenced | None:
    """Return what else may be deleted with a generation.

    None where a generation has values of a newer version, which may name what this one ignores.

    Args:
        seen: the update.
        without: the generation that is deleted.
        now: the moment.
    """
    others = [g for g in seen.generations if g.metadata.name != without.metadata.name]
    if any(unknown_value(g) for g in others):
        return None
    kept = referenced_artifacts(others) | _in_use(others) | _served(seen) | _initial(seen)
    since = seen.update.metadata.creation_timestamp
    return Unreferenced(kept=sorted(kept), since=since, until=now - RETENTION)


def _in_use(generations: Iterable[ModelGeneration]) -> set[str]:
    """Digests of buffers, and of what an unfinished generation reads."""
    named: set[str | None] = set()
    for generation in generations:
        artifact, data = generation.status.artifact, generation.spec.data
        if artifact and artifact.buffer:
            named.add(artifact.buffer.digest)
        if finished(generation):
            continue
        spec = generation.spec
        read = (spec.parent, spec.baseline, spec.reference, data.buffer if data else None)
        named |= {each.digest for each in read if each}
    return {digest for digest in named if digest}


def _served(seen: Observation) -> set[str]:
    """Digests that a target, a ReplicaSet or another Deployment of the update names."""
    targets = (*seen.targets, *seen.removed_targets)
    named = seen.digests_elsewhere.union(*(target.named for target in targets))
    named |= {target.digest for target in targets if target.digest}
    return set(filter(is_digest, named))  # a user may set the variable to any text


def _initial(seen: Observation) -> set[str]:
    """Digest of the initial model, which may be a folder of this storage."""
    initial = seen.update.spec.model.initial
    named = initial.uri.rstrip("/").rpartition("/")[2].replace("-", ":", 1)
    return {digest for digest in (initial.digest, named) if digest and is_digest(digest)}
