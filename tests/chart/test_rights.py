"""What the operator may do: only what the chart's README gives a reason for."""

from local_cluster.places import REPOSITORY

from springtide_operator.cluster.api.claims import CLAIM

LEASES = "coordination.k8s.io"


def rules(documents: list[dict]) -> list[dict]:
    return [
        rule
        for document in documents
        if document["kind"] in {"Role", "ClusterRole"}
        for rule in document["rules"]
    ]


def test_no_rule_has_a_wildcard(render):
    for rule in rules(render()):
        assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]


def test_secrets_and_rights_are_out_of_reach(render):
    resources = {resource for rule in rules(render()) for resource in rule["resources"]}
    assert not resources & {"secrets", "configmaps", "serviceaccounts", "nodes", "pods/exec"}
    groups = {group for rule in rules(render()) for group in rule["apiGroups"]}
    assert "rbac.authorization.k8s.io" not in groups


def reasons() -> set[tuple[str, str, str]]:
    """Group, resource and verb of every row of the README's table that says why."""
    text = (REPOSITORY / "charts" / "springtide" / "README.md").read_text()
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()]
    table = [row for row in rows if len(row) == 4 and row[3] not in {"", "why", "---"}]
    found, group, resources = set(), "", ""
    for row in table:
        group, resources = row[0] or group, row[1] or resources
        named = group.replace("(core)", "")
        found |= {(named, one, verb) for one in resources.split(", ") for verb in row[2].split()}
    return found


SHARD = "watchNamespaceSelector.matchLabels.shard=a"


def test_every_right_has_its_reason_in_the_readme_and_no_other_has_one(render):
    given = {
        (group, resource, verb)
        for rule in rules(render(SHARD))
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert given == reasons()


def test_with_one_namespace_only_token_reviews_stay_cluster_wide(render):
    documents = render("watchNamespace=shop")
    wide = [document for document in documents if document["kind"] == "ClusterRole"]
    assert [rule["resources"] for rule in rules(wide)] == [["tokenreviews"]]
    role = next(document for document in documents if document["kind"] == "Role")
    assert role["metadata"]["namespace"] == "shop"
    bindings = [document for document in documents if document["kind"] == "RoleBinding"]
    assert {binding["metadata"]["namespace"] for binding in bindings} == {"shop", "tides"}
    assert all(binding["subjects"][0]["namespace"] == "tides" for binding in bindings)


def test_leases_may_be_written_only_where_the_operator_lives(render):
    holders = [
        document
        for document in render()
        if document["kind"] in {"Role", "ClusterRole"}
        and any("leases" in rule["resources"] for rule in document["rules"])
    ]
    assert [(one["kind"], one["metadata"]["namespace"]) for one in holders] == [("Role", "tides")]


def test_namespaces_and_claims_are_in_reach_of_a_shard_alone(render):
    wide = [each for each in render(SHARD) if each["kind"] == "ClusterRole"]
    further = [rule for rule in rules(wide) if rule not in rules(render())]
    assert further == [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": [LEASES], "resources": ["leases"], "verbs": ["get", "create"]},
        {
            "apiGroups": [LEASES],
            "resources": ["leases"],
            "resourceNames": [CLAIM],
            "verbs": ["update"],
        },
    ]


def test_the_operator_may_approve_nothing(render):
    """The verb is for people: an operator that had it could approve its own work."""
    assert not any("approve" in rule["verbs"] for rule in rules(render()))


def bindings(documents: list[dict]) -> dict[str, dict]:
    kind = "ValidatingAdmissionPolicyBinding"
    named = [document for document in documents if document["kind"] == kind]
    return {one["spec"]["policyName"]: one["spec"] for one in named}


def policies(documents: list[dict]) -> dict[str, dict]:
    kind = "ValidatingAdmissionPolicy"
    named = [document for document in documents if document["kind"] == kind]
    return {one["metadata"]["name"]: one["spec"] for one in named}


def test_policies_are_on_by_default_and_each_has_its_binding(render):
    documents = render("trainer.repository=registry.example/trainer")
    known = ("authors", "requests", "generations", "approvals")
    known += ("image-digests", "image-registries")
    assert set(policies(documents)) == {f"springtide-{name}.tides" for name in known}
    bound = {name: one["validationActions"] for name, one in bindings(documents).items()}
    assert bound == {
        "springtide-authors.tides": ["Deny"],
        "springtide-requests.tides": ["Deny"],
        "springtide-generations.tides": ["Deny"],
        "springtide-approvals.tides": ["Deny"],
        "springtide-image-digests.tides": ["Warn"],
        "springtide-image-registries.tides": ["Warn"],
    }
    assert all("matchResources" not in one for one in bindings(documents).values())


def test_policies_hold_in_the_watched_namespace_alone(render):
    for one in bindings(render("watchNamespace=shop")).values():
        selected = one["matchResources"]["namespaceSelector"]["matchLabels"]
        assert selected == {"kubernetes.io/metadata.name": "shop"}


def test_policies_of_a_shard_hold_in_its_namespaces(render):
    for one in bindings(render(SHARD)).values():
        assert one["matchResources"]["namespaceSelector"] == {"matchLabels": {"shard": "a"}}


def test_policies_are_left_out_on_request(render):
    assert policies(render("policy.enabled=false")) == {}
    assert bindings(render("policy.enabled=false")) == {}
    named = set(policies(render("policy.imageDigests=Ignore")))
    kept = ("authors", "requests", "generations", "approvals")
    assert named == {f"springtide-{name}.tides" for name in kept}


def test_each_expression_asks_the_authorizer_at_most_twice(render):
    """One question costs 350,000 of the 1,000,000 that an expression may cost."""
    checked = [
        validation["expression"]
        for policy in policies(render()).values()
        for validation in policy["validations"]
    ]
    assert len([one for one in checked if "authorizer" in one]) == 28
    assert all(one.count(".check(") <= 2 for one in checked)
