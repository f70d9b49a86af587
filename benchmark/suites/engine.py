"""What a sweep asks of whatever runs its rows: this machine, a Ray cluster, a Slurm queue."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmark.declaring.row import Row


@dataclass(frozen=True)
class Site:
    """What the rows of a sweep share; `force`: begin them anew."""

    home: Path  # holds runs/ and packed/
    records: Path
    search: tuple[Path, ...]  # the registry folders, the project's own first
    note: Callable[[str], None]  # says one thing to the person who waits
    suite: str
    device: str = "auto"
    force: bool = False
    checkpoint_seconds: float = 60.0


class Ended(NamedTuple):
    """What a row that has ended leaves: its record, or why there is none."""

    record: str | None  # a path
    psnr_gap: float | None
    said: str = ""  # what it wrote to stderr
    why: str = ""  # it ended well and there is no record all the same


class Job(Protocol):
    """A row at work."""

    def poll(self) -> int | None:
        """Return the exit code, None while at work."""

    def signal(self, number: int) -> None:
        """Pass a signal on; do nothing where the job has ended."""

    def ended(self) -> Ended:
        """Return what a job that has ended leaves."""


class Engine(Protocol):
    """Turns rows into jobs."""

    def open(self, site: Site, jobs: int | None) -> int:
        """Make ready, or raise BenchError; return how many rows to hand over at a time (jobs: what was asked for)."""

    def launch(self, row: Row, run: str, slot: int) -> Job:
        """Start a row, whose run has this id; `slot` counts the rows at work from 0."""

    def close(self) -> None:
        """Let go of everything, after the last row has ended."""
