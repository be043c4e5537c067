"""Generations are the operator's memory: a person may import a model, with the verb approve."""

import pytest
from chart.people import OPERATOR, a_generation, grant

pytestmark = pytest.mark.apiserver

GENERATIONS = ("springtide.dev", "modelgenerations")
SECOND_OPERATOR = "system:serviceaccount:shop-system:springtide"


def test_a_person_imports_a_model_with_the_verb_approve(user):
    person = user("search", grant(*GENERATIONS, "create", "approve"))
    made = person.create("modelgenerations", a_generation("search", "Imported"), dryRun="All")
    assert made.status == 201, made.message


@pytest.mark.survives(
    "Rights",
    "a user who may create generations imports one without the verb approve",
    "403 that names user and verb",
)
def test_a_person_without_the_verb_approve_imports_nothing(user):
    person = user("search", grant(*GENERATIONS, "create"))
    refused = person.create("modelgenerations", a_generation("search", "Imported"), dryRun="All")
    assert refused.status == 403
    wanted = "needs the verb approve on modelgenerations.springtide.dev in namespace search"
    assert f"{person.name} {wanted}" in refused.message


@pytest.mark.survives(
    "Rights",
    "a user creates a generation as if it had been trained",
    "403: only a user or operator that may write the status of generations may create one",
)
def test_only_an_operator_creates_a_trained_generation(user):
    person = user("search", grant(*GENERATIONS, "create", "approve"))
    refused = person.create("modelgenerations", a_generation("search", "Trained"), dryRun="All")
    assert refused.status == 403
    assert "the operator alone creates generations" in refused.message


@pytest.mark.parametrize("origin", ["Imported", "Trained"])
@pytest.mark.parametrize(
    ("operator", "namespace"),
    [(OPERATOR, "search"), (OPERATOR, "shop"), (SECOND_OPERATOR, "shop")],
)
def test_every_operator_creates_generations_in_its_namespaces(as_user, operator, namespace, origin):
    generation = a_generation(namespace, origin)
    made = as_user(operator).create("modelgenerations", generation, dryRun="All")
    assert made.status == 201, made.message


def test_a_generation_changes_its_status_and_owners_by_rbac_alone(store, user, as_user):
    stored = store("modelgenerations", a_generation("search", "Imported"))
    operator = as_user(OPERATOR)
    labels = {"metadata": {"labels": {"springtide.dev/update-uid": "1"}}}
    assert operator.patch(stored, labels).status == 200
    assert operator.patch(stored, {"status": {"verdict": "Imported"}}, "/status").status == 200
    person = user("search", grant("springtide.dev", "modelgenerations/status", "patch"))
    assert person.patch(stored, {"status": {"message": "x"}}, "/status").status == 200
