"""Who writes an update needs the rights that the operator uses for it; writes of others pass."""

import pytest
from chart.people import (
    AUTHOR,
    DEPLOYMENTS,
    GARBAGE_COLLECTOR,
    JOBS,
    OPERATOR,
    WRITE,
    an_update,
    grant,
    withdraw,
)

pytestmark = pytest.mark.apiserver

SUSPENDED = {"spec": {"suspend": True}}
FINALIZER = "springtide.dev/rollout"


def test_an_author_with_all_rights_creates_and_changes_an_update(user, store):
    author = user("search", *AUTHOR)
    assert author.create("incrementalupdates", an_update("search"), dryRun="All").status == 201
    stored = store("incrementalupdates", an_update("search"))
    assert author.patch(stored, SUSPENDED).status == 200
    assert author.apply(an_update("search")).status == 200


@pytest.mark.survives(
    "Rights",
    "an author who may not patch a target's Deployment creates an update, also by server-"
    "side apply",
    "403 that names user, verb and Deployment; a right on another Deployment or in another "
    "namespace does not count",
)
def test_an_author_who_may_not_patch_the_deployment_is_refused(user):
    author = user("search", WRITE, JOBS)
    for refused in (
        author.create("incrementalupdates", an_update("search"), dryRun="All"),
        author.apply(an_update("search")),
    ):
        assert refused.status == 403
        wanted = f"{author.name} needs the verb patch on Deployment ranker in namespace search"
        assert wanted in refused.message


@pytest.mark.survives(
    "Rights",
    "an author who may not create Jobs creates an update",
    "403 that names user and verb",
)
def test_an_author_who_may_not_create_jobs_is_refused(user):
    author = user("search", WRITE, DEPLOYMENTS)
    refused = author.create("incrementalupdates", an_update("search"), dryRun="All")
    assert refused.status == 403
    assert f"{author.name} needs the verb create on jobs.batch in" in refused.message


def test_rights_in_another_namespace_do_not_count(user):
    author = user("shop", *AUTHOR)
    other = user("search", WRITE)
    assert author.create("incrementalupdates", an_update("shop"), dryRun="All").status == 201
    assert other.create("incrementalupdates", an_update("search"), dryRun="All").status == 403


@pytest.mark.parametrize("index", range(4))
def test_the_right_is_asked_for_each_target_by_its_name(user, index):
    names = ["a", "b", "c", "d"]
    allowed = tuple(name for name in names if name != names[index])
    author = user("search", WRITE, JOBS, grant("apps", "deployments", "patch", names=allowed))

    fine = author.create("incrementalupdates", an_update("search", *allowed), dryRun="All")
    assert fine.status == 201, fine.message
    refused = author.create("incrementalupdates", an_update("search", *names), dryRun="All")
    assert refused.status == 403
    assert f"needs the verb patch on Deployment {names[index]} in" in refused.message


@pytest.mark.survives(
    "Rights",
    "an author who may not patch a target's HTTPRoute creates an update with traffic Gateway",
    "403 that names user, verb and HTTPRoute",
)
@pytest.mark.parametrize("index", range(4))
def test_the_right_is_asked_for_each_route_by_its_name(user, index):
    names = ["a", "b", "c", "d"]
    update = an_update("search", *names)
    for each in update["spec"]["rollout"]["targets"]:
        name = each["targetRef"]["name"]
        each |= {"service": f"ranker-{name}", "httpRoute": f"route-{name}"}
    steps = [{"weight": 10, "duration": "10m"}]
    canary = {"steps": steps, "traffic": {"type": "Gateway"}}
    update["spec"]["rollout"]["strategy"] = {"type": "Canary", "canary": canary}
    allowed = tuple(f"route-{name}" for name in names if name != names[index])
    rule = grant("gateway.networking.k8s.io", "httproutes", "patch", names=allowed)
    refused = user("search", *AUTHOR, rule).create("incrementalupdates", update, dryRun="All")
    assert refused.status == 403
    assert f"needs the verb patch on HTTPRoute route-{names[index]} in" in refused.message
    every = grant("gateway.networking.k8s.io", "httproutes", "patch")
    fine = user("search", *AUTHOR, every).create("incrementalupdates", update, dryRun="All")
    assert fine.status == 201, fine.message


@pytest.mark.survives(
    "Rights",
    "an author names a Secret that he may not read in data.secretName or tracking.secretName",
    "403 that names user, verb and Secret",
)
@pytest.mark.parametrize("block", ["data", "tracking"])
def test_the_right_is_asked_for_the_secret_by_its_name(user, block):
    update = an_update("search")
    update["spec"]["tracking"] = {"reportTo": ["MLflow"]}
    update["spec"][block]["secretName"] = "object-store"
    other = grant("", "secrets", "get", names=("another",))
    refused = user("search", *AUTHOR, other).create("incrementalupdates", update, dryRun="All")
    assert refused.status == 403
    assert "needs the verb get on Secret object-store in namespace search" in refused.message
    own = grant("", "secrets", "get", names=("object-store",))
    fine = user("search", *AUTHOR, own).create("incrementalupdates", update, dryRun="All")
    assert fine.status == 201, fine.message


@pytest.mark.survives(
    "Rights",
    "an author names a service account in data.serviceAccountName that he may not impersonate",
    "403 that names user, verb and ServiceAccount",
)
@pytest.mark.parametrize("name", ["default", "trainer"])
def test_the_right_is_asked_for_the_service_account_by_its_name(user, name):
    update = an_update("search")
    update["spec"]["data"]["serviceAccountName"] = name
    other = grant("", "serviceaccounts", "impersonate", names=("another",))
    refused = user("search", *AUTHOR, other).create("incrementalupdates", update, dryRun="All")
    assert refused.status == 403
    wanted = f"needs the verb impersonate on ServiceAccount {name} in namespace search"
    assert wanted in refused.message
    own = grant("", "serviceaccounts", "impersonate", names=(name,))
    fine = user("search", *AUTHOR, own).create("incrementalupdates", update, dryRun="All")
    assert fine.status == 201, fine.message


@pytest.mark.survives(
    "Rights",
    "an update in the operator's namespace names the operator's service account",
    "403 for everyone",
)
def test_no_update_runs_as_the_operator(user):
    update = an_update("tides")
    update["spec"]["data"]["serviceAccountName"] = OPERATOR.rpartition(":")[2]
    author = user("tides", *AUTHOR, grant("", "serviceaccounts", "impersonate"))
    refused = author.create("incrementalupdates", update, dryRun="All")
    assert refused.status == 403
    assert "is the operator's own account" in refused.message
    update["spec"]["data"]["serviceAccountName"] = "trainer"
    assert author.create("incrementalupdates", update, dryRun="All").status == 201


@pytest.mark.survives(
    "Rights",
    "an author who lost a right edits an update",
    "403 where the spec changed; labels may change, an unchanged manifest may be applied, "
    "and it may be deleted",
)
def test_an_author_who_lost_the_right_can_no_longer_change_the_spec(user, store, http):
    author = user("search", *AUTHOR)
    stored = store("incrementalupdates", an_update("search"))
    assert author.patch(stored, SUSPENDED, dryRun="All").status == 200
    withdraw(http, "search", author.name, DEPLOYMENTS)

    refused = author.patch(stored, SUSPENDED)
    assert refused.status == 403
    assert "needs the verb patch on Deployment ranker" in refused.message
    assert author.patch(stored, {"metadata": {"labels": {"team": "search"}}}).status == 200
    assert author.apply(an_update("search")).status == 200
    assert author.delete(stored, dryRun="All").status == 200


def test_a_target_may_be_added_only_by_who_may_patch_it(user, store):
    rule = grant("apps", "deployments", "patch", names=("ranker",))
    author = user("search", WRITE, JOBS, rule)
    stored = store("incrementalupdates", an_update("search"))
    both = an_update("search", "ranker", "payments")["spec"]["rollout"]
    refused = author.patch(stored, {"spec": {"rollout": both}})
    assert refused.status == 403
    assert "needs the verb patch on Deployment payments" in refused.message


def test_the_operator_sets_and_removes_its_finalizer(store, as_user):
    operator = as_user(OPERATOR)
    stored = store("incrementalupdates", an_update("search"))
    assert operator.patch(stored, {"metadata": {"finalizers": [FINALIZER]}}).status == 200
    assert as_user("").delete(stored).status == 200
    assert "deletionTimestamp" in operator.read(stored).body["metadata"]

    removed = operator.patch(stored, {"metadata": {"finalizers": None}})
    assert removed.status == 200, removed.message
    assert operator.read(stored).status == 404


def test_the_operator_writes_the_status(store, as_user):
    stored = store("incrementalupdates", an_update("search"))
    written = as_user(OPERATOR).patch(stored, {"status": {"phase": "Idle"}}, "/status")
    assert written.status == 200, written.message


@pytest.mark.survives(
    "Rights",
    "the garbage collector changes owners and finalizers, the operator removes its finalizer",
    "accepted: they change no spec and need no author's rights",
)
def test_the_garbage_collector_changes_owners_and_finalizers(store, as_user):
    collector = as_user(GARBAGE_COLLECTOR)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "0-0"}
    held = an_update("search")
    held["metadata"] |= {"ownerReferences": [owner], "finalizers": ["foregroundDeletion"]}
    stored = store("incrementalupdates", held)

    for change in ({"ownerReferences": None}, {"finalizers": None}):
        answer = collector.patch(stored, {"metadata": change})
        assert answer.status == 200, answer.message
    refused = collector.patch(stored, SUSPENDED)
    assert refused.status == 403
    assert "needs the verb create on jobs.batch" in refused.message


def test_a_status_is_written_by_whoever_rbac_lets(store, user):
    verbs = grant("springtide.dev", "incrementalupdates/status", "patch")
    stored = store("incrementalupdates", an_update("search"))
    other_release = user("search", verbs)
    written = other_release.patch(stored, {"status": {"phase": "Idle"}}, "/status")
    assert written.status == 200, written.message
