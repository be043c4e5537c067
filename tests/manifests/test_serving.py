"""One apply per target: everything that we own, and nothing else."""

from __future__ import annotations

import copy
from datetime import UTC, datetime

from springtide_api.objects import Meta
from springtide_api.update.rollout import Target
from springtide_operator.lifecycle.state.plan import Serve, Serving
from springtide_operator.manifests.serving import deployment, disowned

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


def test_other_managers_lose_what_we_own_and_keep_the_rest() -> None:
    ours = {
        "f:metadata": {
            "f:labels": {"f:springtide.dev/generation": {}, "f:app": {}},
            "f:annotations": {"f:springtide.dev/digest": {}, "f:team": {}},
        },
        "f:spec": {
            "f:containers": {
                'k:{"name":"server"}': {
                    "f:env": {
                        'k:{"name":"WEIGHTS"}': {},
                        'k:{"name":"WEIGHTS_DIGEST"}': {},
                        'k:{"name":"PORT"}': {},
                    }
                },
                'k:{"name":"proxy"}': {"f:env": {'k:{"name":"WEIGHTS"}': {}}},
            }
        },
    }
    entries = [
        {"manager": manager, "fieldsV1": {"f:spec": {"f:template": copy.deepcopy(ours)}}}
        for manager in ("kubectl", "springtide:ranker")
    ]

    left = disowned(entries, TARGET, "springtide:ranker")

    assert left[1] == entries[1]
    assert left[0]["fieldsV1"]["f:spec"]["f:template"] == {
        "f:metadata": {"f:labels": {"f:app": {}}, "f:annotations": {"f:team": {}}},
        "f:spec": {
            "f:containers": {
                'k:{"name":"server"}': {"f:env": {'k:{"name":"PORT"}': {}}},
                'k:{"name":"proxy"}': {"f:env": {'k:{"name":"WEIGHTS"}': {}}},
            }
        },
    }
