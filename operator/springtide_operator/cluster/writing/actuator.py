"""Executes a plan: actions become manifests, applied in order, each safe to repeat.

A crash between any two writes, followed by the same plan, has the same result: names are
deterministic, and a name that is taken is a success only where its owner is ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from springtide_api import names
from springtide_api.generation.status import GenerationStatus
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import DEPLOYMENT, GENERATION, JOB, JOB_SET, UPDATE
from springtide_operator.cluster.api.objects import controller_uid
from springtide_operator.cluster.writing.canaries import Canaries
from springtide_operator.cluster.writing.refused import Refused
from springtide_operator.cluster.writing.route_writer import RouteWriter, is_of
from springtide_operator.cluster.writing.workload_writer import WorkloadWriter
from springtide_operator.lifecycle.queues.actions import ActivateWorkload, DeactivateWorkload
from springtide_operator.lifecycle.routes.actions import CreateCanaryService, SetRouteWeights
from springtide_operator.lifecycle.state import plan as plans
from springtide_operator.lifecycle.state.observed import OWN_KEYS_TAKEN
from springtide_operator.manifests import identity, serving
from springtide_operator.manifests.job import job
from springtide_operator.manifests.job_pods import PLAIN
from springtide_operator.manifests.job_set import job_set

if TYPE_CHECKING:
    from springtide_api.objects import Meta
    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Kind, Raw
    from springtide_operator.cluster.reading.live_reader import LiveReader
    from springtide_operator.cluster.watching.cache import Cache
    from springtide_operator.cluster.writing.events import Events
    from springtide_operator.cluster.writing.status_writer import StatusWriter
    from springtide_operator.manifests.job_pods import JobPods

ANNOTATIONS = "/metadata/annotations"

LABELS = "/metadata/labels"

FINALIZERS = "/metadata/finalizers"

OWNERS = "/metadata/ownerReferences"

MAX_CAUSE = 600
"""Characters of the API server's message: a status keeps 1,024, the instruction included."""


@dataclass
class Actuator:
    """Executes actions and posts Events.

    Own writes go into the cache at once, so that the next reconcile sees them.
    """

    client: Client
    cache: Cache
    live_reader: LiveReader
    events: Events
    status_writer: StatusWriter
    progress_url: str
    hub_endpoint: str = ""
    """The hub that initial models come from."""
    pods: JobPods = PLAIN
    """What the installation adds to the pods of Jobs."""

    def __post_init__(self) -> None:
        self._routes = RouteWriter(self.client, self.cache, self.live_reader)

    async def execute(self, update: Meta, action: plans.Action) -> None:
        """Carry out one action.

        Raises:
            Refused: quota, admission, missing rights or a name that is taken; `decide` gets it.
            ApiError: try again later.
        """
        try:
            await self._dispatch(update, action)
        except errors.Terminating:
            raise
        except (errors.Forbidden, errors.Invalid, errors.WebhookFailed) as error:
            if isinstance(action, plans.WriteGeneration):
                raise  # the message of the refusal could not be written either
            what, reason = plans.subject(action), _refusal(action)
            cause = str(error)[:MAX_CAUSE]
            message = f"{what} is refused: {cause}; change what refuses it, then it is retried"
            raise Refused(reason, message) from error

    async def _dispatch(self, update: Meta, action: plans.Action) -> None:  # noqa: C901
        match action:
            case plans.CreateGeneration():
                await self._create_generation(update, action)
            case plans.WriteGeneration(name, status):
                await self.status_writer.write(
                    GENERATION, (update.namespace, name), status.plain(), GenerationStatus
                )
            case plans.AdoptGeneration(name, owned):
                await self._adopt(update, name, owned=owned)
            case plans.DeleteGeneration(name, uid):
                await self._delete(GENERATION, update.namespace, name, uid)
            case plans.StartJob():
                await self._start(update, action)
            case plans.SuspendJob():
                await self._suspend(update.namespace, action)
            case plans.DeleteJob(name, uid, is_job_set):
                kind = JOB_SET if is_job_set else JOB
                await self._delete(kind, update.namespace, name, uid)
            case plans.ApplyCanary():
                await self._check_unchanged(update)
                await Canaries(self.client, self.cache, self.live_reader).apply(update, action)
            case plans.DeleteCanary(name, uid):
                await self._delete(DEPLOYMENT, update.namespace, name, uid)
            case plans.Serve():
                await self._serve(update, action.target.target_ref.name, action)
            case plans.SetFinalizer(present):
                await self._set_finalizer(update, present=present)
            case CreateCanaryService():
                await self._check_unchanged(update)
                made = await self._routes.create_service(update, action)
                self._check_owned("Service", made, ours=is_of(update, made))
            case SetRouteWeights():
                await self._check_unchanged(update)
                await self._routes.set_weights(update, action)
            case DeactivateWorkload() | ActivateWorkload():
                await WorkloadWriter(self.client, self.cache).write(update.namespace, action)

    async def post_event(self, update: Meta, event: plans.Event) -> None:
        """Post an Event on the update, or on the generation that it is about."""
        kind, name = (GENERATION, event.generation) if event.generation else (UPDATE, update.name)
        about = self.cache.get(kind, update.namespace, name)
        if about is not None:
            await self.events.post(kind, about, event.reason, event.message, type_=event.type)

    async def _create_generation(self, update: Meta, action: plans.CreateGeneration) -> None:
        body = identity.generation(update, action)
        try:
            made = await self.client.create(GENERATION, body)
        except errors.AlreadyExists:
            made = await self.client.get(GENERATION, update.namespace, action.name)
            labels = made["metadata"].get("labels") or {}
            ours = labels.get(names.LABEL_UPDATE_UID) == update.uid
            self._check_owned("ModelGeneration", made, ours=ours)
        self.cache.insert(GENERATION, made)

    async def _start(self, update: Meta, action: plans.StartJob) -> None:
        await self._check_unchanged(update)
        kind, manifest = (JOB_SET, job_set) if action.nodes > 1 else (JOB, job)
        body = manifest(
            update, action, self.progress_url, hub_endpoint=self.hub_endpoint, pods=self.pods
        )
        try:
            made = await self.client.create(kind, body)
        except errors.AlreadyExists:
            made = await self.client.get(kind, update.namespace, action.run.job)
            self._check_owned(kind.name, made, ours=controller_uid(made) == update.uid)
        self.cache.insert(kind, made)

    async def _check_unchanged(self, update: Meta) -> None:
        """Read the update live before a Job or a Deployment is written for it.

        After a gap between two watches the cache holds what was deleted or edited meanwhile, until
        an audit. The same uid and generation mean that it is neither.

        Raises:
            Conflict: it is gone or was changed; observe again.
        """
        try:
            live = await self.client.get(UPDATE, update.namespace, update.name)
        except errors.NotFound as error:  # or the server has just started and does not know it yet
            raise errors.Conflict(f"IncrementalUpdate {update.name} does not exist now") from error
        metadata = live["metadata"]
        if (metadata["uid"], metadata.get("generation", 0)) != (update.uid, update.generation):
            self.cache.insert(UPDATE, live)  # its event may not wake the update again
            raise errors.Conflict(f"IncrementalUpdate {update.name} was changed meanwhile")

    def _check_owned(self, kind: str, made: Raw, *, ours: bool) -> None:
        metadata = made["metadata"]
        if "deletionTimestamp" in metadata:
            raise errors.Conflict(f"{kind} {metadata['name']} is being deleted")
        if not ours:
            message = (
                f"{kind} {metadata['name']} exists and does not belong to this update; delete or "
                "rename it"
            )
            raise Refused("NameCollision", message)

    async def _suspend(self, namespace: str, action: plans.SuspendJob) -> None:
        """Suspend a Job and record that in the same write, or resume one that we suspended.

        Refused for a Job in a queue: it is Kueue's, also where the label was added just now.
        """
        kind, name, suspend = JOB_SET if action.is_job_set else JOB, action.name, action.suspend
        held = self.cache.get(kind, namespace, name)
        metadata = held["metadata"] if held else {}
        annotations, labels = metadata.get("annotations"), metadata.get("labels")
        mark = f"{ANNOTATIONS}/{_escaped(names.ANNOTATION_SUSPENDED)}"
        operations: list[Raw] = [_test_uid(action.uid)]
        if labels:
            operations.append(_test(f"{LABELS}/{_escaped(names.LABEL_QUEUE)}", None))
        if suspend and (annotations or held is None):
            operations.append(_set(mark, "true"))
        elif suspend:
            whole = _set(ANNOTATIONS, {names.ANNOTATION_SUSPENDED: "true"})
            operations += [_test(ANNOTATIONS, annotations), whole]
        elif held is None or {names.ANNOTATION_IMAGE, names.ANNOTATION_SUSPENDED} & {
            *(annotations or ())
        }:  # else an earlier version created it, which recorded nothing
            operations += [_test(mark, "true"), {"op": "remove", "path": mark}]
        await self._patch(kind, namespace, name, [*operations, _set("/spec/suspend", suspend)])

    async def _adopt(self, update: Meta, name: str, *, owned: bool) -> None:
        """Change our label and our owner reference if they are unchanged; nothing else."""
        held = self.cache.get(GENERATION, update.namespace, name)
        if held is None:
            return
        metadata = held["metadata"]
        labels, owners = metadata.get("labels"), metadata.get("ownerReferences")
        ours = f"{LABELS}/{_escaped(names.LABEL_UPDATE_UID)}"
        if labels:
            known = _test(ours, labels.get(names.LABEL_UPDATE_UID))
            relabel = [known, _set(ours, update.uid)]
        else:
            relabel = [_test(LABELS, labels), _set(LABELS, {names.LABEL_UPDATE_UID: update.uid})]
        wanted = [each for each in owners or [] if not identity.is_update(each, update)]
        wanted += [identity.owner_reference(update)] if owned else []
        reown = [_test(OWNERS, owners), _set(OWNERS, wanted)] if wanted != (owners or []) else []
        operations = [_test_uid(metadata["uid"]), *relabel, *reown]
        await self._patch(GENERATION, update.namespace, name, operations)

    async def _set_finalizer(self, update: Meta, *, present: bool) -> None:
        others = [each for each in update.finalizers if each != names.FINALIZER]
        wanted = [*others, names.FINALIZER] if present else others
        seen = _test(FINALIZERS, list(update.finalizers) or None)
        operations: list[Raw] = [_test_uid(update.uid), seen, _set(FINALIZERS, wanted)]
        await self._patch(UPDATE, update.namespace, update.name, operations)

    async def _serve(self, update: Meta, name: str, action: plans.Serve) -> None:
        """Apply; by force only at the resource version that `decide` has checked."""
        await self._check_unchanged(update)
        if action.take_back:
            action = await self._take_back(update, name, action)
        body, force = serving.deployment(update, action), bool(action.force_at_version)
        self.live_reader.invalidate_deployment(update.namespace, name)
        manager = names.field_manager(update.name)
        try:
            applied = await self.client.apply(DEPLOYMENT, body, manager=manager, force=force)
        except errors.Conflict as error:
            own = error.fields and all(path.startswith(serving.OWN_KEYS) for path in error.fields)
            if not own:
                raise
            live = await self.client.get(DEPLOYMENT, update.namespace, name)
            if names.LABEL_UPDATE in (live["metadata"].get("labels") or {}):
                self.cache.insert(DEPLOYMENT, live)
            raise Refused(OWN_KEYS_TAKEN, str(error)) from error
        if names.LABEL_UPDATE in (applied["metadata"].get("labels") or {}):
            self.cache.insert(DEPLOYMENT, applied)

    async def _take_back(self, update: Meta, name: str, action: plans.Serve) -> plans.Serve:
        """Remove other managers' ownership of both variables, at the version that was checked."""
        live = await self.client.get(DEPLOYMENT, update.namespace, name)
        if live["metadata"]["resourceVersion"] != action.force_at_version:
            self.cache.insert(DEPLOYMENT, live)
            raise errors.Conflict(f"Deployment {update.namespace}/{name} was changed meanwhile")
        managed, ours = (
            live["metadata"].get("managedFields") or [],
            names.field_manager(update.name),
        )
        operations = [
            _test("/metadata/resourceVersion", action.force_at_version),
            _set("/metadata/managedFields", serving.disowned(managed, action.target, ours)),
        ]
        patched = await self.client.patch(
            DEPLOYMENT, update.namespace, name, operations, manager=names.FIELD_MANAGER
        )
        return replace(action, force_at_version=patched["metadata"]["resourceVersion"])

    async def _patch(self, kind: Kind, namespace: str, name: str, operations: list[Raw]) -> None:
        """Patch; where the object was changed, read it for the next decision.

        Raises:
            PatchOutdated: a test failed; decide again.
        """
        try:
            patched = await self.client.patch(
                kind, namespace, name, operations, manager=names.FIELD_MANAGER
            )
        except errors.PatchOutdated:
            self.cache.insert(kind, await self.client.get(kind, namespace, name))
            raise
        self.cache.insert(kind, patched)

    async def _delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        try:
            left = await self.client.delete(kind, namespace, name, uid=uid)
        except (errors.NotFound, errors.Conflict):
            return  # gone, or replaced by another object
        if left.get("kind") == kind.name:
            self.cache.insert(kind, left)
        else:
            self.cache.remove(kind, namespace, name, uid)


def _refusal(action: plans.Action) -> str:
    match action:
        case plans.StartJob():
            return "JobRefused"
        case plans.Serve() | plans.ApplyCanary():
            return "ApplyRefused"
        case SetRouteWeights():
            return "PatchRefused"
        case _:
            return "WriteRefused"


def _test_uid(uid: str) -> Raw:
    return _test("/metadata/uid", uid)


def _test(path: str, value: object) -> Raw:
    """Apply a patch only where a value is unchanged; None: where there is none."""
    return {"op": "test", "path": path, "value": value}


def _escaped(key: str) -> str:
    """Write a key as a part of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def _set(path: str, value: object) -> Raw:
    return {"op": "add", "path": path, "value": value}
