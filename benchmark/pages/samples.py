"""The samples on the page: the same fixed noise for every row, so that a reader compares image by image."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from benchmark.pages.text import escaped
from benchmark.recording.markdown import markdown_table
from benchmark.recording.record import Record, path_of

FOLDER = "samples"


def grid_path(out: Path, record: Record) -> Path:
    """Return where the grid of a record lies beside the page: the record's own key, as a PNG."""
    return path_of(out / FOLDER, record.row).with_suffix(".png")


def section(records: Sequence[Record], out: Path) -> str:
    """Show the grids that are there, by recipe, dataset and N; '' where there is none."""
    shown = [record for record in records if record.ranked and grid_path(out, record).is_file()]
    if not shown:
        return ""
    parts = [
        "## Samples",
        "The first 64 images of each row, written by `bench sample RUN --publish`: DPM-Solver++ 2M, 20 steps, "
        "noise seed 0. Place k starts from the same noise in every grid.",
    ]
    for key in dict.fromkeys((r.row.recipe, r.row.dataset, r.row.subset) for r in shown):
        same = [r for r in shown if (r.row.recipe, r.row.dataset, r.row.subset) == key]
        names = [f"{escaped(r.row.model)} {escaped(r.row.layout)}, seed {r.row.seed}" for r in same]
        links = [f"![samples]({quote(grid_path(Path(), r).as_posix())})" for r in same]
        parts.append(f"### Samples: {escaped(key[0])} on {escaped(key[1])}, N = {key[2]:,}")
        parts.append(markdown_table(["row", "samples"], list(zip(names, links, strict=True))))
    return "\n\n".join(parts)
