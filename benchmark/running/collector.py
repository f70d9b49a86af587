"""How often Python looks for garbage in the processes of commands, which make many objects and keep nearly all."""

import gc

NEW_OBJECTS = 50_000  # made before it looks. At Python's own 700 a sixth of the time of importing torch is spent in looking.


def look_seldom() -> None:
    """Have this process look for garbage after that many new objects."""
    gc.set_threshold(NEW_OBJECTS)
