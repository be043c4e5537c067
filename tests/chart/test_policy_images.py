"""The trainer image of an update: by digest, and from a known registry; warned of or denied."""

import pytest
from chart.people import DIGEST, an_update

pytestmark = pytest.mark.apiserver


def create(as_user, namespace, image):
    body = an_update(namespace, image=image)
    return as_user("").create("incrementalupdates", body, dryRun="All")


@pytest.mark.survives(
    "Rights",
    "a trainer image is named by tag or comes from another registry",
    "warned of by default, denied where the chart's policy.imageDigests or "
    "policy.imageRegistries say so",
)
@pytest.mark.parametrize("image", ["registry.example/mine:v1", "registry.example/mine"])
def test_by_default_an_image_by_tag_is_warned_of(as_user, image):
    made = create(as_user, "search", image)
    assert made.status == 201
    (warning,) = made.warnings
    assert f"spec.training.image {image} is named by tag" in warning


@pytest.mark.parametrize(
    "image",
    ["elsewhere.example/mine", "registry.example.evil/mine", "mine", "registry.example:5/m"],
)
def test_by_default_an_image_from_another_registry_than_the_charts_is_warned_of(as_user, image):
    made = create(as_user, "search", f"{image}@{DIGEST}")
    assert made.status == 201
    (warning,) = made.warnings
    assert "does not come from one of registry.example" in warning


@pytest.mark.parametrize("image", ["", f"registry.example/mine@{DIGEST}"])
def test_the_charts_own_image_and_one_by_digest_are_not_warned_of(as_user, image):
    made = create(as_user, "search", image)
    assert (made.status, made.warnings) == (201, ())


def test_where_digests_are_demanded_an_image_by_tag_is_denied(as_user):
    refused = create(as_user, "shop", "registry.example/models/mine:latest")
    assert refused.status == 422
    assert "is named by tag" in refused.message


@pytest.mark.parametrize(
    "image",
    ["registry.example/mine", "registry.example/models-of-others/mine", "mirror.example/mine"],
)
def test_where_registries_are_named_an_image_from_another_one_is_denied(as_user, image):
    refused = create(as_user, "shop", f"{image}@{DIGEST}")
    assert refused.status == 422
    assert "does not come from one of registry.example/models, mirror.example:5000" in (
        refused.message
    )


@pytest.mark.parametrize("image", ["registry.example/models/mine", "mirror.example:5000/a/b"])
def test_where_registries_are_named_an_image_from_one_of_them_passes(as_user, image):
    made = create(as_user, "shop", f"{image}@{DIGEST}")
    assert made.status == 201, made.message


def test_an_update_is_not_warned_of_again_where_only_its_labels_change(as_user, store):
    stored = store("incrementalupdates", an_update("search", image="elsewhere.example/mine:v1"))
    administrator = as_user("")
    labelled = administrator.patch(stored, {"metadata": {"labels": {"team": "search"}}})
    assert (labelled.status, labelled.warnings) == (200, ())
    assert len(administrator.patch(stored, {"spec": {"suspend": True}}).warnings) == 2
