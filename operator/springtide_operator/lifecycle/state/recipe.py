"""The recipe of a run: its snapshot of the spec, its hash, its image, and what its parent left."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from springtide_api.generation import continuation as adapters
from springtide_api.generation.spec import Recipe
from springtide_api.update.task import EARLY_STOPPING_METRIC

if TYPE_CHECKING:
    from springtide_api.generation.continuation import Adapter, Continuation
    from springtide_api.generation.spec import ReplayBuffer
    from springtide_api.update.retention import Retention
    from springtide_api.update.spec import UpdateSpec
    from springtide_api.update.training import EarlyStopping
    from springtide_operator.lifecycle.state.observation import Observation


def trainer_image(seen: Observation) -> str:
    """The image of the update's Jobs: its own, else that of the installation."""
    return seen.update.spec.training.image or seen.defaults.trainer_image


def recipe(seen: Observation) -> Recipe:
    """The snapshot of the spec that a run uses to its end, with image, method and learning rate.

    The method is a Full update where the parent's adapter reached lora.rebaseEvery. The count is
    that of the parent, so a rollback restores it.
    """
    spec, left = seen.update.spec, _adapter_of_parent(seen)
    training = spec.training.of_one_run().rebased(left.generations if left else 0)
    return Recipe(
        model=spec.model,
        data=spec.data.resolved(spec.model.task),
        training=training.resolved().model_copy(
            update={
                "image": trainer_image(seen),
                "early_stopping": _early_stopping(spec.training.early_stopping, spec.model.task),
                "retention": _retention(spec),
            }
        ),
        evaluation=spec.evaluation,
        gate=spec.gate.without_approval(),
        storage=spec.storage,
        serving=spec.serving,
    )


def with_access(seen: Observation, made_from: Recipe) -> Recipe:
    """The recipe with the Secret, the service account and the claims that the spec names now.

    They are how a pod reaches its files and not what it computes, and those of that time may be
    gone. The claim of the data is replaced only where path and source are the same: else it has
    other rows. A storage at another URI is that of an earlier update of this name, and is reached
    as it was then.
    """
    spec, data = seen.update.spec, made_from.data
    if made_from.storage.uri != spec.storage.uri:
        return made_from
    claim, now = data.volume, spec.data.volume
    moved = claim and now and now.mount_path == claim.mount_path
    reached = {
        "secret_name": spec.data.secret_name,
        "service_account_name": spec.data.service_account_name,
        "volume": now if moved and data.source.uri == spec.data.source.uri else claim,
    }
    changed = {"data": data.model_copy(update=reached), "storage": spec.storage}
    return made_from.model_copy(update=changed)


def continuation(seen: Observation, made_from: Recipe) -> Continuation | None:
    """What a run of this recipe does with the adapter of its parent; None without continuation."""
    parent = seen.lineage.parent
    if parent is None:
        return None
    return adapters.continuation(
        seen.update.spec.training,
        made_from.training,
        parent=parent.metadata.name,
        left=_adapter_of_parent(seen),
        before=parent.spec.recipe.training,
    )


def parent_buffer(seen: Observation) -> ReplayBuffer | None:
    """The parent's buffer: it follows the lineage, so a rollback restores that of its target."""
    retention, parent = seen.update.spec.training.retention, seen.lineage.parent
    artifact = parent.status.artifact if parent else None
    return artifact.buffer if artifact and retention and retention.replay else None


def parent_fisher(seen: Observation) -> str | None:
    """The digest of the parent's Fisher information, which follows the lineage as the buffer."""
    retention, parent = seen.update.spec.training.retention, seen.lineage.parent
    artifact = parent.status.artifact if parent else None
    return artifact.fisher if artifact and retention and retention.ewc else None


def excluded_generations(seen: Observation, made_from: Recipe) -> tuple[int, ...]:
    """The generations whose rows a run of this recipe leaves out.

    None without the column that says which generation served a row.
    """
    return seen.lineage.excluded if made_from.data.source.columns.served_generation else ()


def _adapter_of_parent(seen: Observation) -> Adapter | None:
    parent = seen.lineage.parent
    artifact = parent.status.artifact if parent else None
    return artifact.adapter if artifact else None


def _early_stopping(wanted: EarlyStopping | None, task: str) -> EarlyStopping | None:
    """Resolve the metric, whose default depends on the task."""
    if wanted is None or wanted.metric:
        return wanted
    return wanted.model_copy(update={"metric": EARLY_STOPPING_METRIC[task]})


def _retention(spec: UpdateSpec) -> Retention | None:
    wanted, slices = spec.training.retention, spec.data.source.columns.slice is not None
    return wanted.resolved(spec.model.task, slices=slices) if wanted else None


def recipe_hash(made_from: Recipe, image_digest: str | None = None) -> str:
    """Digest of what determines weights and verdict; hardware does not count.

    Args:
        made_from: the recipe.
        image_digest: the digest of its image, where that is known: two images under
            one name are two recipes.
    """
    training = made_from.training
    decisive = {
        "model": made_from.model.plain(),
        "columns": made_from.data.source.columns.plain(),
        "holdout": made_from.data.holdout.plain(),
        "reserve": made_from.data.reserve.plain() if made_from.data.reserve else None,
        "image": training.image,
        "imageDigest": image_digest,
        "method": training.method.decisive(),
        "hyperparameters": training.hyperparameters.plain(),
        "earlyStopping": training.early_stopping.plain() if training.early_stopping else None,
        "evaluation": made_from.evaluation.plain(),
        "gate": made_from.gate.plain(),
    }
    if training.retention:
        decisive["retention"] = training.retention.plain()
    if training.robustness:
        decisive["robustness"] = training.robustness.plain()
    if training.pruning:
        decisive["pruning"] = training.pruning.plain()
    if training.unlabelled:
        decisive["unlabelled"] = training.unlabelled.plain()
    if made_from.serving and made_from.serving.optimise:
        decisive["optimise"] = made_from.serving.optimise.plain()
    text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def probe_digest(made_from: Recipe) -> str:
    """Digest of what a probe reads and of its pod; other edits do not change it."""
    training = made_from.training
    window = made_from.data.window.model_copy(update={"rows_per_shard": None})
    concerned = {
        "model": made_from.model.plain(),
        "data": made_from.data.model_copy(update={"window": window}).plain(),
        "storage": made_from.storage.plain(),
        "image": training.image,
        "compute": training.compute.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude={"gpu", "nodes"}
        ),  # a probe has no GPU and one pod, and scores nothing
    }
    if training.pseudo_labels:
        concerned["unlabelled"] = "allowed"
    text = json.dumps(concerned, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
