"""Lives of one `bench` command: each is forked from a process that has imported everything, and may be killed at a file operation."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.chmod", "os.symlink", "shutil.rmtree"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
DEFECT = 99  # the exit code of a traceback


class Life(NamedTuple):
    """How a life ended: its exit code (-9: killed), the file operations that it began, and what it said."""

    code: int
    operations: int
    said: str


def import_everything(search: tuple[Path, ...]) -> None:
    """Import and read what the commands do late, so that a life takes no time for it; start no thread. `search`: the registries."""
    import matplotlib.pyplot  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch

    import benchmark.analysis.study
    import benchmark.cli
    import benchmark.pages.leaderboard
    import benchmark.quality.evaluation
    import benchmark.run
    import benchmark.sampling  # noqa: F401
    from benchmark.declaring.spec import resolve

    torch.set_num_threads(1)
    names = {"model": "dit_tiny", "layout": "global", "dataset": "leaves_tiny", "recipe": "tiny"}
    _ = resolve(names, subset=6, seed=0, search=search).code  # the syntax trees of the code are kept


def live(words: Sequence[str], home: Path, *, kill_at: int = 0, jump: float = 0.0) -> Life:
    """Live one command to its end, or to its `kill_at`-th file operation under `home`; `jump`: seconds that the clock is set on midway."""
    said = home.parent / f"{home.name}.said"
    heard, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(list(words), home, said, told, kill_at, jump)
    os.close(told)
    with os.fdopen(heard) as pipe:
        count = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Life(code, int(count or 0), said.read_text(errors="replace"))


def begin(words: Sequence[str], home: Path, number: int) -> int:
    """Begin a life beside others, and return its process id."""
    pid = os.fork()
    if pid == 0:
        _child(list(words), home, home.parent / f"{home.name}.said{number}", os.open(os.devnull, os.O_WRONLY), 0, 0.0)
    return pid


def _child(words: list[str], home: Path, said: Path, told: int, kill_at: int, jump: float) -> None:
    code = DEFECT
    try:
        os.environ["BENCH_HOME"] = str(home)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
        counted = _Count(str(home), kill_at)
        if jump:
            _set_clock(jump)
        sys.addaudithook(counted)
        from benchmark.cli import main

        code = main(words)
        os.write(told, str(counted.seen).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class _Count:
    """Counts what changes a file below a folder, before it does; kills the process at one."""

    def __init__(self, below: str, kill_at: int) -> None:
        self.below, self.kill_at, self.seen = below, kill_at, 0

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = given
            changes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & WRITES)
        else:
            path, changes = given[0] if given else None, event in CHANGES
        if not changes or not isinstance(path, str | bytes | os.PathLike) or self.below not in os.fsdecode(path):
            return
        self.seen += 1
        if self.seen == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def _set_clock(jump: float) -> None:
    """Let the wall clock jump back and forth by `jump` seconds from call to call, as one that is set by hand or by a server."""
    real, calls = time.time, 0

    def jumping() -> float:
        nonlocal calls
        calls += 1
        return real() + (jump if calls // 5 % 2 else -jump)

    time.time = jumping
