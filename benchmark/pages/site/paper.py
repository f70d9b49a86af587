"""The paper page inside the site: its text, and its pictures as they are committed or drawn anew."""

from collections.abc import Iterator
from pathlib import Path

from benchmark.pages import report
from benchmark.pages.report import pictures as drawings
from benchmark.pages.report.claimed import comparisons
from benchmark.pages.report.page import COMPARISONS, Material
from benchmark.pages.site import markdown
from benchmark.pages.site.pictures import Gallery
from benchmark.recording import style

LINKS = {COMPARISONS: "comparisons.html", "README.md": "paper.html", "../README.md": "results.html"}


def pages(material: Material, records: Path, gallery: Gallery) -> Iterator[tuple[str, str, str]]:
    """Yield name, title and HTML of the paper page and of the page of every comparison."""
    committed = records.parent / "paper"
    text, shown = report.compose(material, records, committed)
    drawn = {picture.path.as_posix(): picture for picture in shown}

    def find(source: str) -> tuple[str, str] | None:
        there, picture = committed / source, drawn.get(source)
        if picture and style.digest_in(there) != picture.digest:
            return gallery.add(drawings.draw(picture).encode(), ".svg")
        return gallery.file(there) if there.is_file() else None

    yield "paper", "The paper, figure by figure", markdown.html(text, LINKS, find)
    yield "comparisons", "Every comparison", markdown.html(comparisons(material.evidence), LINKS)
