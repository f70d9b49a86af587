"""The rows of a sweep as processes of this machine."""

import sys
from collections.abc import Sequence

from benchmark.declaring.row import Row
from benchmark.errors import UsageError
from benchmark.running.cores import cores
from benchmark.suites.child import COMMAND, MODULE, VERB, Process, environment, words
from benchmark.suites.engine import Job, Site
from benchmark.suites.warm import Gone, Warm


class Local:
    """As many rows at a time as there are cores, or GPUs; the cores are divided among them."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._threads = 1
        self._gpus = 0
        self._forks = False
        self._warm: Warm | None = None

    def open(self, site: Site, jobs: int | None) -> int:
        """Look at the machine; return how many rows run at a time."""
        kind, self._gpus, jobs = machine(site.device, jobs)
        # CUDA does not live through a fork, nor do the libraries of macOS; another command is none of ours.
        self._forks = kind == "cpu" and sys.platform == "linux" and tuple(self._command) == COMMAND
        self._threads, self._site = max(1, cores() // jobs), site
        return jobs

    def launch(self, row: Row, run: str, slot: int) -> Job:
        """Start the row; with several GPUs each slot has its own."""
        device = f"cuda:{slot % self._gpus}" if self._gpus > 1 else None
        told, around = words(row, self._site, threads=self._threads, device=device), environment(self._site.home)
        if self._forks:
            try:
                self._warm = self._warm or Warm(MODULE, around)
                return Process([VERB, *told], warm=self._warm)
            except Gone as problem:
                self._forks = False
                self._site.note(f"From here on every row imports everything anew: {problem}.")
        return Process([*self._command, *told], around)

    def close(self) -> None:
        """Nothing outlives its row."""
        if self._warm:
            self._warm.close()


def machine(device: str, jobs: int | None) -> tuple[str, int, int]:
    """Return what kind of device the rows use, over how many GPUs they spread (0: none, or one that is named) and how many at a time."""
    check_jobs(jobs)
    import torch

    from benchmark.running.environment import choose_device

    kind = choose_device(device).type
    gpus = torch.cuda.device_count() if kind == "cuda" and device in ("auto", "cuda") else 0
    return kind, gpus, jobs or (cores() if kind == "cpu" else max(1, gpus))


def check_jobs(jobs: int | None) -> None:
    """Raise UsageError where no row at all may run."""
    if jobs is not None and jobs < 1:
        raise UsageError(f"`jobs={jobs}` must be at least 1.")
