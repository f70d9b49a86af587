"""What the networks do inside, on the page: the published analyses behind Figs. 1, 3 and 4."""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote

from benchmark.declaring.row import Row
from benchmark.pages.report.analysed import Analysed, Analyses
from benchmark.pages.statistics import estimate
from benchmark.pages.text import escaped
from benchmark.recording.style import Picture, short

MINI = Row("dit_mini", "global", "dead_leaves8", 16, 0, "mini")
UNET = MINI._replace(model="unet_mini")
GREY = MINI._replace(model="unet_simple", dataset="digits8")


class Shown(NamedTuple):
    """A row whose own picture is shown, and the line of its seeds."""

    title: str
    line: str
    row: Row


DITS = tuple(Shown(f"DiT (dit_mini), N = {n}, seed 0", f"N = {n}", MINI._replace(subset=n)) for n in (16, 64, 512))
OTHERS = (  # of other data than the mini track's, and of fewer images; shown where they are published
    Shown("DiT (dit_small), N = 8, seed 0", "N = 8, dit_small", Row("dit_small", "global", "dead_leaves8", 8, 0, "small")),
    Shown("DiT (dit_mini), photographs, N = 16, seed 0", "N = 16, photographs", MINI._replace(dataset="natural8")),
    Shown(
        "DiT (dit_mid), patches of photographs at 16×16, N = 16, seed 1",
        "N = 16, patches at 16×16",
        Row("dit_mid", "global", "patches16", 16, 1, "mid"),
    ),
)
LEVELS = (50, 200, 500, 950)  # the diffusion steps that `bench analyze` takes unless told


def exhibit(name: str, analyses: Analyses, from_page: Path) -> tuple[str, list[Picture]]:
    """Return what the analyses say to one figure of the paper: Markdown, and the pictures that are drawn for it."""
    return {"Fig. 1": jacobians, "Fig. 3": spectra, "Fig. 4": attention}.get(name, _nothing)(analyses, from_page)


def jacobians(analyses: Analyses, from_page: Path) -> tuple[str, list[Picture]]:
    """Return our eigenvectors of a simplified UNet, of a UNet and of a DiT, as far as they are published."""
    shown = [
        ("Simplified UNet (unet_simple), grey digits, N = 16, seed 0", analyses.of(GREY)),
        ("UNet (unet_mini), N = 16, seed 0", analyses.of(UNET)),
        ("DiT (dit_mini), N = 16, seed 0", analyses.of(MINI)),
        *((one.title, analyses.of(one.row)) for one in OTHERS),
    ]
    pictures = _published(shown, "jacobian", from_page)
    text = (
        (
            "The leading eigenvectors of the symmetric part of the Jacobian of the denoised image with respect to the noisy one, "
            "split by channel, at 8×8 pixels unless said, as `bench analyze --what jacobian` draws them."
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
        *((f"DiT, {one.line}", one.row, look) for look, one in enumerate(_others(analyses, "jacobian"), start=6)),
    )
    numbers = (
        ("harmonicity", "harmonicity"),
        ("sparsity", "sparsity"),
        ("leading_share", "share of the leading eigenvalue"),
        ("effective_dimension", "effective dimension"),
    )
    panels = _panels(analyses, "diffusion step t", [(f"jacobian.{name}_t", title) for name, title in numbers], shown)
    if not panels:
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
    shown = (*DITS, *OTHERS)
    pictures = _published([(one.title, analyses.of(one.row)) for one in shown], "attention", from_page)
    numbers = (("distance", "mean attention distance (pixels)"), ("position_invariance", "position invariance"))
    rows = [(one.line, one.row, look) for look, one in enumerate((*DITS, *_others(analyses, "attention")))]
    panels = _panels(analyses, "layer", [(f"attention.{name}_layer", title) for name, title in numbers], rows)
    if not panels:
        return absent("attention"), []
    text = (
        "Position invariance is the mean cosine between the rows of two queries: 1 where all attend alike. Means over heads, images and "
        "noise levels; thin lines are seeds. Distances in pixels do not compare between images of two sizes. Below, the maps themselves, "
        "each brought to [0, 1]; the bar says which part of it has colours (the paper's maps, of 1,024 tokens, show [0, 0.1]; ours have "
        "64, at 16×16 256)."
    )
    picture = Picture(
        "lines",
        PurePosixPath("figures", "fig4.svg"),
        "Fig. 4, ours: how local attention is, by layer and N",
        {"panels": panels, "columns": 2},
    )
    return f"{text}\n\n{pictures}".strip(), [picture]


def _others(analyses: Analyses, what: str) -> list[Shown]:
    """Return those of OTHERS of which some seed has the analysis: what has no line takes no colour."""
    there = {one.record.row._replace(seed=0) for one in analyses.rows if what in one.found}
    return [one for one in OTHERS if one.row._replace(seed=0) in there]


def _panels(analyses: Analyses, x: str, numbers: Sequence[tuple[str, str]], rows: Sequence[tuple[str, Row, int]]) -> list[dict[str, Any]]:
    """Return a panel for every number, by its prefix and title, with a line for every row; none where nothing is published."""
    panels: list[dict[str, Any]] = [
        {"title": title, "x": x, "y": title, "lines": [_profile(analyses, prefix, row, label, look) for label, row, look in rows]}
        for prefix, title in numbers
    ]
    return panels if any(line["mean"] for panel in panels for line in panel["lines"]) else []


def _profile(analyses: Analyses, prefix: str, row: Row, label: str, look: int) -> dict[str, Any]:
    """Return a number over noise levels or layers as a line: the mean over seeds, and the seeds."""
    numbers, seeds = analyses.numbers(), []
    for one in analyses.rows:
        if one.record.row._replace(seed=row.seed) == row:
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
    """Say that nothing of an analysis is published, and what publishes it."""
    return f"No analysis of these rows is published: `bench analyze RUN --what {what} --publish` makes one."


def _nothing(analyses: Analyses, from_page: Path) -> tuple[str, list[Picture]]:
    return "", []
