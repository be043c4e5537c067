"""What is served is decided by people with the verb approve, and by no other user."""

import pytest
from chart.people import AUTHOR, OPERATOR, a_generation, an_update, grant

pytestmark = pytest.mark.apiserver

GENERATIONS = ("springtide.dev", "modelgenerations")
PATCH = grant(*GENERATIONS, "patch")
APPROVE = grant(*GENERATIONS, "patch", "approve")
WANTED = "needs the verb approve on modelgenerations.springtide.dev in namespace search"


def decided(decision="Approved"):
    return {"spec": {"approval": {"decision": decision, "reason": "checked"}}}


def switched(approval):
    return {"spec": {"gate": {"approval": approval}}}


@pytest.fixture
def waiting(store, as_user):
    """A generation that was accepted and is not rolled out yet."""
    stored = store("modelgenerations", a_generation("search", "Trained"))
    written = as_user("").patch(stored, {"status": {"verdict": "Accepted"}}, "/status")
    assert written.status == 200, written.message
    return stored


@pytest.mark.parametrize("decision", ["Approved", "Rejected"])
def test_an_approver_decides_once(waiting, user, decision):
    approver = user("search", APPROVE)
    made = approver.patch(waiting, decided(decision))
    assert made.status == 200, made.message
    for change in (
        decided("Approved" if decision == "Rejected" else "Rejected"),
        {"spec": {"approval": None}},
    ):
        refused = approver.patch(waiting, change)
        assert refused.status == 422
        assert "approval is final" in refused.message


@pytest.mark.survives(
    "Rights",
    "a user who may patch generations approves or rejects one without the verb approve",
    "403 that names user and verb; the operator may not either",
)
@pytest.mark.parametrize("decision", ["Approved", "Rejected"])
def test_a_person_without_the_verb_approve_decides_nothing(waiting, user, as_user, decision):
    for person in (user("search", PATCH), as_user(OPERATOR)):
        refused = person.patch(waiting, decided(decision))
        assert refused.status == 403
        assert f"to set spec.approval, {person.name} {WANTED}" in refused.message
    assert "approval" not in as_user("").read(waiting).body["spec"]


def test_the_verb_is_given_for_one_generation_by_its_name(waiting, user):
    other = user("search", grant(*GENERATIONS, "patch", "approve", names=("ranker-g7",)))
    assert other.patch(waiting, decided()).status == 403
    named = user("search", grant(*GENERATIONS, "patch", "approve", names=("ranker-g1",)))
    assert named.patch(waiting, decided()).status == 200


def test_a_generation_is_created_with_an_approval_by_an_approver_alone(user, as_user):
    generation = a_generation("search", "Trained")
    generation["spec"] |= decided()["spec"]
    status = grant("springtide.dev", "modelgenerations/status", "patch")
    create = grant(*GENERATIONS, "create")
    for person in (as_user(OPERATOR), user("search", create, status)):
        refused = person.create("modelgenerations", generation, dryRun="All")
        assert refused.status == 403
        assert "to set spec.approval" in refused.message
    approver = user("search", grant(*GENERATIONS, "create", "approve"), status)
    assert approver.create("modelgenerations", generation, dryRun="All").status == 201


def test_other_writes_of_an_approved_generation_need_no_verb(waiting, as_user):
    assert as_user("").patch(waiting, decided()).status == 200
    labels = {"metadata": {"labels": {"springtide.dev/update-uid": "1"}}}
    written = as_user(OPERATOR).patch(waiting, labels)
    assert written.status == 200, written.message


@pytest.mark.survives(
    "Rights",
    "an author changes gate.approval from Manual to Auto without the verb approve",
    "403 that names user and verb; other changes of the spec, and Manual, need no verb",
)
def test_an_author_does_not_switch_the_approval_off(store, user):
    stored = store("incrementalupdates", an_update("search"))
    author = user("search", *AUTHOR)
    assert author.patch(stored, switched("Manual")).status == 200
    assert author.patch(stored, {"spec": {"suspend": True}}).status == 200
    for change in (switched("Auto"), switched(None)):
        refused = author.patch(stored, change)
        assert refused.status == 403
        wanted = f"to change spec.gate.approval from Manual to Auto, {author.name} {WANTED}"
        assert wanted in refused.message
    assert user("search", *AUTHOR, APPROVE).patch(stored, switched("Auto")).status == 200
