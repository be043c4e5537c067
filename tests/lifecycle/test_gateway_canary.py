"""A canary by Gateway: weights of an HTTPRoute, who else writes them, and the way back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from lifecycle.declared import SPEC
from lifecycle.invariants import Invariants
from lifecycle.route_examples import route
from lifecycle.test_canary import STEPS, later, summary
from lifecycle.world import World, digest

from springtide_operator.lifecycle.routes.observed import ObservedBudget, ObservedService, Selector
from springtide_operator.lifecycle.state.plan import ApplyCanary, DeleteCanary

TARGET = {
    "targetRef": {"name": "ranker"},
    "container": "server",
    "service": "ranker",
    "httpRoute": "shop",
}


OTHER = [{"targetRef": {"name": "reranker"}, "container": "server"}]


def gateway(steps: list[dict[str, Any]] = STEPS) -> dict[str, Any]:
    canary = {"steps": steps, "traffic": {"type": "Gateway"}}
    return {
        "targets": [TARGET],
        "deadline": "10m",
        "strategy": {"type": "Canary", "canary": canary},
    }


def with_live(**rollout: Any) -> World:
    """Generation 1 is live on nine pods behind a route."""
    world = World(spec={**SPEC, "rollout": {**gateway(), **rollout}})
    Invariants(world)
    world.target = replace(world.target, desired=9, template=digest("template"))
    world.create_route()
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    assert world.generation(1).status.outcome == "Live"
    assert world.weights() == (100, 0)
    return world


def started(*, ready: bool = True, **rollout: Any) -> World:
    """The first step of the canary of generation 2 began."""
    world = with_live(**rollout)
    begin(world, ready=ready)
    return world


def begin(world: World, *, ready: bool = True) -> None:
    world.canary_pods_ready = ready
    world.months.append("2025-03")
    for _ in range(20):
        if world.canaries:
            break
        world.now += timedelta(minutes=1)
        world.complete_jobs()
        world.settle()
    if ready:
        world.finish_rollouts()
        world.settle()


def rollout_of(world: World) -> Any:
    return world.generation(2).status.rollout


def route_record(world: World) -> Any:
    return rollout_of(world).targets[0].route


def test_the_weight_is_written_once_canary_pods_are_endpoints_and_the_step_counts_from_then() -> (
    None
):
    world = with_live()
    world.endpoints_follow = False
    begin(world)
    assert world.services["ranker-canary"].update == "shop"
    assert world.weights() == (100, 0)
    assert rollout_of(world).weight_seen_at is None
    assert summary(world) == "canary 10 %, step 1/2, 0/1 endpoints"
    world.endpoints_follow = True
    world.now += timedelta(minutes=1)
    world.settle()
    assert world.weights() == (90, 10)
    assert rollout_of(world).weight_seen_at == world.now
    assert route_record(world).weight == 10
    assert [(each.rule, each.weight) for each in route_record(world).weights] == [(0, 100)]


def test_steps_change_the_weight_and_after_promotion_all_of_it_is_back_on_the_owners_service() -> (
    None
):
    world = started()
    assert (world.weights(), world.canary.desired) == ((90, 10), 1)
    later(world, 11)
    assert (world.weights(), world.canary.desired) == ((50, 50), 5)
    world.pods_ready = False
    later(world, 21)
    assert rollout_of(world).steps_ended_at is not None
    assert world.target.number == 2
    assert world.weights() == (50, 50), "the canary keeps its weight while the targets change"
    world.pods_ready = True
    world.finish_rollouts()
    world.settle()
    assert world.weights() == (100, 0)
    assert world.canaries, "its pods stay until the gateway has followed"
    assert rollout_of(world).promoted_at is None
    later(world, 1)
    assert not world.canaries
    assert world.generation(2).status.outcome == "Live"
    assert world.weights() == (100, 0)


def test_canary_pods_have_a_label_of_their_own_and_not_those_of_the_owners_selectors() -> None:
    world = with_live()
    applied = []
    world.on_action = lambda seen, action: applied.append(action)
    begin(world)
    made = next(each for each in applied if isinstance(each, ApplyCanary))
    assert made.selector == (("springtide.dev/canary", "ranker-canary"),)
    assert made.dropped_labels == {"app"}
    assert world.services["ranker-canary"].selector == Selector(made.selector)


def test_pods_are_the_share_of_the_available_pods_rounded_up_and_rescaled_with_them() -> None:
    world = started()
    world.target = replace(world.target, desired=27, updated=27, available=27)
    later(world, 1)
    assert world.canary.desired == 3
    assert world.weights() == (90, 10)
    assert rollout_of(world).step == 1


def test_a_rejected_canary_loses_its_requests_at_once_and_its_pods_after_the_drain() -> None:
    world = started()
    deleted_at: list[tuple[int, ...]] = []

    def note(seen: object, action: object) -> None:
        if isinstance(action, DeleteCanary):
            deleted_at.append(world.weights())

    world.on_action = note
    world.ask("rollback.g2@1")
    world.settle()
    assert world.weights() == (100, 0)
    assert world.canaries
    assert not deleted_at
    assert world.plan.wake_after <= timedelta(seconds=15)
    world.now += timedelta(seconds=16)
    world.settle()
    assert not world.canaries
    assert deleted_at == [(100, 0)]
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.target.number == 1


@pytest.mark.survives(
    "Routes",
    "another client changes weights of an HTTPRoute during a canary",
    "forward steps hold with FieldConflict and nothing is overwritten; the step starts again "
    "once they are back; a rollback restores the owner's weights",
)
def test_weights_that_another_client_changed_hold_the_step_until_they_are_back() -> None:
    world = started()
    world.weigh(100, 0)
    later(world, 30)
    assert world.weights() == (100, 0), "it is not fought over"
    assert rollout_of(world).step == 1
    assert rollout_of(world).weight_seen_at is None
    assert world.condition("ActionRequired").reason == "FieldConflict"
    message = world.condition("ActionRequired").message
    assert "changed by argocd" in message
    assert "once they are 90 and 10 again" in message
    assert rollout_of(world).rollback_reason == "", "a hold does not reach the deadline"
    world.weigh(90, 10)
    later(world, 1)
    assert rollout_of(world).weight_seen_at == world.now
    later(world, 9)
    assert rollout_of(world).step == 1, "its time starts again"
    later(world, 2)
    assert rollout_of(world).step == 2


def test_a_rollback_restores_the_weights_whoever_changed_them() -> None:
    world = started()
    world.weigh(50, 50)
    later(world, 1)
    assert world.weights() == (50, 50)
    world.ask("rollback.g2@1")
    later(world, 2)
    assert world.weights() == (100, 0)
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_crash_between_the_patch_and_the_status_is_no_change_of_another_client() -> None:
    world = with_live()
    world.endpoints_follow = False
    begin(world)
    world.endpoints_follow = True
    while world.weights() == (100, 0):
        world.crash_after(1)
    assert route_record(world).weight == 0
    world.settle()
    assert rollout_of(world).weight_seen_at == world.now


@pytest.mark.survives(
    "Operator",
    "is ended between the patch of a weight and the record of it, and the step is edited meanwhile",
    "the weight is its own: the step starts again with the edited one",
)
def test_a_weight_that_was_written_and_not_recorded_may_be_edited() -> None:
    world = started(ready=False)
    world.canary_pods_ready = True
    world.finish_canaries()
    for _ in range(9):
        world.crash_after(1)
        if world.weights() == (90, 10):
            break
    assert (world.weights(), route_record(world).weight) == ((90, 10), 0)
    world.edit(rollout=gateway([{"weight": 20, "duration": "10m"}, STEPS[1]]))
    later(world, 2)
    assert (world.weights(), route_record(world).weight) == ((80, 20), 20)
    assert world.condition("ActionRequired").status == "False"


def test_a_refused_patch_stops_the_clock_and_is_retried() -> None:
    world = with_live()
    world.refusing = {"HTTPRoute shop": "PatchRefused"}
    begin(world)
    later(world, 30)
    assert world.condition("Stalled").reason == "PatchRefused"
    assert rollout_of(world).rollback_reason == ""
    world.refusing = {}
    later(world, 2)
    assert world.weights() == (90, 10)


def test_while_the_way_back_is_refused_the_pods_that_get_requests_stay() -> None:
    world = started()
    world.refusing = {"HTTPRoute shop": "PatchRefused"}
    world.ask("rollback.g2@1")
    later(world, 5)
    assert world.weights() == (90, 10)
    assert world.canaries
    assert world.condition("Stalled").reason == "PatchRefused"
    assert rollout_of(world).rolled_back_at is None
    world.refusing = {}
    later(world, 2)
    assert world.weights() == (100, 0)
    assert not world.canaries
    assert world.generation(2).status.outcome == "RolledBack"


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"ranker": 1, "ranker-canary": 1}, "RouteNotAtRest"),
        ({"ranker": 1, "ranker-canary": 0}, "RouteTooCoarse"),
        ({"ranker": 100}, "RouteWithoutCanary"),
        ({"search": 100}, "RouteWithoutService"),
    ],
)
def test_a_route_that_a_canary_cannot_use_is_refused_before_the_first_step(weights, reason) -> None:
    world = with_live()
    world.routes["shop"] = route(weights)
    world.months.append("2025-03")
    world.rounds(8)
    assert world.condition("Stalled").reason == reason
    assert not world.canaries
    assert rollout_of(world).step is None
    world.create_route()
    world.rounds(2)
    assert world.canaries


@pytest.mark.survives(
    "Routes",
    "the HTTPRoute of a target is deleted, or its kind cannot be read, before or during a canary",
    "it waits with the reason; a rollback goes on without a route that is gone",
)
def test_a_route_that_is_gone_holds_a_step_and_no_rollback() -> None:
    world = started()
    del world.routes["shop"]
    later(world, 30)
    assert world.condition("Stalled").reason == "RouteNotFound"
    assert world.canaries
    assert rollout_of(world).rollback_reason == ""
    world.ask("rollback.g2@1")
    later(world, 2)
    assert not world.canaries
    assert world.generation(2).status.outcome == "RolledBack"


def test_routes_that_cannot_be_read_hold_the_deletion_of_pods_that_may_get_requests() -> None:
    world = started()
    world.route_problem = "the operator may not list httproutes"
    later(world, 5)
    assert world.condition("Stalled").reason == "RouteUnavailable"
    world.ask("rollback.g2@1")
    later(world, 5)
    assert world.canaries
    world.route_problem = ""
    later(world, 2)
    assert not world.canaries
    assert world.weights() == (100, 0)


def test_a_service_or_a_budget_that_would_select_canary_pods_is_refused_by_name() -> None:
    world = with_live()
    world.budgets = (ObservedBudget("team", Selector((("team", "search"),))),)
    world.months.append("2025-03")
    world.rounds(8)
    assert world.condition("Stalled").reason == "CanarySelected"
    assert "PodDisruptionBudget team" in world.condition("Stalled").message
    world.budgets = ()
    world.services["all"] = ObservedService("all", Selector((("team", "search"),)))
    world.rounds(2)
    assert "Service all" in world.condition("Stalled").message
    del world.services["all"]
    world.rounds(2)
    assert world.canaries


def test_a_service_of_another_client_with_the_name_of_the_canarys_is_refused() -> None:
    world = with_live()
    world.services["ranker-canary"] = ObservedService("ranker-canary", Selector((("a", "b"),)))
    world.months.append("2025-03")
    world.rounds(8)
    assert world.condition("Stalled").reason == "NameCollision"
    assert not world.canaries


def test_a_pin_restores_the_weights_and_the_steps_start_again_after_it() -> None:
    world = started()
    world.pin(1)
    later(world, 2)
    assert (world.weights(), world.canaries, rollout_of(world).step) == ((100, 0), {}, None)
    world.pin(None)
    later(world, 3)
    assert world.weights() == (90, 10)
    assert route_record(world).withdrawn_at is None


def test_a_pin_removed_before_the_canary_is_gone_continues_with_its_weight() -> None:
    world = started()
    world.pin(1)
    world.settle()
    assert world.weights() == (100, 0)
    world.pin(None)
    later(world, 2)
    assert world.weights() == (90, 10)
    assert rollout_of(world).weight_seen_at is not None


def test_a_deleted_update_takes_the_requests_from_its_canary_before_the_pods_go() -> None:
    world = started()
    world._meta(deletion_timestamp=world.now)
    world.settle()
    assert world.weights() == (100, 0)
    assert world.canaries
    assert world.update.metadata.finalizers
    later(world, 1)
    assert not world.canaries
    assert world.update.metadata.finalizers == ()


def test_a_deletion_with_a_refused_patch_ends_after_the_deadline_and_leaves_the_pods() -> None:
    world = started()
    world.refusing = {"HTTPRoute shop": "PatchRefused"}
    world._meta(deletion_timestamp=world.now)
    later(world, 8)
    assert world.update.metadata.finalizers
    later(world, 8)
    assert world.update.metadata.finalizers == ()
    assert world.canaries, "they get requests"


def test_a_changed_route_of_the_spec_counts_from_the_next_rollout_on() -> None:
    world = started()
    world.create_route("other")
    world.edit(rollout={**gateway(), "targets": [{**TARGET, "httpRoute": "other"}]})
    later(world, 40)
    assert world.weights() == (100, 0)
    assert world.weights("other") == (100, 0)
    assert world.generation(2).status.outcome == "Live"
    assert route_record(world).name == "shop"


def test_a_strategy_without_steps_ends_the_canary_and_its_weight_goes_back() -> None:
    world = started()
    kept = {k: v for k, v in TARGET.items() if k not in {"service", "httpRoute"}}
    world.edit(rollout={"targets": [kept], "deadline": "10m"})
    later(world, 4)
    assert world.weights() == (100, 0)
    assert not world.canaries
    assert world.generation(2).status.outcome == "Live"


@pytest.mark.survives(
    "People",
    "a user deletes the ModelGeneration of a canary by Gateway, and removes the HTTPRoute or the "
    "target from the spec",
    "the canary's Deployment names its route: it gets weight 0, then its pods go",
)
@pytest.mark.parametrize("targets", [SPEC["rollout"]["targets"], OTHER], ids=["no route", "other"])
def test_a_canary_without_a_record_and_a_route_in_the_spec_loses_its_requests_first(
    targets: list[dict[str, Any]],
) -> None:
    world = started()
    world.create_target_of(OTHER[0])
    assert world.weights() == (90, 10)
    world.check.__self__.forget_generation("shop-g2")
    world.delete_generation("shop-g2")
    world.edit(rollout={"targets": targets, "deadline": "10m"})
    world.settle()
    assert world.weights() == (100, 0)
    assert world.canaries, "the gateway may not have followed yet"
    later(world, 1)
    assert not world.canaries
    assert world.update.metadata.finalizers == ()


def test_a_canary_whose_annotations_name_nothing_that_is_there_is_deleted() -> None:
    world = started()
    wrong = {"route": "No Route", "service": "-"}
    world.canaries["ranker-canary"] = replace(world.canaries["ranker-canary"], **wrong)
    world.check.__self__.forget_generation("shop-g2")
    world.delete_generation("shop-g2")
    world.edit(rollout=SPEC["rollout"])
    later(world, 1)
    assert not world.canaries


def test_a_weight_that_is_lowered_is_written_before_pods_go() -> None:
    world = started()
    later(world, 12)
    assert (world.weights(), world.canary.desired) == ((50, 50), 5)
    seen = []

    def note(_: object, action: object) -> None:
        if isinstance(action, ApplyCanary):
            seen.append((world.weights(), action.replicas))

    world.on_action = note
    world.edit(rollout=gateway([STEPS[0], {"weight": 20, "duration": "20m"}]))
    later(world, 2)
    assert (world.weights(), world.canary.desired) == ((80, 20), 2)
    assert seen == [((80, 20), 2)]


@pytest.mark.survives(
    "Routes",
    "another client edits or deletes the Deployment of a canary that gets requests by Gateway",
    "its weight is 0 until its pods are back, then its step starts again",
)
@pytest.mark.parametrize("how", ["edited", "deleted"])
def test_a_canary_that_another_client_edits_or_deletes_gets_no_requests_until_it_is_back(
    how: str,
) -> None:
    world = started()
    later(world, 1)
    uid, deleted_at = world.canary.uid, []
    world.canary_pods_ready = False

    def note(_: object, action: object) -> None:
        if isinstance(action, DeleteCanary):
            deleted_at.append((world.weights(), world.now))

    world.on_action = note
    if how == "edited":
        world.edit_canary("ranker-canary")
    else:
        del world.canaries["ranker-canary"]
    world.settle()
    assert world.weights() == (100, 0)
    since = world.now
    later(world, 1)
    assert world.canary.uid != uid
    assert [weights for weights, _ in deleted_at] == [(100, 0)] * (how == "edited")
    assert all(at - since >= timedelta(seconds=15) for _, at in deleted_at)
    assert world.weights() == (100, 0)
    world.canary_pods_ready = True
    later(world, 1)
    assert world.weights() == (90, 10)
    assert (rollout_of(world).step, rollout_of(world).weight_seen_at) == (1, world.now)


@pytest.mark.survives(
    "Routes",
    "a canary loses its pods while its step is held: by a paused target, or by the deleted record "
    "of live",
    "the weight returns at once; once nothing holds the step, it starts again",
)
@pytest.mark.parametrize("how", ["crashed", "deleted"])
@pytest.mark.parametrize("held", ["paused", "live deleted"])
def test_a_canary_without_a_ready_pod_gets_no_requests_while_its_step_is_held(
    held: str, how: str
) -> None:
    world = started()
    live = world.generation(1)
    if held == "paused":
        world.target = replace(world.target, paused=True)
    else:
        world.delete_generation("shop-g1")
        world.check.__self__.forget_generation("shop-g1")
    later(world, 1)
    assert world.weights() == (90, 10), "a hold alone changes no weight"
    if how == "crashed":
        world.crash_canaries()
    else:
        del world.canaries["ranker-canary"]
    world.settle()
    assert (world.weights(), route_record(world).weight) == ((100, 0), 0)
    assert rollout_of(world).weight_seen_at is None
    later(world, 30)
    assert rollout_of(world).rollback_reason == ""
    world.canary_pods_ready = True
    world.target = replace(world.target, paused=False)
    world.generations["shop-g1"] = live
    later(world, 3)
    assert (world.weights(), rollout_of(world).step) == ((90, 10), 1)
    assert rollout_of(world).weight_seen_at > world.now - timedelta(minutes=3)


def test_weights_that_another_client_sets_in_a_hold_without_pods_are_left_alone() -> None:
    world = started()
    world.target = replace(world.target, paused=True)
    world.crash_canaries()
    world.settle()
    world.weigh(40, 60)
    later(world, 2)
    assert world.weights() == (40, 60)


def test_pods_of_a_changed_template_get_requests_only_once_they_are_available() -> None:
    world = started()
    applied = []

    def note(_: object, action: object) -> None:
        if isinstance(action, ApplyCanary):
            applied.append((world.weights(), world.now))

    world.on_action = note
    world.target = replace(world.target, template=digest("another image"), changed_by="helm")
    world.settle()
    assert world.weights() == (100, 0)
    since = world.now
    later(world, 1)
    assert {weights for weights, _ in applied} == {(100, 0)}
    assert all(at - since >= timedelta(seconds=15) for _, at in applied)
    assert world.canaries["ranker-canary"].made_from == digest("another image")
    later(world, 1)
    assert world.weights() == (90, 10)


def test_a_target_added_during_a_canary_gets_the_weight_of_the_step_on_its_own_route() -> None:
    world = started()
    other = {**TARGET, "targetRef": {"name": "reranker"}, "service": "re", "httpRoute": "re"}
    world.create_target_of({"targetRef": {"name": "reranker"}, "container": "server"}, desired=9)
    world.edit(rollout={**gateway(), "targets": [TARGET, other]})
    later(world, 3)
    assert world.condition("Stalled").reason == "RouteNotFound"
    assert world.weights() == (90, 10)
    world.create_route("re", re=1000, re_canary=0)
    later(world, 3)
    assert world.weights("re") == (900, 100)
    assert world.weights() == (90, 10)
    later(world, 50)
    assert world.generation(2).status.outcome == "Live"
    assert (world.weights(), world.weights("re")) == ((100, 0), (1000, 0))


def test_with_replicas_no_route_is_read_or_written() -> None:
    world = World(spec={**SPEC})
    world.create_route()
    world.settle()
    assert world.seen().routings == {}
