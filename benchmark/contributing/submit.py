"""Finished runs to one folder that a reviewer reads and a machine verifies: records, entries with their code, who, and how."""

import hashlib
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.contributing import check_record
from benchmark.contributing.apart import check
from benchmark.declaring import closure, registry
from benchmark.declaring.spec import AXES, from_record
from benchmark.errors import BenchError, NotRun, UsageError
from benchmark.files import write_bytes, write_text
from benchmark.recording import errors, record, submission, verification
from benchmark.recording.markdown import markdown_table
from benchmark.recording.record import Record, path_of
from benchmark.recording.submission import RECORDS, REGISTRY, Source, Submission, Submitted


@dataclass(frozen=True)
class Wanted:
    """What a submission says of itself."""

    name: str
    author: str
    licence: str
    paper: str = ""
    weights_at: str = ""


def submit(runs: Sequence[Path], wanted: Wanted, search: tuple[Path, ...], submissions: Path, home: Path) -> Submission:
    """Check everything, then write submissions/<name>/; raise BenchError naming the first thing a reviewer would refuse."""
    folder = submissions / wanted.name
    if folder.exists():
        raise UsageError(f"{folder} is there already, and nothing is overwritten. Choose another `name=...`, or remove it.")
    records = [_checked(one, search, home) for one in runs]
    sources = _sources(records, search)
    _check_entries(sources, search)
    made = Submission(
        schema=1,
        **{name: value for name, value in vars(wanted).items() if name != "weights_at"},
        sources=tuple(Source(path=inside.as_posix(), sha256=_sha256(path)) for inside, path in sources.items()),
        rows=tuple(_submitted(one, wanted, bool(sources)) for one in records),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        for run, one in zip(runs, records, strict=True):
            path = path_of(folder / RECORDS, one.row)
            record.write(one, path)
            errors.keep(run, one, path)
        for inside, path in sources.items():
            write_bytes(folder / REGISTRY / inside, path.read_bytes())
        write_text(folder / "README.md", page(made, records))
        submission.write(made, folder)  # last: a folder without it is no submission
    except (OSError, BenchError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return made


def problems(folder: Path) -> list[str]:
    """Say in what a submission's folder is not what its submission.json says."""
    made = submission.read(folder)
    found = []
    listed = {folder / REGISTRY / one.path: one.sha256 for one in made.sources}
    for path, said in listed.items():
        if not path.is_file() or _sha256(path) != said:
            found.append(f"{path.relative_to(folder)} is not the file that the submission lists")
    for path in sorted((folder / REGISTRY).rglob("*")):
        if path.is_file() and path not in listed and "__pycache__" not in path.parts:
            found.append(f"{path.relative_to(folder)} is not listed in the submission")
    for row in made.rows:
        path = folder / RECORDS / row.record
        one = record.read(path)
        if path != path_of(folder / RECORDS, one.row) or verification.digest(one) != row.record_sha256 or one.id != row.id:
            found.append(f"{path.relative_to(folder)} is not the record that the submission lists")
    return found


def page(made: Submission, records: Sequence[Record]) -> str:
    """Return what a reviewer reads first, in Markdown; everything said by the author stands in code quotes."""
    said = {"Author": made.author, "Licence": made.licence, "Paper": made.paper or "none named", "Made": made.created}
    lines = [f"# Submission {made.name}", "", *(f"- {name}: {_quoted(value)}" for name, value in said.items()), ""]
    rows = []
    for row, one in zip(made.rows, records, strict=True):
        where = _quoted(row.weights_at) if row.weights_at else "nowhere named"
        numbers = f"{one.psnr_gap:.3f}", f"{one.psnr_test:.3f}", f"{one.training.parameters:,}"
        rows.append((f"{_quoted(one.row.title)}, {_quoted(one.row.recipe)}", *numbers, where))
    titles = ("row", "gap, dB", "PSNR test", "parameters", "weights")
    lines.append(markdown_table(titles, rows, [False, True, True, True, False]))
    lines += ["", "Entries and code of its own: " + (", ".join(_quoted(one.path) for one in made.sources) or "none"), ""]
    lines += ["```", *(row.command for row in made.rows), f"bench verify submissions/{made.name}", "```"]
    return "\n".join(lines) + "\n"


def _checked(run: Path, search: tuple[Path, ...], home: Path) -> Record:
    """Return the record of a finished run that has a row."""
    path = run / "record.json"
    if not path.is_file():
        raise UsageError(
            f"The run {run.name} has not finished: there is no record in {run}. `benchmark.run(...)` of the same spec resumes it."
        )
    made = record.read(path)
    if made.overrides or made.half or not made.ranked:
        why = (
            "changed by overrides" if made.overrides else "of one half of the images" if made.half else "under a recipe that is not ranked"
        )
        raise BenchError(f"The run {run.name} is {why}: it has no row on the board.")
    known = check_record.Known(search, home)
    for rule in (lambda: check_record.check_images(made, known), lambda: check_record.check_code(known.standing(made))):
        try:
            rule()
        except NotRun as reason:
            if "older code" in str(reason):
                raise BenchError(f"The run {run.name} was made by other code than is here. Run it again with `force=True`.") from None
    from_record(made.spec, search=search)  # its code is here
    return made


def _sources(records: Sequence[Record], search: tuple[Path, ...]) -> dict[Path, Path]:
    """Return the files of entries that are not the project's, by their place in a registry folder: declarations and code."""
    roots = [root for root in search if root != registry.STOCK]
    folders = [root / folder for root in roots for folder in registry.FOLDERS.values()]
    found: list[Path] = []
    for made in records:
        for axis in AXES:
            found += [registry.find(axis, name, search).path for name in _names(made.spec[axis])]
        found += closure.files(closure.family_of(made.spec, AXES), folders, roots=())
    own = {
        path.relative_to(root): path
        for path in map(Path.resolve, found)
        for root in roots
        if path.is_relative_to(root) and not path.is_relative_to(registry.STOCK)
    }
    return dict(sorted(own.items()))


def _names(stored: Mapping[str, Any]) -> list[str]:
    """Return the name of a stored entry, and of the entries among its fields."""
    inner = [value for value in stored["config"].values() if isinstance(value, Mapping) and {"name", "kind", "config"} <= set(value)]
    return [stored["name"], *(name for one in inner for name in _names(one))]


def _check_entries(sources: Mapping[Path, Path], search: tuple[Path, ...]) -> None:
    entries = [path for path in sources.values() if path.suffix == ".gin"]
    for verdict in check(entries, search):
        if verdict.problem:
            raise BenchError(f"{verdict.path}: {verdict.problem} `benchmark.contributing.check.check({verdict.path.stem!r})` says more.")


def _submitted(made: Record, wanted: Wanted, own: bool) -> Submitted:
    row = made.row
    words = ["bench", "run", "--model", row.model, "--layout", row.layout, "--dataset", row.dataset, "--recipe", row.recipe]
    words += ["--subset", str(row.subset), "--seed", str(row.seed)]
    return Submitted(
        record=path_of(Path(), row).as_posix(),
        id=made.id,
        record_sha256=verification.digest(made),
        weights_sha256=made.weights_sha256,
        weights_at=wanted.weights_at,
        command=shlex.join(words + (["--registry", f"submissions/{wanted.name}/{REGISTRY}"] if own else [])),
    )


def _quoted(text: str) -> str:
    return "`" + " ".join(text.replace("`", "'").replace("|", "/").split()) + "`"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
