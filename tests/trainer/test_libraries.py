"""Garbage collection is suspended while libraries are imported, and for no longer."""

import gc
import subprocess
import sys

import pytest

from springtide_trainer.libraries import import_libraries, lasting_objects


@pytest.fixture(autouse=True)
def collecting():
    assert gc.isenabled()
    yield
    gc.unfreeze()
    gc.enable()


def test_what_is_made_in_the_block_is_left_out_of_later_collections():
    with lasting_objects():
        assert not gc.isenabled()
        made = [[number] for number in range(100)]
    assert gc.isenabled()
    assert not any(each is made for each in gc.get_objects())
    gc.unfreeze()
    assert any(each is made for each in gc.get_objects())


def test_garbage_is_collected_again_after_an_import_that_failed():
    with pytest.raises(ImportError), lasting_objects():
        raise ImportError
    assert gc.isenabled()


def test_a_process_that_collects_no_garbage_is_left_so():
    gc.disable()
    with lasting_objects():
        pass
    assert not gc.isenabled()


def test_what_a_process_made_since_its_imports_is_still_collected():
    import_libraries()
    before = gc.get_freeze_count()
    assert "transformers.modeling_utils" in sys.modules
    made = [[]]
    import_libraries()
    assert gc.get_freeze_count() == before
    assert any(each is made for each in gc.get_objects())


def test_a_process_that_has_imported_them_ends_without_a_word():
    program = "from springtide_trainer.libraries import import_libraries as run; run()"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert (ran.stdout, ran.stderr) == (b"", b"")
