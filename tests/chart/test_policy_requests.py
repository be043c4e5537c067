"""A request makes the operator act, so it needs the rights of an author; removing it needs none."""

import pytest
from chart.people import AUTHOR, DEPLOYMENTS, JOBS, WRITE, an_update

pytestmark = pytest.mark.apiserver


def asked(text):
    return {"metadata": {"annotations": {"springtide.dev/request": text}}}


@pytest.fixture
def stored(store):
    update = an_update("search")
    update["metadata"]["annotations"] = {"springtide.dev/request": "run@1", "team": "search"}
    return store("incrementalupdates", update)


def test_an_author_sets_a_request(stored, user):
    author = user("search", *AUTHOR)
    for text in ("run@2", "reject@3"):
        assert author.patch(stored, asked(text)).status == 200


@pytest.mark.survives(
    "Rights",
    "a user who lacks an author's rights sets a request",
    "403; removing it and other annotations are accepted",
)
@pytest.mark.parametrize(
    ("rights", "missing"),
    [
        ((WRITE, JOBS), "needs the verb patch on Deployment ranker in namespace search"),
        ((WRITE, DEPLOYMENTS), "needs the verb create on jobs.batch in namespace search"),
    ],
)
def test_a_request_of_a_user_who_lacks_a_right_is_refused(stored, user, rights, missing):
    refused = user("search", *rights).patch(stored, asked("run@2"))
    assert refused.status == 403
    assert missing in refused.message


def test_a_request_is_removed_and_other_annotations_change_without_these_rights(stored, user):
    person = user("search", WRITE)
    other = {"metadata": {"annotations": {"team": "shop"}}}
    for change in (other, asked("run@1"), asked(None), {"metadata": {"annotations": None}}):
        answer = person.patch(stored, change)
        assert answer.status == 200, answer.message
    assert person.patch(stored, asked("run@1")).status == 403


def test_a_first_request_on_an_update_without_annotations_needs_the_rights(store, user):
    stored = store("incrementalupdates", an_update("search"))
    assert user("search", WRITE).patch(stored, asked("run@1")).status == 403
    assert user("search", *AUTHOR).patch(stored, asked("run@1")).status == 200
