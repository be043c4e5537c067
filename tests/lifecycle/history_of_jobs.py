"""Rules on Jobs and their pods."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lifecycle.answers import SPOILED
from lifecycle.choices import (
    CODES,
)
from lifecycle.history import History


class JobHistory(History):
    """What happens to Jobs, and to the pods of a run."""

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), minutes=st.sampled_from([1, 50, 1500]))
    def a_pod_runs(self, data: st.DataObject, minutes: int) -> None:
        self.world.begin(data.draw(st.sampled_from(sorted(self.world.jobs))))
        self.settle()
        self.world.now += timedelta(minutes=minutes)
        self.settle()

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), suspend=st.booleans())
    def another_controller_suspends_or_resumes_a_job(
        self, data: st.DataObject, suspend: bool
    ) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.jobs)))
        self.world.suspend_by_another(name, suspend=suspend)
        self.settle()

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), code=CODES, disrupted=st.booleans())
    def a_pod_fails(self, data: st.DataObject, code: int, disrupted: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.jobs)))
        if not self.world.jobs[name].succeeded:
            self.world.fail(name, code, disrupted=disrupted, reason="Error")

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def a_user_deletes_a_pod(self, data: st.DataObject) -> None:
        """What it was to say is lost; a Job that was not complete fails."""
        name = data.draw(st.sampled_from(sorted(self.world.jobs)))
        job = replace(self.world.jobs[name], pods=(), result=None)
        if not job.succeeded:
            job = replace(job, failed=True, finished=self.world.now, failure="BackoffLimitExceeded")
        self.world.jobs[name] = job

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def a_job_is_seen_to_end_before_its_pod(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.jobs)))
        if self.world.jobs[name].finished or name not in self.world.runs:
            return
        finished = replace(self.world.jobs[name], succeeded=True, finished=self.world.now)
        self.world.jobs[name] = finished
        self.world.step()
        if name in self.world.jobs:
            self.world.complete_jobs()

    @rule(how=st.sampled_from(SPOILED))
    def the_next_evaluation_hands_back_what_it_should_not(self, how: str) -> None:
        self.world.spoil_next_result = how

    @rule(without_gain=st.booleans())
    def early_stopping_keeps_the_start_or_not(self, without_gain: bool) -> None:
        self.world.without_gain = without_gain

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def a_user_deletes_a_job(self, data: st.DataObject) -> None:
        self.world.delete_job(data.draw(st.sampled_from(sorted(self.world.jobs))))
