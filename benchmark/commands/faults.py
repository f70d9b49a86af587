"""What ends a command: one paragraph and an exit code, whoever raised what."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from benchmark.commands.output import print_json, say
from benchmark.commands.words import typed
from benchmark.errors import Said, raised
from benchmark.files import PROJECT
from benchmark.running.signals import Asked, stop_now

SHOW = "BENCH_TRACEBACK"  # set: the traceback, too, for who mends the code


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a Ctrl-C raise Asked for the time of the block, unless Ctrl-C has another meaning here."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, stop_now)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def no_silent_end() -> Iterator[None]:
    """Let `os._exit` raise for the time of the block: an entry that ends the process without a word must not look like success.

    A process that this one has forked ends as it wants to.
    """
    end, ours = os._exit, os.getpid()

    def refused(status: int) -> NoReturn:
        if os.getpid() != ours:
            end(status)
        raise RuntimeError(f"os._exit({status!r}), which would have ended this command without a word")

    os._exit = refused
    try:
        yield
    finally:
        os._exit = end


def told(problem: BaseException) -> tuple[str, int]:
    """Return what is said of what ended a command, and its exit code."""
    if os.environ.get(SHOW):
        traceback.print_exception(problem, file=sys.stderr)
    if isinstance(problem, Said):
        return str(problem), getattr(problem, "exit_code", 1)
    if isinstance(problem, Asked):
        return "stopped. The same command again goes on from what is finished.", 130
    foreign, where = _origin(problem)
    if isinstance(problem, SystemExit) and not foreign:
        return "", problem.code if isinstance(problem.code, int) else 1
    if isinstance(problem, OSError) and not foreign:
        return f"{problem.filename or 'a file'}: {problem.strerror or problem}", 1
    if foreign:
        return f"the code at {where} raised {raised(problem)}. It is no part of bench: `bench check` holds an entry to its contract.", 1
    if isinstance(problem, MemoryError):
        return f"memory does not suffice (at {where}). Take a smaller network, batch or subset.", 1
    return (
        f"{raised(problem)} (at {where}). This is a fault of bench: nobody foresaw it. {SHOW}=1 before the command shows where it came "
        "from; what `bench doctor` prints belongs into a report of it.",
        1,
    )


def refuse(message: str, code: int, as_json: bool) -> int:
    """Say why a command ends, as JSON on stdout too where results are; return its exit code."""
    if message:
        say(f"bench: {message}", error=True)
        if as_json:
            print_json(failure(message, code))
    return code


def failure(message: str, code: int) -> dict[str, Any]:
    """Return the JSON of a command that failed."""
    return {"error": typed(message), "exit_code": code}


def _origin(problem: BaseException) -> tuple[bool, str]:
    """Tell whether the last code of this project or of an entry that ran is an entry's, and return its file and line.

    Code of Python and of installed packages is passed over: it was called.
    """
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename != __file__]
    called = (sys.prefix, sys.base_prefix, str(Path(os.__file__).parent), "<")
    ours = tuple(str(PROJECT / part) + os.sep for part in ("benchmark", "registry"))
    last = next((frame for frame in reversed(frames) if frame.filename.startswith(ours) or not frame.filename.startswith(called)), None)
    if last is None:
        return False, "an unknown place"
    return not last.filename.startswith(ours[0]), f"{last.filename}, line {last.lineno}"
