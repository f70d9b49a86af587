"""What a sweep asks of whatever runs its rows: this machine, a Ray cluster, a Slurm queue."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmark.declaring.row import Row


class Site(NamedTuple):
    """What the rows of a sweep share."""

    home: Path  # holds runs/ and packed/
    records: Path
    search: tuple[Path, ...]  # the registry folders
    flags: tuple[str, ...]  # of every `bench run`
    note: Callable[[str], None]  # says one thing to the person who waits


class Job(Protocol):
    """A row at work."""

    def poll(self) -> int | None:
        """Return the exit code, None while at work."""

    def signal(self, number: int) -> None:
        """Pass a signal on; do nothing where the job has ended."""

    def output(self) -> tuple[str, str]:
        """Return stdout and stderr of a job that has ended."""


class Engine(Protocol):
    """Turns rows into jobs."""

    def open(self, site: Site, jobs: int | None) -> int:
        """Make ready, or raise BenchError; return how many rows to hand over at a time (jobs: what was asked for)."""

    def launch(self, row: Row, run: str, slot: int) -> Job:
        """Start a row, whose run has this id; `slot` counts the rows at work from 0."""

    def close(self) -> None:
        """Let go of everything, after the last row has ended."""


def without_force(words: Iterable[str]) -> list[str]:
    """Return the flags with which a row that was interrupted goes on, instead of beginning anew once more."""
    return [word for word in words if word != "--force"]
