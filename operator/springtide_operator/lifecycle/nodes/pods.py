"""Which of the pods of a Job counts: of several that end together, most end because of one.

A Job of one pod has one at a time, so the newest counts. Those of a training on several nodes lose
each other when one of them fails; those that share rows are ended with their Job.
"""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from springtide_api.contract import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from springtide_operator.lifecycle.state.observed import ObservedPod

LATER = datetime.max.replace(tzinfo=UTC)

KILLED, TERMINATED = 128 + signal.SIGKILL, 128 + signal.SIGTERM

_EXPLAINED = frozenset(ExitCode) - {ExitCode.DONE}
"""Exit codes by which a trainer names its failure. One that lost another ends differently."""


def newest_pods(pods: Iterable[ObservedPod]) -> list[ObservedPod]:
    """Return the newest pod of each node, by their numbers."""
    newest: dict[int, ObservedPod] = {}
    for pod in sorted(pods, key=lambda each: each.created):
        newest[pod.index] = pod
    return [newest[index] for index in sorted(newest)]


def first_pod(pods: Iterable[ObservedPod]) -> ObservedPod | None:
    """Return the newest pod of the first node, which alone commits a result."""
    return next((pod for pod in newest_pods(pods) if pod.index == 0), None)


def failed_first(pods: Iterable[ObservedPod]) -> ObservedPod | None:
    """Return the pod that a failed Job failed for; None: none is left.

    A disruption comes before all, then what the kubelet or the trainer names, then what ended
    first; one that was terminated because another had failed comes last. One that ended well is
    none.
    """

    def order(pod: ObservedPod) -> tuple[bool, bool, bool, bool, datetime, bool, int]:
        code = pod.exit_code
        named = code in _EXPLAINED or pod.out_of_memory
        ended = pod.ended or LATER
        other = code is None or code in {ExitCode.DONE, TERMINATED}
        return not pod.disrupted, not pod.reason, not named, other, ended, code != KILLED, pod.index

    newest = newest_pods(pods)
    left = [pod for pod in newest if pod.exit_code != ExitCode.DONE or pod.disrupted or pod.reason]
    return min(left, key=order, default=None)
