"""Reads the manifest of an `IncrementalUpdate` as the recipe of a local run.

`rollout` and `storage` name things of a cluster, so a recipe may lack them; trigger, rollout and
compute are not used. Paths of the cluster are replaced by those of this machine.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from springtide_api.generation.spec import Recipe
from springtide_api.names import API_VERSION, UPDATE_KIND
from springtide_api.objects import Problem
from springtide_api.update.data import DataVolume
from springtide_api.update.tracking import Tracking
from springtide_trainer.artifact.preprocess import MASKED_LM
from springtide_trainer.errors import Refused
from springtide_trainer.local.kubectl_yaml import Loader
from springtide_trainer.local.validation import problems, without_nulls
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from springtide_api.update.data import Data
    from springtide_api.update.model import ModelSpec

DATA = "spec.data.source.uri"
MODEL = "spec.model.initial.uri"
ABSENT = {
    "rollout": {"targets": [{"targetRef": {"name": "not-set"}, "container": "not-set"}]},
    "storage": {"uri": "file:///models", "volume": {"claimName": "not-set"}},
}
"""What stands for a block that a recipe lacks, while it is checked."""
NOT_DECISIVE = ("compute", "limits", "checkpoint", "image")
"""Parts of `training` that change neither weights nor verdict."""


class InvalidManifest(Exception):
    """A manifest that the API server would refuse, with all its problems."""

    def __init__(self, path: Path, found: list[Problem]) -> None:
        lines = [f"{path}: {each.field and each.field + ': '}{each.message}" for each in found]
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class Places:
    """Where this machine has what the manifest names by a path of the cluster."""

    data: Path | None = None
    model: Path | None = None
    datasets: Mapping[str, Path] | None = None


@dataclass(frozen=True)
class LocalRecipe:
    """A recipe whose paths are those of this machine.

    Attributes:
        namespace: Namespace of the update.
        name: Name of the update.
        recipe: What a generation is made from.
        digest: Digest of what determines weights and verdict.
        model_digest: Digest of what determines the imported model.
        tracking: Where training and evaluation report to.
    """

    namespace: str
    name: str
    recipe: Recipe
    digest: str
    model_digest: str
    tracking: Tracking | None = None


def read(path: Path, places: Places) -> LocalRecipe:
    """Read a manifest.

    Raises:
        InvalidManifest: the API server would refuse it.
        Refused: it names a file or folder that this machine does not have.
    """
    return made(load(path), path, places)


def made(manifest: Mapping[str, Any], path: Path, places: Places) -> LocalRecipe:
    """Return the recipe of a manifest.

    Args:
        manifest: The manifest, as `load` returns it.
        path: Its file, for messages.
        places: Where this machine has what it names.

    Raises:
        InvalidManifest: the API server would refuse it.
        Refused: it names a file or folder that this machine does not have.
    """
    spec = {**ABSENT, **manifest["spec"]}
    model = spec.get("model")
    if isinstance(model, dict) and model.get("task") == MASKED_LM:
        spec = {**ABSENT, "rollout": {"targets": []}, **manifest["spec"]}
    if found := problems({**manifest, "spec": spec}):
        raise InvalidManifest(path, found)
    written = Recipe.model_validate({"training": {}, "evaluation": {}, **spec})
    resolved = {
        "data": written.data.resolved(written.model.task),
        "training": written.training.resolved(),
    }
    recipe = written.model_copy(update=resolved)
    metadata = manifest["metadata"]
    return LocalRecipe(
        namespace=metadata.get("namespace", "default"),
        name=metadata["name"],
        recipe=_local(recipe, places),
        digest=_digest(_decisive(recipe)),
        model_digest=_digest(_imported(recipe.model)),
        tracking=Tracking.model_validate(spec["tracking"]) if "tracking" in spec else None,
    )


def _imported(model: ModelSpec) -> dict[str, Any]:
    """Return the immutable parts of a model: what the imported one was made from."""
    several, scale = model.classification, model.regression
    kept = {"keepLayers": sorted(model.keep_layers)} if model.keep_layers else {}
    return {
        **kept,
        "initial": model.initial.plain(),
        "task": model.task,
        "multiLabel": several is not None and several.multi_label,
        "scale": [scale.location, scale.spread] if scale else None,
    }


def load(path: Path) -> dict[str, Any]:
    """Return the one update of a YAML file, not checked yet.

    Raises:
        InvalidManifest: the file cannot be read, or has no update, or several.
    """
    try:
        found = [*yaml.load_all(path.read_text(encoding="utf-8"), Loader)]
    except (OSError, UnicodeDecodeError) as unreadable:
        why = getattr(unreadable, "strerror", None) or str(unreadable)
        raise InvalidManifest(path, [Problem("file", why)]) from unreadable
    except (yaml.YAMLError, RecursionError) as wrong:
        raise InvalidManifest(path, [Problem("YAML", " ".join(str(wrong).split()))]) from wrong
    updates = [each for each in found if isinstance(each, dict) and each.get("kind") == UPDATE_KIND]
    if len(updates) != 1:
        message = f"the file has {len(updates)} objects of kind {UPDATE_KIND}, not one"
        raise InvalidManifest(path, [Problem("kind", message)])
    if found := _envelope(updates[0]):
        raise InvalidManifest(path, found)
    made: dict[str, Any] = without_nulls(updates[0])
    return made


def _envelope(manifest: dict[str, Any]) -> list[Problem]:
    metadata, found = manifest.get("metadata"), []
    if manifest.get("apiVersion") != API_VERSION:
        shown = f"must be {API_VERSION} (is {manifest.get('apiVersion')!r})"
        found.append(Problem("apiVersion", shown))
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        found.append(Problem("metadata.name", "is missing; name the update"))
    if not isinstance(manifest.get("spec"), dict):
        found.append(Problem("spec", "is missing; it is the recipe"))
    return found


def _local(made: Recipe, places: Places) -> Recipe:
    """Replace the paths of the cluster.

    Raises:
        Refused: a path does not exist on this machine, or a copy is of no dataset.
    """
    source, initial = made.data.source, made.model.initial
    files = [each.name for each in made.evaluation.datasets if each.uri]
    if unknown := sorted({*(places.datasets or {})} - {*files}):
        known = f"known are {', '.join(files)}" if files else "the manifest has none"
        message = f"--dataset {unknown[0]}: no dataset with role Guardrail has this name; {known}"
        raise Refused("DataNotFound", message, "spec.evaluation.datasets")
    data = _existing(source.uri, places.data, "--data", DATA)
    model = _existing(initial.uri, places.model, "--model", MODEL)
    imported = initial.model_copy(update={"uri": model})
    datasets = []
    for index, each in enumerate(made.evaluation.datasets):
        changed = each
        if each.uri:
            given = (places.datasets or {}).get(each.name)
            field = f"spec.evaluation.datasets[{index}].uri"
            uri = _existing(each.uri, given, f"--dataset {each.name}=", field)
            changed = each.model_copy(update={"uri": uri})
        datasets.append(changed)
    return made.model_copy(
        update={
            "model": made.model.model_copy(update={"initial": imported}),
            "data": _local_data(made.data, data),
            "evaluation": made.evaluation.model_copy(update={"datasets": datasets}),
        }
    )


def _local_data(declared: Data, uri: str) -> Data:
    """Return the data at a URI; links must stay in its folder, as on a volume."""
    path = local_path(uri)
    root = str(path if path.is_dir() else path.parent)
    volume = DataVolume.model_construct(claim_name="local", mount_path=root)
    source = declared.source.model_copy(update={"uri": uri})
    return declared.model_copy(update={"source": source, "volume": volume})


def _existing(uri: str, given: Path | None, option: str, field: str) -> str:
    path = given.expanduser() if given else Path(uri.removeprefix("file://"))
    shown = path if given or uri.startswith("file:") else uri
    if path.exists():
        return path.resolve().as_uri()
    option += "" if option.endswith("=") else " "
    hint = "name another" if given else f"name its copy on this machine by {option}PATH"
    reason = "MissingModel" if field == MODEL else "DataNotFound"
    raise Refused(reason, f"{shown} does not exist; {hint}", field)


def _decisive(made: Recipe) -> dict[str, Any]:
    """Return what determines weights and verdict, with the paths of the manifest."""
    training = {
        name: part for name, part in made.training.plain().items() if name not in NOT_DECISIVE
    }
    decisive = {
        "model": made.model.plain(),
        "columns": made.data.source.columns.plain(),
        "holdout": made.data.holdout.plain(),
        "reserve": made.data.reserve.plain() if made.data.reserve else None,
        "training": training,
        "evaluation": made.evaluation.plain(),
        "gate": made.gate.plain(),
    }
    if made.serving and made.serving.optimise:
        decisive["optimise"] = made.serving.optimise.plain()
    return decisive


def _digest(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
