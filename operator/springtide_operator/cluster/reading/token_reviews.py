"""Reviews progress tokens: to which pod one was issued, and to which Job that pod belongs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api.names import PROGRESS_AUDIENCE
from springtide_operator.cluster.api.kinds import JOB, JOB_SET, POD, TOKEN_REVIEW
from springtide_operator.cluster.api.objects import controller_uid
from springtide_operator.cluster.watching.watches import LABEL_JOB

if TYPE_CHECKING:
    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Raw
    from springtide_operator.cluster.watching.cache import Cache

POD_NAME = "authentication.kubernetes.io/pod-name"

POD_UID = "authentication.kubernetes.io/pod-uid"

SERVICE_ACCOUNT = "system:serviceaccount:"


@dataclass
class TokenReviews:
    """Reviews tokens, and finds pods in the cache."""

    client: Client
    cache: Cache

    async def review(self, token: str) -> tuple[str, str, str] | None:
        """Return namespace, name and uid of the pod that a token is bound to.

        None where it is invalid, of another audience, or bound to no pod.

        Raises:
            ApiError: the review failed.
        """
        spec = {"token": token, "audiences": [PROGRESS_AUDIENCE]}
        answer = await self.client.review(TOKEN_REVIEW, {"spec": spec})
        status = answer.get("status") or {}
        user = status.get("user") or {}
        username = str(user.get("username") or "")
        if not status.get("authenticated") or PROGRESS_AUDIENCE not in status.get("audiences", []):
            return None
        extra = user.get("extra") or {}
        pods, uids = extra.get(POD_NAME) or [], extra.get(POD_UID) or []
        if not username.startswith(SERVICE_ACCOUNT) or len(pods) != 1 or len(uids) != 1:
            return None
        namespace = username.removeprefix(SERVICE_ACCOUNT).partition(":")[0]
        return namespace, pods[0], uids[0]

    def is_of_job(self, bearer: tuple[str, str, str], job: str) -> bool:
        """Whether exactly that pod belongs to that Job."""
        namespace, pod, uid = bearer
        held, owner = self.cache.get(POD, namespace, pod), self.cache.get(JOB, namespace, job)
        if held is None or held["metadata"]["uid"] != uid:
            return False
        if owner is None:
            return self._is_of_job_set(held, job)
        return controller_uid(held) == str(owner["metadata"]["uid"])

    def _is_of_job_set(self, pod: Raw, name: str) -> bool:
        """Whether a pod belongs to the Job of that JobSet."""
        metadata = pod["metadata"]
        of_pod = (metadata.get("labels") or {}).get(LABEL_JOB, "")
        owner = self.cache.get(JOB_SET, metadata["namespace"], name)
        child = self.cache.get(JOB, metadata["namespace"], of_pod)
        if owner is None or child is None or controller_uid(pod) != str(child["metadata"]["uid"]):
            return False
        return controller_uid(child) == str(owner["metadata"]["uid"])
