"""What stands behind a row beside its numbers: how far it was verified, and who submitted it."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmark.declaring import closure, equivalence
from benchmark.declaring.spec import AXES
from benchmark.files import PROJECT
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
        self._files: dict[str, list[str]] = {}
        self._folders = [folder for registry in submissions.glob("*/registry") for folder in registry.iterdir() if folder.is_dir()]
        self._submitted = {row.id: one for one in submission.read_all(submissions) for row in one.rows}

    def verification(self, record: Record) -> Verification | None:
        """Return what was verified of a record, None where nothing was."""
        return verification.of_record(self._leaderboard, record)

    def badges(self, runs: Sequence[Record]) -> list[str]:
        """Return the badges of a row: its mark if it has one, then the lowest level of its records."""
        levels = [found.reached if (found := self.verification(run)) else None for run in runs]
        older = ["older code"] if any(self.code(run) == "older code" for run in runs) else []
        mark = self.mark(runs)
        return [*([mark.state] if mark else []), min((level or "reported" for level in levels), key=LEVELS.index), *older]

    def mark(self, runs: Sequence[Record]) -> Mark | None:
        """Return the mark of a row, None where it has none."""
        return self._marks.of(runs[0])

    def code(self, run: Record) -> str:
        """Say what the code of a record is to the code that is here; asked once for a family of rows."""
        key = run.code, json.dumps(closure.family_of(run.spec, AXES), sort_keys=True), equivalence.family_name(run.spec)
        if key not in self._codes:
            self._codes[key] = equivalence.standing(run.code, run.spec, AXES, self._folders)
        return self._codes[key]

    def files(self, run: Record) -> list[str]:
        """Return the files that the entries of a record rest on, beside the instrument's own; none where its code is not here.

        A record carries one digest of all its code: which files made it is known where that code, or an equivalent one, is here.
        """
        if self.code(run) not in ("this code", "equivalent code"):
            return []
        family = closure.family_of(run.spec, AXES)
        key = json.dumps(family, sort_keys=True)
        if key not in self._files:
            self._files[key] = [_named(path) for path in closure.files(family, self._folders, roots=())]
        return self._files[key]

    def who(self, runs: Sequence[Record]) -> Submission | None:
        """Return the submission that a row came in by, None where it is the project's own."""
        return next((self._submitted[run.id] for run in runs if run.id in self._submitted), None)


def _named(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else "/".join(path.parts[-2:])
