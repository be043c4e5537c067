"""Several releases in one cluster: what one creates is not another's."""

import itertools
import re

import pytest
from local_cluster.control_plane import KubectlError


def identities(documents):
    """Kind, namespace and name of each object."""
    return {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"])
        for each in documents
    }


def lease_of(documents):
    (operator,) = [each for each in documents if each["kind"] == "Deployment"]
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    return given["SPRINGTIDE_LEASE_NAMESPACE"], given["SPRINGTIDE_LEASE_NAME"]


def test_releases_of_different_names_or_namespaces_share_no_object(render):
    releases = [
        render("crds.install=false", *watched, release=release, namespace=namespace)
        for release, namespace, watched in (
            ("springtide", "tides", ()),
            ("springtide", "shop-system", ("watchNamespace=shop",)),
            ("springtide", "search-system", ("watchNamespace=shop",)),
            ("second", "tides", ("watchNamespace=search",)),
            ("springtide-a", "tides", ("watchNamespaceSelector.matchLabels.shard=a",)),
            ("springtide-b", "tides", ("watchNamespaceSelector.matchLabels.shard=b",)),
            ("springtide-tides", "a", ()),
            ("springtide", "tides-a", ()),
        )
    ]
    for one, other in itertools.combinations(releases, 2):
        assert not identities(one) & identities(other)
        assert lease_of(one) != lease_of(other)


@pytest.mark.parametrize("release", ["a.b", "x" * 53, f"{'x' * 50}--x", "7days", "springtide"])
@pytest.mark.parametrize("settings", [(), ("fullnameOverride=tide",)])
def test_names_fit_where_they_are_used(render, release, settings):
    namespace = "n" * 63
    for document in render("crds.install=false", *settings, release=release, namespace=namespace):
        name = document["metadata"]["name"]
        assert len(name) <= (63 if document["kind"] in {"Service", "Deployment"} else 253)
        assert "." not in name.removesuffix(f".{namespace}")
        assert name.startswith("tide") or not settings
        if document["kind"] == "Service":
            assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name)


NAMES = frozenset({"name", "namespace", "value", "image", "serviceAccountName", "secretName"})
NAMES |= {"priorityClassName", "app.kubernetes.io/instance", "kubernetes.io/metadata.name"}


def named(node):
    """Values of the fields of NAMES, at any depth, and of lists of names."""
    if isinstance(node, list):
        for each in node:
            yield from named(each)
    elif isinstance(node, dict):
        yield from (value for key, value in node.items() if key in NAMES)
        yield from node.get("matchNames", ())
        for each in node.values():
            yield from named(each)


@pytest.mark.parametrize("watched", [(), ("watchNamespace=on",)])
def test_names_that_yaml_takes_for_numbers_or_truth_values_stay_names(render, watched):
    """They are legal ones, and the API server refuses a number in their place."""
    documents = render(
        *("crds.install=false", *watched, "fullnameOverride=yes", "serviceAccount.name=no"),
        *("imagePullSecrets[0]=off", "priorityClassName=on", "notifications.secretName=y"),
        *("imagePrefetch.enabled=true", "imagePrefetch.images[0]=~", "serviceMonitor.enabled=true"),
        *("networkPolicy.enabled=true", "podDisruptionBudget.enabled=true"),
        release="123",
        namespace="456",
    )
    found = [each for document in documents for each in named(document)]
    wanted = {"123", "456", "yes", "no", "off", "on", "~"}
    assert wanted <= {each for each in found if isinstance(each, str)}
    assert [each for each in found if not isinstance(each, str)] == []


def test_the_name_of_the_operators_objects_is_a_value(render):
    for document in render("fullnameOverride=tide", "crds.install=false"):
        assert document["metadata"]["name"].startswith("tide")
        assert document["metadata"]["name"] != "springtide"


@pytest.mark.apiserver
def test_two_releases_of_one_name_are_installed_in_two_namespaces(installed):
    for namespace in ("tides", "shop-system"):
        installed.kubectl("get", "deployment/springtide", "service/springtide", "-n", namespace)
        installed.kubectl("get", "clusterrole", f"springtide-progress.{namespace}")
    installed.kubectl("get", "clusterrole/springtide.tides")
    installed.kubectl("get", "role/springtide.shop-system", "-n", "shop")
    with pytest.raises(KubectlError, match="not found"):
        installed.kubectl("get", "clusterrole", "springtide.shop-system")
