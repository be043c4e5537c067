import pytest
from local_cluster import kserve_environment
from local_cluster.kserve_environment import PINS, SHARED

PINNED = """\
kserve==0.21.0 \\
    --hash=sha256:aa
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:bb
protobuf==6.33.6 \\
    --hash=sha256:cc
"""
ALL = PINNED.replace("kserve", "kopf").replace("6.33.6", "7.36.2")


def test_only_packages_that_the_project_pins_otherwise_are_installed_with_their_hashes():
    found = kserve_environment.own(PINNED, ALL)

    assert found == {
        "kserve==0.21.0": "kserve==0.21.0 \\\n    --hash=sha256:aa\n",
        "protobuf==6.33.6": "protobuf==6.33.6 \\\n    --hash=sha256:cc\n",
    }


@pytest.mark.parametrize("name", ["torch", "transformers", "tokenizers", "onnxruntime", "numpy"])
def test_what_scores_in_the_example_has_the_version_of_the_evaluation(name):
    own = kserve_environment.own(PINS.read_text(), SHARED.read_text())

    assert f"\n{name}==" in PINS.read_text()
    assert [pin for pin in own if pin.startswith(f"{name}==")] == []
