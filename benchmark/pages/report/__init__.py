"""Records to the paper's figures and tables, ours beside theirs: one page, its pictures, and its short form."""

import os
from collections.abc import Sequence
from pathlib import Path

from benchmark.declaring.registry import STOCK
from benchmark.declaring.spec import load_suite
from benchmark.errors import BenchError, UsageError
from benchmark.files import write_text
from benchmark.pages.report import html, inside, pictures
from benchmark.pages.report.claimed import comparisons
from benchmark.pages.report.page import (
    COMPARISONS,
    TITLE,
    Links,
    Material,
    glance_rows,
    write_page,
)
from benchmark.pages.report.summary import as_json
from benchmark.recording import published as reported
from benchmark.recording import style
from benchmark.recording.record import Record, read_all
from benchmark.recording.style import Picture

__all__ = ["as_json", "build", "compose", "gather", "glance_rows", "stale"]

PAGE, HTML = "README.md", "index.html"
MEND = "Make it again, `benchmark.pages.report.build(...)`, and commit what that writes."


def gather(records_dir: Path, published: Path, suites: Sequence[str] = ()) -> Material:
    """Read records, analyses and printed values, and weigh every claim; of the rows of these suites where some are named."""
    if records_dir.exists() and not records_dir.is_dir():
        raise BenchError(f"The records are expected in a folder, but {records_dir} is a file.")
    records: list[Record] = [record for record in read_all(records_dir) if not record.half]
    if suites:
        rows = {row for suite in suites for row in load_suite(suite).rows()}
        records = [record for record in records if record.row in rows]
    return Material.gather(records, reported.load(published), inside.Analyses(records, records_dir.parent))


def build(material: Material, records_dir: Path, out: Path) -> list[Path]:
    """Write the page, its pictures and the same page as HTML under `out`; remove pictures that no longer belong."""
    text, shown = compose(material, records_dir, out)
    if (there := _read(out / PAGE)) is not None and not there.startswith(TITLE):
        raise UsageError(f"{out / PAGE} is not a page of this report, and would be overwritten. Give another folder: `out=DIR`.")
    drawn = {out / picture.path: pictures.draw(picture) for picture in shown}
    for path, svg in drawn.items():
        write_text(path, svg)
    write_text(out / COMPARISONS, comparisons(material.evidence))
    write_text(out / PAGE, text)
    write_text(out / HTML, html.page(text, out))
    for path in set((out / "figures").glob("*.svg")) - drawn.keys():
        path.unlink()
    return [out / PAGE, out / HTML, out / COMPARISONS, *drawn]


def stale(material: Material, records_dir: Path, out: Path) -> list[str]:
    """Say what of the page is not what the records give: the text letter by letter, a picture by its numbers' digest."""
    text, shown = compose(material, records_dir, out)
    wanted = {out / PAGE: text, out / COMPARISONS: comparisons(material.evidence)}
    problems = [f"{path} is not what the records give. {MEND}" for path, content in wanted.items() if _read(path) != content]
    for picture in shown:
        if style.digest_in(out / picture.path) != picture.digest:
            problems.append(f"{out / picture.path} is missing or shows other numbers than the records give. {MEND}")
    belonging = {out / picture.path for picture in shown}
    there = set((out / "figures").glob("*.svg"))
    return problems + [f"{path} belongs to no figure any more. {MEND}" for path in sorted(there - belonging)]


def compose(material: Material, records_dir: Path, out: Path) -> tuple[str, list[Picture]]:
    """Return the text of the page that lies in `out`, and its pictures, not drawn yet."""
    links = Links(_relative(STOCK / "claims.toml", out), _relative(records_dir.parent / "README.md", out), out)
    return write_page(material, links)


def _relative(path: Path, out: Path) -> str:
    return Path(os.path.relpath(path, out)).as_posix()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
