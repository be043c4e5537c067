import pytest
import yaml

from springtide_api.generate import ROOT

pytestmark = pytest.mark.apiserver

UPDATES = [
    pytest.param(document, id=file.name)
    for file in sorted(ROOT.glob("examples/**/*.yaml"))
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
    if document and document.get("kind") == "IncrementalUpdate"
]


@pytest.mark.parametrize("update", UPDATES)
def test_the_example_is_accepted(objects, update):
    body = {**update, "metadata": {"name": update["metadata"]["name"]}}

    assert isinstance(accepted := objects.create(body), dict), accepted


def test_there_is_an_example():
    assert UPDATES
