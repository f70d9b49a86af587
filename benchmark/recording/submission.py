"""A submission: rows from elsewhere in one folder, and what its submission.json says. Schema version 1."""

import json
import re
from pathlib import Path
from typing import Literal

from benchmark.contract import FieldError, checked
from benchmark.declaring.fields import from_json, to_json
from benchmark.errors import BenchError
from benchmark.files import write_text

FILE, RECORDS, REGISTRY = "submission.json", "records", "registry"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
ADDRESS = re.compile(r"https?://[^\s\"'<>\\^`{|}\x00-\x20]{1,500}")
LARGEST = 1_000_000  # bytes of a submission.json


@checked
class Source:
    """One file of an entry of the submission's own: where it lies in its registry folder, and its digest."""

    path: str
    sha256: str

    def validate(self) -> None:
        """Refuse a path that leaves the folder."""
        parts = Path(self.path).parts
        if not parts or Path(self.path).is_absolute() or ".." in parts or "\\" in self.path:
            raise FieldError(f"path = {self.path!r} must be a path inside the submission's {REGISTRY}/")


@checked
class Submitted:
    """One row: its record, the weights that made it and where they can be had ('' where nowhere), the command that runs it again."""

    record: str  # below records/
    id: str
    record_sha256: str
    weights_sha256: str
    weights_at: str = ""
    command: str


@checked
class Submission:
    """Who submits which rows, under which licence, beside which paper."""

    schema: Literal[1]
    name: str
    author: str
    licence: str
    paper: str = ""
    sources: tuple[Source, ...] = ()
    rows: tuple[Submitted, ...]
    created: str

    def validate(self) -> None:
        """Refuse a name that is no folder's, addresses that are none, and what says nothing."""
        if not NAME.fullmatch(self.name):
            raise FieldError(f"name = {self.name!r} must be small letters, digits, '_' and '-', at most 64")
        for field, said in (("author", self.author), ("licence", self.licence)):
            if not said.strip():
                raise FieldError(f"{field} is empty; a reviewer needs it")
        for field, address in (("paper", self.paper), *(("weights_at", row.weights_at) for row in self.rows)):
            if address and not ADDRESS.fullmatch(address):
                raise FieldError(f"{field} = {address!r} must be an address that begins with http:// or https://")
        if not self.rows:
            raise FieldError("rows is empty; a submission has at least one")


def read(folder: Path) -> Submission:
    """Read what a submission's folder says; raise BenchError naming the file and the field."""
    path = folder / FILE
    try:
        if path.stat().st_size > LARGEST:
            raise BenchError(f"{path} is larger than {LARGEST:,} bytes.")
        found = from_json(Submission, json.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, RecursionError) as problem:
        raise BenchError(f"The submission {path} is not valid: {problem}. Write it anew.") from None
    if found.name != folder.name:
        raise BenchError(f"The submission {path} is called '{found.name}'; its folder must be called so too.")
    return found


def read_all(submissions: Path) -> list[Submission]:
    """Read every submission of a folder, by name."""
    return [read(path.parent) for path in sorted(submissions.glob(f"*/{FILE}"))]


def write(submission: Submission, folder: Path) -> None:
    """Write a submission's description into its folder."""
    write_text(folder / FILE, json.dumps(to_json(submission), indent=1) + "\n")
