"""The invariants of the architecture and the rules on windows, cursor and analyses, as assertions.

They check every action before it is executed, and the world after every write.
They use no code of `lifecycle/`: what a generation may do is derived again from its status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.generation_facts import (
    digest_of,
    in_progress,
    of_another_version,
)
from lifecycle.invariants_of_actions import ActionInvariants
from lifecycle.invariants_of_analyses import AnalysisInvariants
from lifecycle.invariants_of_bakes import BakeInvariants
from lifecycle.invariants_of_canaries import CanaryInvariants
from lifecycle.invariants_of_conditions import ConditionInvariants
from lifecycle.invariants_of_deletions import DeletionInvariants
from lifecycle.invariants_of_gates import GateInvariants
from lifecycle.invariants_of_gpus import GpuInvariants
from lifecycle.invariants_of_holdbacks import HoldbackInvariants
from lifecycle.invariants_of_lineage import LineageInvariants
from lifecycle.invariants_of_notifications import NotificationInvariants
from lifecycle.invariants_of_owners import OwnerInvariants
from lifecycle.invariants_of_people import PeopleInvariants
from lifecycle.invariants_of_pins import PinInvariants
from lifecycle.invariants_of_queues import QueueInvariants
from lifecycle.invariants_of_routes import RouteInvariants
from lifecycle.invariants_of_runs import RunInvariants
from lifecycle.invariants_of_state import StateInvariants
from lifecycle.invariants_of_tokenizing import TokenizingInvariants
from lifecycle.invariants_of_warm_pods import WarmPodInvariants

from springtide_operator.lifecycle.queues.actions import ActivateWorkload, DeactivateWorkload
from springtide_operator.lifecycle.routes.actions import SetRouteWeights
from springtide_operator.lifecycle.state.generations import unknown_value
from springtide_operator.lifecycle.state.plan import (
    ApplyCanary,
    CreateGeneration,
    DeleteCanary,
    DeleteGeneration,
    DeleteJob,
    Serve,
    SetFinalizer,
    StartJob,
    SuspendJob,
    WriteGeneration,
)

if TYPE_CHECKING:
    from datetime import datetime

    from lifecycle.world import World

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import Action


class Invariants(
    ActionInvariants,
    RunInvariants,
    StateInvariants,
    ConditionInvariants,
    LineageInvariants,
    BakeInvariants,
    OwnerInvariants,
    PeopleInvariants,
    PinInvariants,
    NotificationInvariants,
    CanaryInvariants,
    AnalysisInvariants,
    RouteInvariants,
    WarmPodInvariants,
    DeletionInvariants,
    GateInvariants,
    GpuInvariants,
    HoldbackInvariants,
    QueueInvariants,
    TokenizingInvariants,
):
    """Watches a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.known: dict[str, ModelGeneration] = {}
        """Every generation as it last was, by uid."""
        self.accepted: set[str] = set()
        """Digests that were accepted, of generations that are gone, too."""
        self.foreign: set[str] = set()
        """Names of generations that another client created."""
        self.unseen: set[str] = set()
        """Names of generations that no operator could continue for a while, or whose Jobs it could
        not see: what ended and was deleted meanwhile is observed late."""
        self.since: dict[str, int] = {}
        """The number of requests when a generation last got a verdict or a hold, by uid."""
        self.update_uid = ""
        self.quarantined: set[str] = set()
        self.released: set[str] = set()
        """Partitions that were quarantined and no generation went live with since."""
        self.there: set[str] = set()
        self.records_lost = False
        """A record may be gone, or a request was replaced before it was carried out in full."""
        self.rolled_back: set[str] = set()
        """Digests of generations that were rolled back: they are never served again."""
        self.ever_rolled_back: set[int] = set()
        """Numbers of generations that were rolled back, of those that are gone, too."""
        self.excluded: set[int] = set()
        """Generations whose rows a run left out: so does every later one."""
        self.since_rollback: dict[str, int] = {}
        """The number of requests when the rollback of a promoted generation was decided, by uid."""
        self.ever_quarantined: set[str] = set()
        self.lineages: dict[str, frozenset[str]] = {}
        """Partitions that weights and their ancestors were trained on, by digest."""
        self.notified: dict[str, tuple[str, str, datetime | None, str]] = {}
        """What each notification was about, by its id."""
        self.gpu_seconds_counted: dict[str, int] = {}
        """counters.gpuSeconds as it last was, by the uid of the update."""
        self.gpu_pods: set[str] = set()
        """Pods with a GPU that a status ever named, by uid."""
        self.clock_was_set_back = False
        self.files_lost = False
        """A user deleted a generation, or a client copied one, while files of others were deleted,
        or about to be."""
        world.storage.on_deletion = self.nothing_referenced_is_deleted
        world.on_action, world.check = self.check_action, self.check_world

    def check_action(self, seen: Observation, action: Action) -> None:
        self.a_deletion_only_undoes(seen, action)
        match action:
            case CreateGeneration(name, spec) if name not in self.world.generations:
                assert self.world.stalled_watches or not [
                    g for g in self.ours() if of_another_version(g)
                ]
                if spec.origin == "Trained":
                    self.check_run(seen, action)
            case StartJob() if action.run.job not in self.world.jobs:
                self.no_job_starts_while_pinned(seen)
                self.a_job_is_recorded_before_it_is_created(action)
                self.what_pods_may_use_is_named_by_probes(seen, action.run)
                self.rows_are_tokenized_before_a_training_alone(seen, action)
                self.nothing_is_evaluated_in_train_only(seen, action)
                self.nothing_begins_beyond_the_budget(seen, action.gpus)
                self.a_job_is_created_in_the_queue_of_the_spec(seen, action)
            case DeleteJob() | DeleteGeneration():
                self.check_deletion(seen, action)
            case Serve() | SetFinalizer() | ApplyCanary() | SetRouteWeights() | DeleteCanary():
                self.check_target_write(seen, action)
            case WriteGeneration():
                self.check_status_write(seen, action)
            case SuspendJob() | ActivateWorkload() | DeactivateWorkload():
                self.check_suspension(seen, action)

    def check_suspension(
        self, seen: Observation, action: SuspendJob | ActivateWorkload | DeactivateWorkload
    ) -> None:
        if not isinstance(action, SuspendJob):
            self.only_what_the_operator_deactivated_is_activated(seen, action)
            return
        self.a_job_in_a_queue_is_kueues(seen, action)
        if not action.suspend:
            self.only_jobs_that_the_operator_suspended_are_resumed(seen, action)
            job = seen.job(action.name)
            self.nothing_begins_beyond_the_budget(seen, job.gpus if job else 0)

    def check_status_write(self, seen: Observation, write: WriteGeneration) -> None:
        self.a_promotion_follows_verdict_and_available_pods(seen, write)
        self.a_rollout_starts_only_once_it_is_approved(seen, write)
        self.nothing_rolls_out_while_pinned(seen, write)
        self.only_running_pods_count_as_running_time(seen, write)
        self.steps_follow_each_other(seen, write)
        self.no_canary_outlives_its_rollout(seen, write)
        self.a_route_is_recorded_as_withdrawn_once_it_is(seen, write)
        self.check_analysis(seen, write)
        self.an_owners_change_is_no_evidence(seen, write)

    def check_target_write(
        self,
        seen: Observation,
        action: Serve | SetFinalizer | ApplyCanary | SetRouteWeights | DeleteCanary,
    ) -> None:
        if isinstance(action, SetRouteWeights | DeleteCanary):
            self.check_traffic(seen, action)
            return
        if isinstance(action, ApplyCanary):
            self.a_canary_runs_the_candidate_in_its_steps_alone(seen, action)
            self.only_usable_targets_are_written(seen, action)
            return
        self.no_target_is_written_unless_the_mode_says_so(seen, action)
        if isinstance(action, Serve):
            self.only_usable_targets_are_written(seen, action)
            self.only_an_accepted_generation_is_served(seen, action)
            self.nothing_rejected_is_applied(seen, action)
            self.nothing_else_is_served_while_pinned(seen, action)
            self.targets_serve_live_during_the_steps(seen, action)

    def forget_generation(self, name: str) -> None:
        """A user deleted a generation: what only its status recorded is lost with it."""
        self.foreign.discard(name)
        gone = [g for g in self.known.values() if g.metadata.name == name]
        self.rolled_back -= {digest_of(g) for g in gone}
        rollouts = ((g, g.status.rollout) for g in self.world.generations.values())
        left = (g for g, rollout in rollouts if rollout.rollback_reason and not rollout.failure)
        self.rolled_back |= set(map(digest_of, left))
        self.files_lost |= any(start.run.collect for start in self.world.runs.values())
        self.released = set()
        self.excluded = set()
        self.records_lost = True

    def ours(self) -> list[ModelGeneration]:
        there = self.world.generations.items()
        return [g for name, g in there if name not in self.foreign]

    def check_world(self) -> None:
        world = self.world
        self.track_the_quarantine()
        self.gpu_seconds_are_at_most_what_pods_used()
        changed = False
        for name, g in world.generations.items():
            before = self.known.get(g.metadata.uid)
            if before is g or name in self.foreign:
                continue
            self.known[g.metadata.uid] = g
            changed = True
            self.check_generation(g)
            self.check_change(before or g, g)
        there = {g.metadata.uid for g in world.generations.values()}
        if changed or there != self.there:
            busy = [g for g in self.ours() if in_progress(g) and g.spec.origin == "Trained"]
            busy = [g for g in busy if not self.retires_next(g)]
            assert len([g for g in busy if not unknown_value(g)]) <= 1
            # What a newer operator calls by a new word may be at an end or not: nothing new starts
            # once the word is observed.
            new = [g for g in busy if g.metadata.uid in there - self.there]
            assert len(busy) <= 1 or not new or self.world.stalled_watches
            self.there = there
            self.interim_analyses_are_shared_by_all_evaluations_of_a_holdout()
        assert set(world.served) <= self.accepted
        self.check_canaries()

    def retires_next(self, g: ModelGeneration) -> bool:
        """It was created on an older observation, when its parent was not rolled back."""
        parent = self.world.generations.get(g.spec.parent.name) if g.spec.parent else None
        return parent is not None and bool(parent.status.rollout.rollback_reason)

    # Once nothing more is written, and nothing is seen late.
