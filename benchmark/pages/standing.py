"""What stands behind a row beside its numbers: how far it was verified, and who submitted it."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmark.declaring import closure, equivalence
from benchmark.declaring.spec import AXES
from benchmark.recording import submission, verification
from benchmark.recording.levels import LEVELS
from benchmark.recording.marks import NONE as UNMARKED
from benchmark.recording.marks import Mark, Marks
from benchmark.recording.record import Record
from benchmark.recording.submission import Submission
from benchmark.recording.verification import Verification


class Standing:
    """The verifications beside the records, and the submissions that rows came from."""

    def __init__(self, leaderboard: Path, submissions: Path, marks: Marks = UNMARKED) -> None:
        self._leaderboard, self._marks = leaderboard, marks
        self._codes: dict[tuple[str, ...], str] = {}
        self._folders = [folder for registry in submissions.glob("*/registry") for folder in registry.iterdir() if folder.is_dir()]
        self._submitted = {row.id: one for one in submission.read_all(submissions) for row in one.rows}

    def verification(self, record: Record) -> Verification | None:
        """Return what was verified of a record, None where nothing was."""
        return verification.of_record(self._leaderboard, record)

    def badges(self, runs: Sequence[Record]) -> list[str]:
        """Return the badges of a row: its mark if it has one, then the lowest level of its records."""
        levels = [found.reached if (found := self.verification(run)) else None for run in runs]
        older = ["older code"] if any(self._code(run) == "older code" for run in runs) else []
        mark = self.mark(runs)
        return [*([mark.state] if mark else []), min((level or "reported" for level in levels), key=LEVELS.index), *older]

    def mark(self, runs: Sequence[Record]) -> Mark | None:
        """Return the mark of a row, None where it has none."""
        return self._marks.of(runs[0])

    def _code(self, run: Record) -> str:
        """Say what the code of a record is to the code that is here; asked once for a family of rows."""
        key = run.code, json.dumps(closure.family_of(run.spec, AXES), sort_keys=True), equivalence.family_name(run.spec)
        if key not in self._codes:
            self._codes[key] = equivalence.standing(run.code, run.spec, AXES, self._folders)
        return self._codes[key]

    def who(self, runs: Sequence[Record]) -> Submission | None:
        """Return the submission that a row came in by, None where it is the project's own."""
        return next((self._submitted[run.id] for run in runs if run.id in self._submitted), None)
