"""How near networks come to denoisers in closed form, on the page: the published analyses `theory`, by network and denoiser."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from benchmark.declaring.row import Row
from benchmark.pages.report.analysed import Analyses
from benchmark.pages.report.inside import LEVELS, MINI, absent
from benchmark.pages.statistics import estimate
from benchmark.pages.text import NONE, escaped
from benchmark.recording.markdown import markdown_table
from benchmark.recording.style import COLOURS, Picture, short

WHAT = "theory"
SAMPLES = "samples"  # where r² is of samples from the same noise, not of x0_hat at one noise level
NEAREST = "local_score"  # to the machine whose agreement Kamb and Ganguli report
CONTROL = MINI._replace(recipe="mini_control")
DRAWN = (  # what the pictures show, where it is there
    ("DiT, global", CONTROL),
    ("DiT, windows of 3 first", CONTROL._replace(layout="local_3x3_head")),
    ("DiT, random keys first", CONTROL._replace(layout="scattered_3x3_head")),
    ("UNet", CONTROL._replace(model="unet_mini")),
)
NUMBER = re.compile(r"r2_(?:(samples)_(.+)|(.+)_t(\d+))")
HEADING = "## What the paper does not have: agreement with denoisers in closed form\n\n"


class Setting(NamedTuple):
    """What r² was taken of; numbers of two settings have no mean."""

    version: str
    images: int
    split: str

    @property
    def words(self) -> str:
        """The images in words."""
        return f"{self.images} {self.split}"


@dataclass(frozen=True)
class Agreement:
    """r² of one configuration with one denoiser: by place (`t = 50`, …, `samples`), then by seed."""

    row: Row  # of seed 0, which need not have been run
    setting: Setting
    denoiser: str
    r2: dict[str, dict[int, float]] = field(default_factory=dict)

    def mean(self, place: str) -> float | None:
        """Return the mean over seeds at one place."""
        return estimate(list(self.r2[place].values())).mean if place in self.r2 else None

    @property
    def seeds(self) -> list[int]:
        """The seeds at any place."""
        return sorted({seed for by_seed in self.r2.values() for seed in by_seed})


def agreements(analyses: Analyses) -> list[Agreement]:
    """Return what is published: configurations by recipe, dataset, N and name, denoisers as the analysis has them."""
    found: dict[tuple[Row, Setting], dict[str, Agreement]] = {}
    for one in sorted(analyses.rows, key=lambda one: _order(one.record.row)):
        if (analysis := one.found.get(WHAT)) is None:
            continue
        row, said = one.record.row._replace(seed=0), analysis.settings
        setting = Setting(str(said.get("version")), int(said.get("images", 0)), str(said.get("split")))
        group = found.setdefault((row, setting), {})
        for name, value in analysis.numbers.items():
            if match := NUMBER.fullmatch(name):
                denoiser, place = match[2] or match[3], match[1] or f"t = {match[4]}"
                held = group.setdefault(denoiser, Agreement(row, setting, denoiser))
                held.r2.setdefault(place, {})[one.record.row.seed] = value
    return [agreement for group in found.values() for agreement in group.values()]


def places(found: Sequence[Agreement]) -> list[str]:
    """Return where r² was taken: noise levels from the lowest, then samples."""
    there = {place for one in found for place in one.r2}
    return sorted(there, key=lambda place: (place == SAMPLES, int(place.removeprefix("t = ")) if place != SAMPLES else 0))


def agreement(analyses: Analyses) -> tuple[str, list[Picture]]:
    """Return the section: Markdown and its pictures."""
    found = agreements(analyses)
    if not found:
        return HEADING + absent(WHAT), []
    pictures = [levels(found), samples(found)] if any(one.row == row for one in found for _, row in DRAWN) else []
    shown = [f"![{escaped(picture.alt)}]({picture.path.as_posix()})" for picture in pictures]
    return HEADING + "\n\n".join([SAID, *_beside(found), *shown, _table(found)]), pictures


SAID = """How near does a network come to a denoiser that can be written down? Four are fitted to the very images that it was trained on:
the perfect memoriser (`empirical_optimal`), the linear one of least error (`wiener`), the local score machine of Kamb and Ganguli
(`local_score`), which sees patches and not where they are, and one that is local by the data's principal components (`pca_locality`). r²
is the squared correlation of the pixels of two images: of x̂₀ (clipped) from the same noisy image, at diffusion step t, and of samples
from the same noise (DDIM, 20 steps); the median over images, as the analysis `theory` gives it. A cell is the mean over seeds
and, in brackets, the lowest and the highest of them; the recipes `mini` and `mini_control` train alike, on other seeds.

Kamb and Ganguli ([arXiv 2412.20292](https://arxiv.org/abs/2412.20292)) report, between samples of their machine and of trained networks,
medians of 0.94 to 0.96 for convolutional networks (on CIFAR10, FashionMNIST, MNIST and CelebA) and of about 0.77 for UNets with attention
(on CIFAR10). Nearest to theirs is `local_score` over samples here. It is no repetition: these are dead leaves of 8×8 pixels and few
training images, not their data; `unet_mini` has an attention block in its middle, and its learning rate was not tuned; the side of the
patch is chosen at four noise levels, on the same images, which favours `local_score` a little; the sampler is another. At t = 950 a
denoiser answers with little but a mean, `local_score` with one that does not know where it is. r² is blind to contrast and brightness,
and two denoisers that are both good agree with each other: it says of which one a network is the nearer relative, not that it is one."""


def _beside(found: Sequence[Agreement]) -> list[str]:
    """Return our numbers that are nearest to those that Kamb and Ganguli report, of what the pictures show; nothing where there is none."""
    held = [(label, row, _of(found, row, NEAREST)) for label, row in DRAWN]
    said = [f"{label} (`{row.model}`) {spread(one, SAMPLES)}" for label, row, one in held if one and SAMPLES in one.r2]
    return [f"**Here, `{NEAREST}` over samples, N = {CONTROL.subset}:** {'; '.join(said)}."] if said else []


def levels(found: Sequence[Agreement]) -> Picture:
    """Return r² over the noise levels, a panel a denoiser, a line a network; thin lines are seeds."""
    panels: list[dict[str, Any]] = [
        {
            "title": denoiser,
            "x": "diffusion step t",
            "y": "r² with the network",
            "ends": [-0.02, 1.02],
            "lines": [_line(_of(found, row, denoiser), label, look) for look, (label, row) in enumerate(DRAWN)],
        }
        for denoiser in _denoisers(found)
    ]
    return Picture(
        "lines",
        PurePosixPath("figures", "agreement-levels.svg"),
        "r² of the denoised image between networks and denoisers in closed form, by diffusion step; dead leaves 8×8, N = 16",
        {"panels": panels, "columns": 2},
    )


def samples(found: Sequence[Agreement]) -> Picture:
    """Return r² over samples from the same noise, a group of bars a denoiser, a bar a network."""
    looks: list[Any] = ["////", None, "....", None]
    shown = [(look, label, row) for look, (label, row) in enumerate(DRAWN) if any(one.row == row for one in found)]
    groups = [
        {"label": denoiser, "bars": [_bar(_of(found, row, denoiser), series) for series, (_, _, row) in enumerate(shown)]}
        for denoiser in _denoisers(found)
    ]
    series = [{"label": label, "colour": "#999999" if look == 0 else COLOURS[look], "hatch": looks[look]} for look, label, _ in shown]
    return Picture(
        "bars",
        PurePosixPath("figures", "agreement-samples.svg"),
        "r² between samples of networks and of denoisers in closed form, from the same noise; dead leaves 8×8, N = 16",
        {
            "panels": [{"title": "samples from the same noise", "y": "r² with the network", "groups": groups}],
            "columns": 1,
            "series": series,
        },
    )


def as_json(analyses: Analyses) -> list[dict[str, Any]]:
    """Return every number by configuration, denoiser, place and seed."""
    return [
        {axis: value for axis, value in one.row._asdict().items() if axis != "seed"}
        | {"denoiser": one.denoiser, **one.setting._asdict()}
        | {
            "r2": {
                place: {"mean": one.mean(place), "by_seed": {str(seed): value for seed, value in sorted(by_seed.items())}}
                for place, by_seed in one.r2.items()
            }
        }
        for one in agreements(analyses)
    ]


def tables(analyses: Analyses) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Return a table for each configuration: its title, its columns and its rows, as text."""
    found = agreements(analyses)
    columns = places(found)
    told = []
    for row, setting in dict.fromkeys((one.row, one.setting) for one in found):
        held = [one for one in found if (one.row, one.setting) == (row, setting)]
        seeds = sorted({seed for one in held for seed in one.seeds})
        said = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        title = f"r² of {row.model} {row.layout}, N = {row.subset}, {row.recipe} on {row.dataset}, {said}"
        lines = [(one.denoiser, *(spread(one, place, whole=place == SAMPLES) for place in columns)) for one in held]
        told.append((title, ("denoiser", *columns), lines))
    return told


def spread(one: Agreement, place: str, *, whole: bool = True) -> str:
    """Return the mean over seeds at a place and, if `whole`, the lowest and the highest of several."""
    mean, values = one.mean(place), one.r2.get(place, {}).values()
    if mean is None:
        return NONE
    return f"{mean:.2f}" + (f" [{min(values):.2f}, {max(values):.2f}]" if whole and len(values) > 1 else "")


def _table(found: Sequence[Agreement]) -> str:
    columns = places(found)
    lines = [
        [
            escaped(f"{one.row.model} {one.row.layout}, N = {one.row.subset}; {one.row.recipe}, {one.row.dataset}"),
            escaped(one.denoiser),
            *(spread(one, place) for place in columns),
            escaped(", ".join(map(str, one.seeds))),
            escaped(one.setting.words),
        ]
        for one in found
    ]
    titles = ["network", "r² with", *(escaped(place) for place in columns), "seeds", "images"]
    return markdown_table(titles, lines, [False, False, *(True for _ in columns), False, False])


def _denoisers(found: Sequence[Agreement]) -> list[str]:
    """Return the denoisers of what is drawn, as the analyses have them."""
    rows = {row for _, row in DRAWN}
    return list(dict.fromkeys(one.denoiser for one in found if one.row in rows))


def _of(found: Sequence[Agreement], row: Row, denoiser: str) -> Agreement | None:
    return next((one for one in found if (one.row, one.denoiser) == (row, denoiser)), None)


def _line(one: Agreement | None, label: str, look: int) -> dict[str, Any]:
    """Return the means over the noise levels that `bench analyze` takes unless told, and a line for each of several seeds."""
    line: dict[str, Any] = {"label": label, "look": look, "dashed": False, "mean": [], "seeds": []}
    if one is None:
        return line
    at: Mapping[int, dict[int, float]] = {t: one.r2[f"t = {t}"] for t in LEVELS if f"t = {t}" in one.r2}
    mean = [[t, short(estimate(list(by_seed.values())).mean)] for t, by_seed in at.items()]
    seeds = [[[t, short(by_seed[seed])] for t, by_seed in at.items() if seed in by_seed] for seed in one.seeds]
    return line | {"mean": mean, "seeds": [points for points in seeds if points] if len(seeds) > 1 else []}


def _bar(one: Agreement | None, series: int) -> dict[str, Any]:
    if one is None or SAMPLES not in one.r2:
        return {"series": series, "value": None}
    values = [short(value) for _, value in sorted(one.r2[SAMPLES].items())]
    return {"series": series, "value": short(estimate(values).mean), "seeds": values}


def _order(row: Row) -> tuple[str, str, int, str, str, int]:
    return row.recipe, row.dataset, row.subset, row.model, row.layout, row.seed
