"""Rules on what people edit, request, delete and restore."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lifecycle.choices import (
    COMPUTES,
    CUMULATIVE,
    EVALUATIONS,
    FORMS,
    INCONCLUSIVE,
    LIMITS,
    METHODS,
    RETENTIONS,
    TRIGGERS,
    VERBS,
    WINDOWS,
    gate,
    training,
)
from lifecycle.history_of_decisions import DecisionHistory


class PeopleHistory(DecisionHistory):
    """What users do to an update and its generations."""

    @rule(
        rate=st.sampled_from(["1e-5", "2e-5"]),
        margin=st.sampled_from(["0.01", "0.05"]),
        least=st.sampled_from([None, 300]),
        inconclusive=INCONCLUSIVE,
        cumulative=CUMULATIVE,
        evaluation=EVALUATIONS,
        method=METHODS,
        retention=RETENTIONS,
        compute=COMPUTES,
        limits=LIMITS,
    )
    def the_spec_is_edited(
        self,
        rate: str,
        margin: str,
        least: int | None,
        inconclusive: dict[str, Any],
        cumulative: str | None,
        evaluation: dict[str, Any],
        method: dict[str, Any],
        retention: dict[str, Any],
        compute: dict[str, Any],
        limits: dict[str, int],
    ) -> None:
        hyperparameters = {"learningRate": rate}
        asked = {"hyperparameters": hyperparameters, "compute": compute, "limits": limits}
        edited = training(method, retention, **asked)
        rules = gate(self.world.spec["gate"], inconclusive, cumulative, margin, least)
        self.world.edit(training=edited, gate=rules, evaluation=evaluation)

    @rule(compute=COMPUTES, limits=LIMITS)
    def gpus_and_their_budget_are_edited(
        self, compute: dict[str, Any], limits: dict[str, int]
    ) -> None:
        self.world.edit(
            training={**self.world.spec["training"], "compute": compute, "limits": limits}
        )
        self.settle()

    @rule(window=WINDOWS)
    def shards_are_edited(self, window: dict[str, int]) -> None:
        self.world.edit(data={**self.world.spec["data"], "window": window})
        self.settle()

    @rule(serving=FORMS)
    def the_served_form_is_switched(self, serving: dict[str, Any]) -> None:
        self.world.edit(serving=serving)
        self.settle()

    @rule(embedding=st.sampled_from([None, {"trainTower": "Query"}, {"trainTower": "Both"}]))
    def the_trained_tower_is_switched(self, embedding: dict[str, str] | None) -> None:
        self.world.edit(model={**self.world.spec["model"], "embedding": embedding})
        self.settle()

    @rule(trigger=st.sampled_from(TRIGGERS))
    def the_trigger_is_edited(self, trigger: dict[str, object]) -> None:
        self.world.edit(trigger=trigger)
        self.settle()

    @rule(suspend=st.booleans())
    def the_update_is_suspended_or_not(self, suspend: bool) -> None:
        self.world.edit(suspend=suspend)
        self.settle()

    @rule(data=st.data())
    def a_generation_is_pinned_or_none(self, data: st.DataObject) -> None:
        there = self.world.generations.values()
        known = sorted(g.spec.number for g in there if g.status.rollout.promoted_at)
        self.world.pin(data.draw(st.sampled_from([None, *known, *known, 3, 99])))
        self.settle()

    @precondition(lambda self: not self.world.update.metadata.deletion_timestamp)
    @rule(cascade=st.booleans())
    def the_update_is_restored_from_git(self, cascade: bool) -> None:
        self.world.recreate(cascade=cascade)
        self.settle()

    @precondition(lambda self: self.world.generations)
    @rule(data=st.data())
    def a_user_deletes_a_generation(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.generations)))
        self.world.delete_generation(name)
        self.checks.forget_generation(name)

    @rule(verb=VERBS)
    def a_user_requests(self, verb: str) -> None:
        self.request(verb)

    @rule(stale=st.sampled_from([-1, 0, 0, 1]))
    def a_user_requests_a_rollback(self, stale: int) -> None:
        live = self.world.update.status.live
        self.request(f"rollback.g{max((live.number if live else 0) + stale, 0)}")

    @precondition(lambda self: self.world.generations)
    @rule(data=st.data())
    def a_user_retries_a_rollout(self, data: st.DataObject) -> None:
        numbers = sorted(g.spec.number for g in self.world.generations.values())
        self.request(f"retry.g{data.draw(st.sampled_from(numbers))}")
