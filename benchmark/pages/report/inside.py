"""What the networks do inside, on the page: the published analyses behind Figs. 1, 3 and 4, and what goes with the gap."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from benchmark.declaring.row import Row
from benchmark.pages.report.correlation import (
    FEWEST,
    Correlation,
    Drawn,
    Observation,
    correlate,
    settled,
    settled_p,
)
from benchmark.pages.statistics import estimate, holm
from benchmark.pages.text import NONE, escaped, plain
from benchmark.pages.verdicts import Numbers
from benchmark.recording import analyses
from benchmark.recording.markdown import markdown_table
from benchmark.recording.record import METRIC_VERSION, Record
from benchmark.recording.style import Picture, short

MINI = Row("dit_mini", "global", "dead_leaves8", 16, 0, "mini")
UNET = MINI._replace(model="unet_mini")
LEVELS = (50, 200, 500, 950)  # the diffusion steps that `bench analyze` takes unless told
HARMONIC = 200  # that of the claims and of the scatter


@dataclass(frozen=True)
class Analysed:
    """A record with its published analyses, by name, and the folder that holds their pictures."""

    record: Record
    found: dict[str, analyses.Analysis]
    folder: Path


class Analyses:
    """The published analyses of the ranked records."""

    def __init__(self, records: Sequence[Record], leaderboard: Path) -> None:
        ranked = [one for one in records if one.ranked and one.metric_version == METRIC_VERSION]
        rows = [Analysed(one, analyses.published(leaderboard, one), analyses.published_folder(leaderboard, one.row)) for one in ranked]
        self.rows = [one for one in rows if one.found]

    def __len__(self) -> int:
        return sum(len(one.found) for one in self.rows)

    def numbers(self) -> Numbers:
        """Return every number by the record's id, as claims name it: "<what>.<number>"."""
        return {
            one.record.id: {f"{what}.{name}": value for what, analysis in one.found.items() for name, value in analysis.numbers.items()}
            for one in self.rows
        }

    def of(self, row: Row) -> Analysed | None:
        """Return the analyses of one row."""
        return next((one for one in self.rows if one.record.row == row), None)

    def having(self, name: str) -> Iterator[tuple[Record, float]]:
        """Yield the records of which a number was taken, and the number."""
        numbers = self.numbers()
        for one in self.rows:
            if name in numbers[one.record.id]:
                yield one.record, numbers[one.record.id][name]


def exhibit(name: str, analyses: Analyses, from_page: Path) -> tuple[str, list[Picture]]:
    """Return what the analyses say to one figure of the paper: Markdown, and the pictures that are drawn for it."""
    return {"Fig. 1": jacobians, "Fig. 3": spectra, "Fig. 4": attention}.get(name, _nothing)(analyses, from_page)


def jacobians(analyses: Analyses, from_page: Path) -> tuple[str, list[Picture]]:
    """Return our eigenvectors of a UNet and of a DiT."""
    shown = [("UNet (unet_mini), N = 16, seed 0", analyses.of(UNET)), ("DiT (dit_mini), N = 16, seed 0", analyses.of(MINI))]
    pictures = _published(shown, "jacobian", from_page)
    text = (
        (
            "The leading eigenvectors of the symmetric part of the Jacobian of the denoised image with respect to the noisy one, "
            "split by channel, at 8×8 pixels, as `bench analyze --what jacobian` draws them."
        )
        if pictures
        else absent("jacobian")
    )
    return f"{text}\n\n{pictures}".strip(), []


def spectra(analyses: Analyses, from_page: Path) -> tuple[str, list[Picture]]:
    """Return the numbers of the Jacobians over the noise levels, of a UNet and a DiT at three N."""
    shown = (
        ("UNet, N = 16", UNET, 1),
        ("DiT, N = 16", MINI, 0),
        ("DiT, N = 64", MINI._replace(subset=64), 2),
        ("DiT, N = 512", MINI._replace(subset=512), 3),
        ("UNet, N = 64", UNET._replace(subset=64), 4),
        ("UNet, N = 512", UNET._replace(subset=512), 5),
    )
    titles = (
        ("harmonicity", "harmonicity"),
        ("sparsity", "sparsity"),
        ("leading_share", "share of the leading eigenvalue"),
        ("effective_dimension", "effective dimension"),
    )
    panels: list[dict[str, Any]] = [
        {
            "title": title,
            "x": "diffusion step t",
            "y": title,
            "lines": [_profile(analyses, f"jacobian.{name}_t", row, label, look) for label, row, look in shown],
        }
        for name, title in titles
    ]
    if not any(line["mean"] for panel in panels for line in panel["lines"]):
        return absent("jacobian"), []
    text = (
        "Harmonicity is 1 where an eigenvector is one oscillation of a local cosine transform and 0 on average for noise; sparsity is 1 "
        "for a single pixel. Means over the leading eigenvectors and the images; thin lines are seeds."
    )
    picture = Picture(
        "lines",
        PurePosixPath("figures", "fig3.svg"),
        "Fig. 3, ours: what the Jacobians' spectra are like",
        {"panels": panels, "columns": 2},
    )
    return text, [picture]


def attention(analyses: Analyses, from_page: Path) -> tuple[str, list[Picture]]:
    """Return our attention maps at three N, and their locality by layer."""
    sizes = (16, 64, 512)
    pictures = _published(
        [(f"DiT (dit_mini), N = {n}, seed 0", analyses.of(MINI._replace(subset=n))) for n in sizes], "attention", from_page
    )
    panels: list[dict[str, Any]] = [
        {
            "title": title,
            "x": "layer",
            "y": title,
            "lines": [
                _profile(analyses, f"attention.{name}_layer", MINI._replace(subset=n), f"N = {n}", look) for look, n in enumerate(sizes)
            ],
        }
        for name, title in (("distance", "mean attention distance (pixels)"), ("position_invariance", "position invariance"))
    ]
    if not any(line["mean"] for panel in panels for line in panel["lines"]):
        return absent("attention"), []
    text = (
        "Position invariance is the mean cosine between the rows of two queries: 1 where all attend alike. Means over heads, images and "
        "noise levels; thin lines are seeds. Below, the maps themselves, each brought to [0, 1]; the bar says which part of it has "
        "colours (the paper's maps, of 1,024 tokens, show [0, 0.1]; ours have 64)."
    )
    picture = Picture(
        "lines",
        PurePosixPath("figures", "fig4.svg"),
        "Fig. 4, ours: how local attention is, by layer and N",
        {"panels": panels, "columns": 2},
    )
    return f"{text}\n\n{pictures}".strip(), [picture]


def beyond(analyses: Analyses) -> tuple[str, list[Picture]]:
    """Return what the paper does not have: locality and harmonicity against the gap, over all analysed rows."""
    found: list[tuple[str, str, Correlation]] = []
    panels, labels = [], dict[str, None]()
    for name, title, shown in (
        ("attention.distance", "mean attention distance (pixels)", True),
        *((f"jacobian.harmonicity_t{t}", f"harmonicity at t = {t}", t == HARMONIC) for t in LEVELS),
    ):
        rows = list(analyses.having(name))
        found += [(title, kind, one) for kind, one in _correlations(rows)]
        if shown and rows:
            points: dict[str, list[list[float]]] = {}
            for record, value in sorted(rows, key=_order):
                points.setdefault(_configuration(record), []).append([short(value), short(record.psnr_gap)])
            labels |= dict.fromkeys(points)
            panels.append(
                {"title": "", "x": title, "y": "PSNR gap (dB)", "points": points, "log": all(record.psnr_gap > 0 for record, _ in rows)}
            )
    heading = "## What the paper does not have: what goes with the gap\n\n"
    if not panels:
        return heading + absent("attention") + " Without them there is nothing to correlate.", []
    text = (
        "Does a network with more local attention, or with more harmonic eigenvectors, have a smaller gap? "
        "A positive rho with the attention distance, or a negative one with harmonicity, says yes. "
        "Spearman's rank correlation with the PSNR gap; its 95% interval is that of a bootstrap over configurations, which keeps the "
        f"seeds of one configuration together (none below {FEWEST} configurations); p belongs to it, and Holm's correction of p is over "
        "the lines of this table. A decimal that another draw of resamples could change is left out. "
        "With so few configurations both are rough, and a correlation over rows that differ in N, network and "
        "recipe at once says nothing of what causes what: hence the lines for rows that share dataset, recipe and N. Those, and the line "
        "of trained networks, are without the references in closed form, whose gaps and Jacobians are known beforehand and lie apart."
    )
    titles = ["number", "rows", "Spearman's rho with the gap", "95% interval", "p", "Holm", "rows (configurations)"]
    corrected = zip(
        *(holm([getattr(one.p, side) if one.p else None for _, _, one in found]) for side in ("value", "least", "most")), strict=True
    )
    lines = [[title, kind, *_words(one, values)] for (title, kind, one), values in zip(found, corrected, strict=True)]
    table = markdown_table(titles, lines, [False, False, True, True, True, True, True])
    picture = Picture(
        "scatter",
        PurePosixPath("figures", "gap-against-insides.svg"),
        "PSNR gap against attention distance and against harmonicity, one point a row",
        {"panels": panels, "columns": 2, "labels": list(labels)},
    )
    return heading + text + f"\n\n{table}", [picture]


def _correlations(rows: Sequence[tuple[Record, float]]) -> list[tuple[str, Correlation]]:
    """Return a line for all rows, one for trained networks, and of these one for each dataset, recipe and N with enough of them."""
    trained = [one for one in rows if one[0].training.steps > 0]
    kinds = {"all": list(rows)} | ({"trained networks": trained} if len(trained) < len(rows) else {})
    for recipe, subset, dataset in sorted({_table(record) for record, _ in trained}):
        kinds[f"trained networks, {dataset}, {recipe}, N = {subset}"] = [
            one for one in trained if _table(one[0]) == (recipe, subset, dataset)
        ]
    lines = []
    for kind, belonging in kinds.items():
        found = correlate([Observation(value, record.psnr_gap, _configuration(record)) for record, value in belonging])
        if found and (kind == "all" or found.configurations >= FEWEST):
            lines.append((escaped(kind), found))
    return lines


def _words(found: Correlation, corrected: Sequence[float | None]) -> list[str]:
    """Return the cells of a line; `corrected` is p after Holm, and the ends of where another draw of resamples would put it."""
    ends = NONE if found.low is None or found.high is None else f"[{settled(found.low)}, {settled(found.high)}]"
    note = f", {found.undefined:.1%} of resamples without one" if found.undefined >= 0.0005 else ""
    value, least, most = corrected
    holds = None if value is None or least is None or most is None else Drawn(value, least, most)
    p, p_holm = (NONE if one is None else escaped(settled_p(one)) for one in (found.p, holds))
    return [plain(found.rho), ends + note, p, p_holm, f"{found.rows} ({found.configurations})"]


def _order(row: tuple[Record, float]) -> Row:
    return row[0].row


def _table(record: Record) -> tuple[str, int, str]:
    return record.row.recipe, record.row.subset, record.row.dataset


def _configuration(record: Record) -> str:
    """Return a row's name without its seed."""
    row = record.row
    return f"{row.model} {row.layout}, N = {row.subset}, {row.recipe}, {row.dataset}"


def _profile(analyses: Analyses, prefix: str, row: Row, label: str, look: int) -> dict[str, Any]:
    """Return a number over noise levels or layers as a line: the mean over seeds, and the seeds."""
    numbers, seeds = analyses.numbers(), []
    for one in analyses.rows:
        if one.record.row._replace(seed=0) == row:
            found = {
                int(match.group(1)): value
                for name, value in numbers[one.record.id].items()
                if (match := re.fullmatch(re.escape(prefix) + r"(\d+)", name))
            }
            seeds.append(found)
    places = sorted({place for found in seeds for place in found})
    mean = [[place, short(estimate([found[place] for found in seeds if place in found]).mean)] for place in places]
    lines = [[[place, short(found[place])] for place in sorted(found)] for found in seeds if found]
    return {"label": label, "look": look, "dashed": False, "mean": mean, "seeds": lines if len(lines) > 1 else []}


def _published(shown: Sequence[tuple[str, Analysed | None]], what: str, from_page: Path) -> str:
    """Return the published pictures of several rows, one below the other; '' where there is none."""
    there = [(title, one) for title, one in shown if one and what in one.found and (one.folder / f"{what}.svg").is_file()]
    return "\n\n".join(f"**{escaped(title)}**\n\n{_picture(title, one.folder / f'{what}.svg', from_page)}" for title, one in there)


def _picture(title: str, path: Path, from_page: Path) -> str:
    link = quote(Path(os.path.relpath(path, from_page)).as_posix())
    return f"![{escaped(title)}]({link})"


def absent(what: str) -> str:
    return f"No analysis of these rows is published: `bench analyze RUN --what {what} --publish` makes one."


def _nothing(analyses: Analyses, from_page: Path) -> tuple[str, list[Picture]]:
    return "", []
