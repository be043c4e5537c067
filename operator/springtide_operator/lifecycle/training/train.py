"""Trains the candidate from the live weights, or imports generation 0, up to an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.contract import (
    AdapterInput,
    ArtifactRef,
    ImportInput,
    TrainInput,
    TrainOutput,
)
from springtide_api.generation.continuation import adapter_left
from springtide_api.generation.status import Artifact, TrainingStatus
from springtide_judging.same_weights import kept_start
from springtide_operator.lifecycle.jobs.failures import fail_generation
from springtide_operator.lifecycle.jobs.run_files import artifact_ref, home, result_name, run_file
from springtide_operator.lifecycle.jobs.stage import (
    StageFailed,
    StageRequest,
    StageSucceeded,
    advance,
    start_attempt,
)
from springtide_operator.lifecycle.jobs.suspension import suspension
from springtide_operator.lifecycle.jobs.training_facts import (
    named,
    pseudo_label_message,
    pseudo_label_status,
    replay_message,
    replay_status,
)
from springtide_operator.lifecycle.state.generations import SPEC_CHANGED
from springtide_operator.lifecycle.state.plan import Event, Step, WriteGeneration
from springtide_operator.lifecycle.training.outdated_generation import outdated_reason
from springtide_operator.lifecycle.training.tokenizing import suspend_tokenizing, tokenize

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.contract import CommittedArtifact, Result, RunFile, ServedForm
    from springtide_api.generation.continuation import Adapter
    from springtide_api.generation.spec import Ancestor, GenerationSpec, Recipe
    from springtide_api.generation.status import StageRun
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

OPTIMISE_NOT_POSSIBLE = "OptimiseNotPossible"


def train(seen: Observation, now: datetime) -> Step | None:
    """Train or import the candidate up to an artifact, or fail it."""
    generation = seen.lineage.candidate
    if generation is None or generation.status.artifact or generation.status.verdict != "Pending":
        return None
    request = _stage_request(seen, generation)
    run = generation.status.training
    if run is None:
        return _begin(seen, generation, request, now)
    match advance(seen, request, run, now):
        case StageSucceeded(result, measured):
            return _made(generation, measured, result, now)
        case StageFailed(reason, message, measured):
            return fail_generation(_with(generation, measured), reason, message, now)
        case Step() as step:
            return step


def _begin(
    seen: Observation, generation: ModelGeneration, request: StageRequest, now: datetime
) -> Step:
    """Start the first attempt, once its rows are tokenized."""
    if why := outdated_reason(seen, generation, now):
        return fail_generation(generation, SPEC_CHANGED, why, now)
    if suspended := suspension(seen, request.title):
        return Step(actions=suspend_tokenizing(seen, generation), waiting=suspended)
    if tokenizing := tokenize(seen, generation, now):
        return tokenizing
    return start_attempt(seen, request, TrainingStatus(job="", started_at=now), 1)


def _stage_request(seen: Observation, generation: ModelGeneration) -> StageRequest:
    def write(run: StageRun) -> WriteGeneration:
        return WriteGeneration(generation.metadata.name, _with(generation, run).status)

    imported = generation.spec.origin == "Imported"
    compute = generation.spec.recipe.training.compute

    def run(record: StageRun) -> RunFile:
        return (
            _import_file(seen, generation, record)
            if imported
            else _train_file(seen, generation, record)
        )

    return StageRequest(
        stage="import" if imported else "train",
        title="Import" if imported else "Train",
        generation=generation,
        run=run,
        write=write,
        nodes=1 if imported else compute.nodes,
        gpus=0 if imported else compute.gpus_per_node,
    )


def _with(generation: ModelGeneration, run: StageRun) -> ModelGeneration:
    training = TrainingStatus.model_validate(run.model_dump())
    status = generation.status.model_copy(update={"training": training})
    return generation.model_copy(update={"status": status})


def _import_file(seen: Observation, generation: ModelGeneration, record: StageRun) -> RunFile:
    spec = generation.spec
    assert spec.initial is not None
    shared = run_file(
        seen, "import", spec.recipe, number=spec.number, job=record.job, attempt=record.attempt
    )
    asked = ImportInput(uri=spec.initial.uri, digest=spec.initial.digest)
    return shared.model_copy(
        update={"imported": asked, "result": result_name(generation, "import")}
    )


def _train_file(seen: Observation, generation: ModelGeneration, record: StageRun) -> RunFile:
    spec = generation.spec
    assert spec.data and spec.data.manifest and spec.data.digest and spec.parent  # noqa: PT018
    folder = home(seen, spec.recipe)
    shared = run_file(
        seen, "train", spec.recipe, number=spec.number, job=record.job, attempt=record.attempt
    )
    asked = TrainInput(
        parent=artifact_ref(folder, spec.parent.digest),
        data=ArtifactRef(uri=spec.data.manifest, digest=spec.data.digest),
        checkpoints=f"{folder}/checkpoints/g{spec.number}",
        batch_divisor=getattr(record, "batch_divisor", 1),
        buffer=spec.data.buffer,
        quarantined=spec.data.quarantined,
        adapter=_continued(spec, folder),
        fisher=artifact_ref(folder, spec.data.fisher) if spec.data.fisher else None,
        seeded_head=_seeded(seen, spec.parent),
    )
    return shared.model_copy(update={"train": asked, "result": result_name(generation, "train")})


def _seeded(seen: Observation, parent: Ancestor) -> bool:
    """Whether the head of the parent is untrained."""
    known = {g.metadata.name: g.status.artifact for g in seen.generations}
    artifact = known.get(parent.name)
    return artifact is not None and artifact.head == "Seeded"


def _continued(spec: GenerationSpec, folder: str) -> AdapterInput | None:
    """The parent's adapter and its base, by their digests."""
    adapter = spec.continuation.adapter if spec.continuation else None
    if adapter is None:
        return None
    found, base = artifact_ref(folder, adapter.digest), artifact_ref(folder, adapter.base)
    return AdapterInput(uri=found.uri, digest=found.digest, base=base)


def _made(generation: ModelGeneration, run: StageRun, result: Result, now: datetime) -> Step:
    made = result.imported or (result.train.artifact if result.train else None)
    if made is None:
        raise ValueError(f"Job {run.job} reports success without an artifact")
    if wrong := _other_form(made, generation.spec.recipe):
        return fail_generation(_with(generation, run), OPTIMISE_NOT_POSSIBLE, wrong, now)
    trained = result.train or TrainOutput(artifact=made)
    training = run.model_copy(
        update={
            "percent": 100,
            "eta_seconds": 0,
            "step": result.train.steps if result.train else None,
            "total_steps": result.train.steps if result.train else None,
            "metrics": named(trained.metrics),
            "replay": replay_status(trained.replay),
            "pseudo_labels": pseudo_label_status(trained.pseudo_labels),
        }
    )
    changes: dict[str, object] = {
        "artifact": _artifact(made, trained, generation.spec),
        "training": training,
    }
    if generation.spec.origin == "Imported":
        changes |= _imported(generation, made, now)
    status = generation.status.model_copy(update=changes)
    name = generation.metadata.name
    kept = kept_start(generation.spec.recipe, trained.metrics)
    message = f"{name} has weights {made.digest}{_source(generation.spec, made)}"
    message += replay_message(trained.replay)
    message += pseudo_label_message(trained.pseudo_labels)
    message += f"; {_served_as(made.served)}" if made.served else ""
    message += f"; {kept}" if kept else ""
    events = [Event("Trained", message[:1024], generation=name)]
    if trained.warnings:
        lost = "; ".join(trained.warnings)[:1024]
        events.append(Event("TrackingFailed", lost, type="Warning", generation=name))
    return Step(actions=(WriteGeneration(name, status),), events=tuple(events))


def _other_form(made: CommittedArtifact, recipe: Recipe) -> str:
    """Why what was written is not in the form that the recipe asks for; empty if it is."""
    asked = recipe.serving.optimise if recipe.serving else None
    wanted = asked.describe() if asked else ""
    found = made.served.describe() if made.served else ""
    if found == wanted:
        return ""
    return (
        f"spec.serving.optimise asks for {wanted or 'no optimized form'}, but image "
        f"{recipe.training.image} wrote {found or 'none'}; use a trainer image of this version, or "
        "remove spec.serving.optimise"
    )


def _source(spec: GenerationSpec, made: CommittedArtifact) -> str:
    return f" of {spec.initial.uri}, commit {made.commit}" if spec.initial and made.commit else ""


def _served_as(form: ServedForm) -> str:
    return f"served as {form.describe()} {form.digest}, {form.bytes / 1e6:,.1f} MB"


def _imported(
    generation: ModelGeneration, made: CommittedArtifact, now: datetime
) -> dict[str, object]:
    """The status of an import instead of a verdict: there is nothing to compare it with."""
    seeded = made.head == "Seeded"
    chosen = generation.spec.recipe.model.keep_layers is not None  # maybe all of them
    why = "the layers of model.keepLayers were kept" if chosen else "its head was initialized"
    message = (
        f"{why} at import and it is untrained since: parent of the first run, never served"
        if seeded
        else "the initial model, served until a generation is proven better"
    )
    return {
        "verdict": "Imported",
        "reason": f"{made.head}Head",
        "message": message,
        "verdict_at": now,
        "trained_through": generation.spec.initial and generation.spec.initial.trained_through,
    }


def _artifact(made: CommittedArtifact, trained: TrainOutput, spec: GenerationSpec) -> Artifact:
    return Artifact(
        uri=made.served_uri,
        weights_digest=made.digest,
        served_digest=made.served_digest,
        format="onnx" if made.served and made.served.quantization else "safetensors",
        bytes=(made.served or made).bytes,
        head=made.head,
        commit=made.commit,
        buffer=trained.buffer,
        fisher=trained.fisher,
        adapter=_adapter(trained, spec),
    )


def _adapter(trained: TrainOutput, spec: GenerationSpec) -> Adapter | None:
    """The adapter that the next generation may continue."""
    left, before = trained.adapter, spec.continuation.adapter if spec.continuation else None
    if left is None or spec.parent is None:
        return None
    parent = spec.parent.digest
    return adapter_left(left.uri, left.digest, left.base, continued=before, parent=parent)
