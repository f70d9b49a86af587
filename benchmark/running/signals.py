"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP) as a question that the training loop asks, so that a stop falls between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Asked(KeyboardInterrupt):
    """A person asks to stop, now. A KeyboardInterrupt that is none of these was raised by code."""


def stop_now(number: int, frame: FrameType | None) -> None:
    """Stop the main thread where it is; a handler of signals."""
    raise Asked


@contextmanager
def stop_requested(*, patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether a stop was asked for; a second Ctrl-C stops at once, as usual.

    `patient`: it does not, because the terminal and torchrun each pass the same Ctrl-C on.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]  # nohup: the run is to outlive its terminal

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        if not patient:
            signal.signal(signal.SIGINT, stop_now)

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
