"""Commands look for garbage seldom."""

import gc

from benchmark.running.collector import NEW_OBJECTS, look_seldom


def test_garbage_is_looked_for_after_many_new_objects() -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(700)
        look_seldom()
        assert gc.get_threshold()[0] == NEW_OBJECTS > 700 and gc.isenabled()
    finally:
        gc.set_threshold(*before)
