"""Several releases in one cluster: what one creates is not another's."""

import itertools

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


@pytest.mark.parametrize("release", ["a.b", "x" * 53, "springtide"])
@pytest.mark.parametrize("settings", [(), ("fullnameOverride=tide",)])
def test_names_fit_where_they_are_used(render, release, settings):
    namespace = "n" * 63
    for document in render("crds.install=false", *settings, release=release, namespace=namespace):
        name = document["metadata"]["name"]
        assert len(name) <= (63 if document["kind"] in {"Service", "Deployment"} else 253)
        assert "." not in name.removesuffix(f".{namespace}")
        assert name.startswith("tide") or not settings


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
