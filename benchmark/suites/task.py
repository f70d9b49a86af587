"""A row on its way through a sweep, and what became of it."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from benchmark.declaring.row import Row
from benchmark.suites.engine import Job

Status = Literal["waiting", "running", "finished", "already finished", "older code", "submitted", "failed"]


class Outcome(NamedTuple):
    """What became of a row; `problem` holds the last lines that a failed one wrote to stderr."""

    row: Row
    id: str
    status: Status
    seconds: float
    psnr_gap: float | None
    record: str | None
    problem: str


@dataclass
class Task:
    """One row on its way from waiting to finished."""

    row: Row
    id: str
    steps: int
    folder: Path  # of the run
    status: Status = "waiting"
    job: Job | None = None
    slot: int = 0
    began: float = 0.0
    seconds: float = 0.0
    first: int = 0  # step at which this sweep took over
    step: int = 0
    loss: float | None = None
    psnr_gap: float | None = None
    record: str | None = None
    problem: str = ""

    @property
    def at_work(self) -> Job:
        """The job of a row that was begun."""
        assert self.job is not None
        return self.job

    @property
    def outcome(self) -> Outcome:
        """The row as the sweep hands it back."""
        status: Status = "waiting" if self.status == "running" else self.status
        return Outcome(self.row, self.id, status, round(self.seconds, 3), self.psnr_gap, self.record, self.problem)

    def look(self) -> None:
        """Read how far the run is from the end of its metrics.jsonl."""
        for line in _last_lines(self.folder / "metrics.jsonl"):
            with suppress(
                ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError
            ):  # cut short by a kill, or none of ours
                document = json.loads(line)
                if self.job and document["time"] < self.began:
                    continue  # of an earlier attempt
                self.step, metrics = int(document["step"]), document["metrics"]
                self.loss, self.psnr_gap = metrics.get("loss", self.loss), metrics.get("psnr_gap", self.psnr_gap)
        self.seconds = time.time() - self.began if self.job else 0.0


def _last_lines(path: Path, size: int = 8192) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().split(b"\n")
    except OSError:
        return []
