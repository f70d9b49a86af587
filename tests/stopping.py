"""A command that sends its own process a signal in the middle of its training: no run is over before it is stopped."""

import signal
import sys

# Before the first step that a checkpoint of step `at` or of a later one lies behind: never while one is being written.
_STOPPED = """
import os, sys
from pathlib import Path
from benchmark.cli import main
from benchmark.training import loop
at, number, take_step, sent = int(sys.argv[1]), int(sys.argv[2]), loop.take_step, []
def step(training, images, work):
    saved = (int(path.name) for path in Path(os.environ["BENCH_HOME"]).glob("runs/*/checkpoints/[0-9]*"))
    if not sent and any(at <= one < training.step for one in saved):
        sent.append(number)
        os.kill(os.getpid(), number)
    return take_step(training, images, work)
loop.take_step = step
sys.exit(main(sys.argv[3:]))
"""


def stopped(at: int, number: signal.Signals, *words: str) -> list[str]:
    """Return the command of a process that signals itself once it is a step behind a checkpoint of step `at` or of a later one."""
    return [sys.executable, "-c", _STOPPED, str(at), str(int(number)), *words]
