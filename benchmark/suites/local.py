"""The rows of a sweep as processes of this machine."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise

from benchmark.declaring.row import Row
from benchmark.errors import UsageError
from benchmark.suites.engine import Job, Site

COMMAND = (sys.executable, "-m", "benchmark.cli", "run")


class Process:
    """A job in a process group of its own on this machine, so that a Ctrl-C reaches it only through the sweep."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._files = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        out, errors = self._files
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True, env=environment
        )

    def poll(self) -> int | None:
        """Return the exit code, None while at work."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Signal the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def output(self) -> tuple[str, str]:
        """Return stdout and stderr, and let go of them."""
        texts = []
        for file in self._files:
            with file:
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        return texts[0], texts[1]


class Local:
    """As many rows at a time as there are cores, or GPUs; the cores are divided among them."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._flags: list[str] = []
        self._environment: dict[str, str] = {}
        self._gpus = 0

    def open(self, site: Site, jobs: int | None) -> int:
        """Look at the machine; return how many rows run at a time."""
        self._gpus, jobs = machine(site.flags, jobs)
        self._flags = [*site.flags, "--records", str(site.records), "--threads", str(max(1, cores() // jobs))]
        self._environment = os.environ | {"BENCH_HOME": str(site.home)}
        return jobs

    def launch(self, row: Row, run: str, slot: int) -> Job:
        """Start the row; with several GPUs each slot has its own."""
        spread = ["--device", f"cuda:{slot % self._gpus}"] if self._gpus > 1 else []
        return Process([*self._command, *row.flags(), *self._flags, *spread], self._environment)

    def close(self) -> None:
        """Nothing outlives its row."""


def machine(flags: Sequence[str], jobs: int | None) -> tuple[int, int]:
    """Return over how many GPUs the rows spread (0: none, or one that is named) and how many run at a time."""
    check_jobs(jobs)
    import torch

    from benchmark.running.environment import choose_device

    named = device_named(flags)
    device = choose_device(named)
    gpus = torch.cuda.device_count() if device.type == "cuda" and named in ("auto", "cuda") else 0
    return gpus, jobs or (cores() if device.type == "cpu" else max(1, gpus))


def check_jobs(jobs: int | None) -> None:
    """Raise UsageError where no row at all may run."""
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs {jobs} must be at least 1.")


def device_named(flags: Sequence[str]) -> str:
    """Return what --device says."""
    return next((value for flag, value in reversed(list(pairwise(flags))) if flag == "--device"), "auto")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
