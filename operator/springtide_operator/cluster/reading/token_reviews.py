"""Reviews progress tokens: to which pod one was issued, and to which Job that pod belongs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api.names import PROGRESS_AUDIENCE
from springtide_operator.cluster.api.kinds import JOB, POD, TOKEN_REVIEW
from springtide_operator.cluster.api.objects import controller_uid

if TYPE_CHECKING:
    from springtide_operator.cluster.api.client import Client
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
        if held is None or owner is None or held["metadata"]["uid"] != uid:
            return False
        return controller_uid(held) == str(owner["metadata"]["uid"])
