"""The Deployment of a canary: the target's template, another model, a selector of its own."""

from __future__ import annotations

import copy
from dataclasses import replace

from manifests.test_serving import SERVING, TARGET, UPDATE

from springtide_api.names import canary_name
from springtide_operator.lifecycle.state.plan import ApplyCanary
from springtide_operator.manifests.canary import canary, is_canary

OWNER = {
    "metadata": {"name": "query-tower", "uid": "uid-of-target"},
    "spec": {
        "replicas": 9,
        "selector": {"matchLabels": {"app": "tower"}},
        "strategy": {"type": "Recreate"},
        "minReadySeconds": 5,
        "paused": False,
        "template": {
            "metadata": {
                "creationTimestamp": None,
                "labels": {
                    "app": "tower",
                    "springtide.dev/generation": "6",
                    "springtide.dev/role": "live",
                },
                "annotations": {"springtide.dev/digest": "sha256:06", "team": "search"},
            },
            "spec": {
                "containers": [
                    {"name": "proxy", "image": "proxy:2", "env": [{"name": "WEIGHTS"}]},
                    {
                        "name": "server",
                        "image": "server:3",
                        "env": [
                            {"name": "WEIGHTS_DIGEST", "value": "sha256:06"},
                            {"name": "THREADS", "value": "2"},
                        ],
                    },
                ]
            },
        },
    },
}
ACTION = ApplyCanary("query-tower-canary", TARGET, "uid-of-target", "sha256:t", SERVING, 1)


def test_a_canary_runs_the_targets_template_with_the_two_variables_of_another_generation() -> None:
    before = copy.deepcopy(OWNER)
    made = canary(UPDATE, ACTION, OWNER)
    assert before == OWNER
    spec = made["spec"]
    assert (spec["replicas"], spec["strategy"], spec["minReadySeconds"]) == (
        1,
        {"type": "Recreate"},
        5,
    )
    assert "paused" not in spec
    proxy, server = spec["template"]["spec"]["containers"]
    assert proxy == OWNER["spec"]["template"]["spec"]["containers"][0]
    assert server["image"] == "server:3"
    assert server["env"] == [
        {"name": "WEIGHTS_DIGEST", "value": "sha256:07"},
        {"name": "THREADS", "value": "2"},
        {"name": "WEIGHTS", "value": "file:///models/07"},
    ]
    assert spec["template"]["metadata"] == {
        "labels": {
            "app": "tower",
            "springtide.dev/generation": "7",
            "springtide.dev/role": "canary",
        },
        "annotations": {"springtide.dev/digest": "sha256:07", "team": "search"},
    }


def test_its_selector_is_its_own_and_its_pods_have_the_labels_of_the_targets_pods() -> None:
    spec = canary(UPDATE, ACTION, OWNER)["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"] == {"matchLabels": {"app": "tower", "springtide.dev/role": "canary"}}
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert OWNER["spec"]["selector"]["matchLabels"].items() <= labels.items()
    live = OWNER["spec"]["template"]["metadata"]["labels"]
    assert not spec["selector"]["matchLabels"].items() <= live.items()


def test_it_is_labelled_as_a_canary_and_has_no_owner_that_deletes_it_too_early() -> None:
    metadata = canary(UPDATE, ACTION, OWNER)["metadata"]
    assert metadata == {
        "name": "query-tower-canary",
        "namespace": "search",
        "labels": {
            "springtide.dev/update": "ranker",
            "springtide.dev/role": "canary",
            "springtide.dev/generation": "7",
        },
        "annotations": {
            "springtide.dev/update-uid": "uid-of-update",
            "springtide.dev/target": "query-tower",
            "springtide.dev/template": "sha256:t",
        },
    }
    routed = canary(UPDATE, replace(ACTION, route="shop", service="tower"), OWNER)["metadata"]
    assert routed["annotations"] == metadata["annotations"] | {
        "springtide.dev/http-route": "shop",
        "springtide.dev/service": "tower",
    }
    assert canary(UPDATE, replace(ACTION, uid="u"), OWNER)["metadata"]["uid"] == "u"
    assert is_canary({"metadata": metadata}, "ranker")
    assert not is_canary({"metadata": metadata}, "other")
    assert not is_canary({"metadata": {"labels": {"springtide.dev/update": "ranker"}}}, "ranker")


def test_a_long_name_of_a_target_is_cut_and_two_of_them_stay_different() -> None:
    assert canary_name("ranker") == "ranker-canary"
    long = [canary_name("r" * 62 + end) for end in "ab"]
    assert len({*long}) == 2
    assert all(len(name) <= 63 for name in long)
    assert canary_name("a" * 39 + "." + "b" * 60).startswith("a" * 39 + "-")
