"""Claims about the garbage collector during a run: what is old is left alone, and afterwards all is as it was."""

import gc

import pytest

from ai_assets.base.collector import old_objects_left_alone


def test_old_objects_are_left_alone_until_the_last_of_several_runs_ends() -> None:
    gc.unfreeze()  # what the tests froze once they were collected
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with old_objects_left_alone():
        with old_objects_left_alone():
            assert gc.get_freeze_count() > frozen + 1000
        assert gc.get_freeze_count() > frozen + 1000
        assert gc.get_threshold()[0] > before[0]
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_after_a_run_that_fails_all_is_as_it_was() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyError), old_objects_left_alone():
        raise KeyError
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_a_collector_that_was_switched_off_stays_so() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0, *before[1:])
    try:
        with old_objects_left_alone():
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
