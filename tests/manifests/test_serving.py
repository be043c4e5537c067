"""One apply per target: everything that we own, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

from springtide_api.objects import Meta
from springtide_api.update.rollout import Target
from springtide_operator.lifecycle.state.plan import Serve, Serving
from springtide_operator.manifests.serving import deployment

UPDATE = Meta(
    name="ranker",
    namespace="search",
    uid="uid-of-update",
    creation_timestamp=datetime(2026, 3, 1, tzinfo=UTC),
)
TARGET = Target.model_validate(
    {
        "targetRef": {"name": "query-tower"},
        "container": "server",
        "env": {"uri": "WEIGHTS", "digest": "WEIGHTS_DIGEST"},
    }
)
SERVING = Serving(number=7, digest="sha256:07", uri="file:///models/07")


def test_it_names_two_variables_labels_and_annotations_and_never_replicas_or_image() -> None:
    applied = deployment(UPDATE, Serve(TARGET, "uid-of-target", SERVING, 9))

    assert applied == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "query-tower",
            "namespace": "search",
            "uid": "uid-of-target",
            "labels": {"springtide.dev/update": "ranker"},
            "annotations": {
                "springtide.dev/update-uid": "uid-of-update",
                "springtide.dev/number": "9",
            },
        },
        "spec": {
            "template": {
                "metadata": {
                    "labels": {
                        "springtide.dev/generation": "7",
                        "springtide.dev/role": "live",
                    },
                    "annotations": {"springtide.dev/digest": "sha256:07"},
                },
                "spec": {
                    "containers": [
                        {
                            "name": "server",
                            "env": [
                                {"name": "WEIGHTS", "value": "file:///models/07"},
                                {"name": "WEIGHTS_DIGEST", "value": "sha256:07"},
                            ],
                        }
                    ]
                },
            }
        },
    }


def test_a_claim_changes_no_pod() -> None:
    claim = deployment(UPDATE, Serve(TARGET, "uid-of-target", None, None))
    assert "spec" not in claim
    assert claim["metadata"]["labels"] == {"springtide.dev/update": "ranker"}
    assert "springtide.dev/number" not in claim["metadata"]["annotations"]
