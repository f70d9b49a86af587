"""Garbage in the processes of commands: how often Python looks for it, and that the system gets its memory back."""

import ctypes
import gc

NEW_OBJECTS = 50_000  # made before it looks. At Python's own 700 a sixth of the time of importing torch is spent in looking.


def look_seldom() -> None:
    """Have this process look for garbage after that many new objects."""
    gc.set_threshold(NEW_OBJECTS)


def give_back() -> None:
    """Return to the system what is free: glibc keeps the memory of large networks, and the next one's would come on top of it."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
