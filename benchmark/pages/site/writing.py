"""The site as files: every page, script, picture and record, written whole or not at all."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from benchmark.errors import BenchError, UsageError
from benchmark.pages import plots, prose
from benchmark.pages.answers import in_short
from benchmark.pages.comparisons import Numbers
from benchmark.pages.experiment_pictures import picture
from benchmark.pages.experiments import told
from benchmark.pages.page import experiment, objectives
from benchmark.pages.report.analysed import Analyses
from benchmark.pages.report.page import Material
from benchmark.pages.site import front, libraries, markdown, paper, row, view
from benchmark.pages.site.aside import aside
from benchmark.pages.site.pictures import Gallery
from benchmark.pages.site.view import FIELDS, Pages
from benchmark.pages.standing import Standing
from benchmark.pages.statistics import t_quantile
from benchmark.pages.tables import tabulate
from benchmark.recording import errors, marks
from benchmark.recording import published as reported
from benchmark.recording.record import Record, path_of, read_all
from benchmark.recording.said import one_line

MARK = "made by bench site"  # a folder that has this file may be replaced
STATIC = ("site.css", "site.js", "results.js", "compare.js", "charts.js", "statistics.js")
NAVIGATION = {
    "index": "Home",
    "results": "Results",
    "compare": "Compare",
    "claims": "Claims",
    "paper": "The paper",
    "rules": "Rules and adding yours",
}


@dataclass(frozen=True)
class Sources:
    """What the site is made from: the records, what stands beside them, the printed values, and the rules of the board."""

    records: Path
    submissions: Path
    published: Path
    rules: Path

    @property
    def leaderboard(self) -> Path:
        """The folder that holds records, analyses, samples and verifications."""
        return self.records.parent


def build(sources: Sources, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Write the site into `out`, whole or not at all; return how many pages it has.

    Raise UsageError where `out` holds something that no site has.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARK).exists())):
        raise UsageError(f"{out} is not a site of this command and would be replaced. Give another folder: `out=DIR`.")
    try:
        with aside(out) as room:
            made = room / "site"
            made.mkdir()
            pages = _Site(sources, made).write(progress)
            if out.exists():
                out.rename(room / "before")
            made.rename(out)
    except OSError as problem:
        raise BenchError(f"The site {out} cannot be written: {problem.strerror}. Free space or make the folder writable.") from None
    return pages


class _Site:
    """One building of the site into a folder of its own."""

    def __init__(self, sources: Sources, out: Path) -> None:
        self.sources, self.out = sources, out
        self.templates = Environment(
            loader=PackageLoader("benchmark.pages.site"),
            autoescape=True,
            finalize=lambda value: one_line(value) if type(value) is str else value,  # whatever is shown: no control character
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False}  # the order of columns is their order
        self.gallery = Gallery(out)
        self.records: Sequence[Record] = [record for record in read_all(sources.records) if not record.half]
        self.published = reported.load(sources.published)
        self.marks = marks.read(sources.leaderboard, self.records)
        self.standing = Standing(sources.leaderboard, sources.submissions, self.marks)
        self.pages = Pages(self.records)
        self.sections = view.sections(tabulate(self.records, self.marks))
        self.count = 0

    def write(self, progress: Callable[[int, int], None]) -> int:
        """Write every page, script, picture and record; return the number of pages."""
        (self.out / MARK).write_text("This folder is replaced whole when the site is made again.\n", encoding="utf-8")
        libraries.copy(self.out)
        for name in STATIC:
            shutil.copyfile(Path(__file__).parent / "static" / name, self.out / name)
        standing = self.marks.standing(self.records)
        analysed = Analyses(standing, self.sources.leaderboard)
        numbers = analysed.numbers()
        self._results(markdown.html(objectives(standing, numbers), {}))
        self._rows(progress)
        self._page("index", "index.html.j2", **front.page(standing, self.sections, self.pages, self.gallery, numbers))
        self._page("claims", "text.html.j2", title="Claims", body=self._claims(standing, numbers))
        material = Material.gather(standing, self.published, analysed)
        for name, title, body in paper.pages(material, self.sources.records, self.gallery):
            self._page(name, "text.html.j2", title=title, body=body, active="paper")
        rules = self.sources.rules.read_text(encoding="utf-8")
        self._page("rules", "text.html.j2", title="Rules", body=markdown.html(rules, {}))
        return self.count

    def _page(self, name: str, template: str, **shown: Any) -> None:
        root = "../" * name.count("/")
        context = {"root": root, "navigation": NAVIGATION, "active": shown.pop("active", name)}
        path = self.out / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.templates.get_template(template).render(**context, **shown), encoding="utf-8")
        self.count += 1

    def _script(self, name: str, call: str, *values: Any) -> None:
        """Write data as a classic script that calls site.js: neither fetch nor modules work from file://."""
        words = ", ".join(json.dumps(value, separators=(",", ":"), allow_nan=False) for value in values)
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{call}({words});\n", encoding="ascii")

    def _results(self, beside: str) -> None:
        """Write the page of the boards; `beside` is the HTML of the tables whose rows are recipes."""
        index = []
        for section in self.sections:
            for table in section.tables:
                where = section.script(table)
                rows = [view.board_row(one, self.pages.of(one.series), self.published, self.standing) for one in table.rows]
                self._script(where, "bench.put", where, {"rows": rows, "quality": view.quality(table)})
            tables = [{"n": table.subset, "script": section.script(table), "rows": len(table.rows)} for table in section.tables]
            about = prose.section(next(iter(section.tables[0].rows[0].series.runs.values())))
            index.append({"key": section.key, "title": section.title, "tables": tables, "about": about})
        unranked = [
            {"title": f"{row.title(one)}: {self._section_of(path)}", "page": path}
            for path, one in self.pages.series.items()
            if not _ranked(one)
        ]
        self._page("results", "results.html.j2", sections=index, fields=FIELDS, unranked=unranked, objectives=beside)
        every = [[path, self._section_of(path), row.title(one)] for path, one in self.pages.series.items()]
        self._script("data/rows.js", "bench.put", "rows", every)
        quantiles = [t_quantile(freedom) for freedom in range(1, max([2, *(len(one.runs) for one in self.pages.series.values())]))]
        self._page("compare", "compare.html.j2", quantiles=quantiles)

    def _section_of(self, path: str) -> str:
        record = next(iter(self.pages.series[path].runs.values()))
        return f"{record.row.recipe} on {record.row.dataset}, metric {record.metric_version}"

    def _rows(self, progress: Callable[[int, int], None]) -> None:
        total = len(self.pages.series)
        for done, (path, series) in enumerate(self.pages.series.items(), start=1):
            shown = row.page(series, self.standing, self.sources.records, self.gallery)
            self._script(f"{path}.js", "bench.put", path, row.script(series, path, shown["samples"], self.standing))
            self._page(path, "row.html.j2", path=path, active="results", **shown)
            for record in series.runs.values():
                self._copy(record)
            progress(done, total)

    def _copy(self, record: Record) -> None:
        to = self.out / row.record_path(record)
        to.parent.mkdir(parents=True, exist_ok=True)
        kept = path_of(self.sources.records, record.row)
        shutil.copyfile(kept, to)
        if errors.beside(kept).is_file():
            shutil.copyfile(errors.beside(kept), errors.beside(to))

    def _claims(self, records: Sequence[Record], numbers: Numbers) -> str:
        experiments = told(records, numbers)
        drawn = {(shown := picture(one)).path.as_posix(): shown for one in experiments}
        parts = [
            "# Claims",
            in_short(records, numbers),
            *(experiment(one, listed=True) for one in experiments),
            prose.claims(records, numbers),
            prose.not_claimed(records),
            prose.how_to_read(),
        ]
        parts += [prose.assumed(self.records), prose.environments(self.records)]
        text = "\n\n".join(part for part in parts if part).replace("\n## Claims", "\n## Every claim", 1)

        def find(source: str) -> tuple[str, str] | None:
            return self.gallery.add(plots.draw(drawn[source]).encode(), ".svg") if source in drawn else None

        return markdown.html(text, {}, find)


def _ranked(series: view.Series) -> bool:
    return all(record.ranked for record in series.runs.values())
