"""The paper's figures of numbers (2, 6, 7, 8) from the printed values and the records: the numbers of each picture first."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from benchmark.pages.alike import other_images
from benchmark.pages.report.evidence import value_of
from benchmark.pages.report.paper import paper
from benchmark.pages.statistics import estimate
from benchmark.pages.tables import Series, gather
from benchmark.recording.curves import mean_curves
from benchmark.recording.published import Published
from benchmark.recording.record import METRIC_VERSION, Record
from benchmark.recording.style import COLOURS, Picture, drawn, short

TEXTURED = {"label": "global attention", "colour": "#999999", "hatch": "////"}  # "textured bars highlight the baselines"
PLAIN = {"label": "local attention in the first layers", "colour": COLOURS[1], "hatch": None}


class Bank:
    """The ranked records of the current metric version, by row; those of other images than the others' are left out."""

    def __init__(self, records: Iterable[Record]) -> None:
        usable = [one for one in records if one.ranked and one.metric_version == METRIC_VERSION]
        apart = other_images(usable)
        self.records = [one for one in usable if one.id not in apart]

    def series(self, model: str, layout: str, dataset: str, subset: int, recipe: str) -> Series | None:
        """Return the runs of one configuration, by seed."""
        key = (model, layout, dataset, subset, recipe)
        found = gather(one for one in self.records if (*one.row[:4], one.row.recipe) == key)
        return found[0] if found else None

    def subsets(self, model: str, layout: str, dataset: str, recipe: str) -> list[int]:
        """Return the N of which there are runs."""
        key = (model, layout, dataset, recipe)
        return sorted({one.row.subset for one in self.records if (*one.row[:3], one.row.recipe) == key})


def draw(picture: Picture) -> str:
    """Draw a picture of the report as SVG, the same text for the same numbers."""
    from benchmark.pages.report import drawing

    return drawn(picture, drawing.DRAW[picture.kind])


def figure2(bank: Bank, published: Published) -> list[Picture]:
    """Return PSNR and gap against N, theirs beside ours, and our curves over the diffusion steps."""
    panels = []
    printed = (("DiT", "dit_480", 0), ("UNet", "unet", 1))
    for title, recipe, dataset, networks in (
        ("the paper", None, "celeba", printed),
        ("ours, paper scale", "paper", "celeba", (*printed, ("DiT, patch 2", "dit_480_p2", 2))),
        ("ours, mini track", "mini", "dead_leaves8", (("DiT", "dit_mini", 0), ("UNet", "unet_mini", 1))),
    ):
        kinds = ("psnr_train", "psnr_test"), ("psnr_gap",)
        sides = [
            [_over_subsets(bank, published, recipe, dataset, network, kind) for network in networks for kind in several]
            for several in kinds
        ]
        if recipe == "paper" and not any(line["mean"] for line in sides[0]):
            continue  # the text says "not run"
        subsets = sorted({n for line in sides[0] for n, _ in line["mean"]}) or list(paper().subsets)
        for word, found in zip(("PSNR", "PSNR gap"), sides, strict=True):
            panels.append(
                {
                    "title": f"{title}: {word}",
                    "x": "training images N",
                    "y": f"{word} (dB)",
                    "log": True,
                    "zero": word != "PSNR",
                    "ticks": [[n, f"{n:,}"] for n in subsets],
                    "lines": found,
                }
            )
    means = Picture(
        "lines",
        _path("fig2"),
        "Fig. 2: mean PSNR and PSNR gap of a UNet and a DiT against N, the paper's and ours",
        {"panels": panels, "columns": 2},
    )
    return [means, *_curves(bank, "mini", "dead_leaves8", ("dit_mini", "unet_mini"))]


PLACED = (  # title, model, windows, dataset, N and recipe of our rows that stand beside Fig. 7
    ("ours, small: dead leaves\n8×8, N = 8", "dit_small", "local_3x6", "dead_leaves8", 8, "small"),
    ("ours, mid: photographs\n16×16, N = 16", "dit_mid", "local", "natural16", 16, "mid"),
)


def figure6(bank: Bank, published: Published) -> list[Picture]:
    """Return bars of the gap with and without local attention: two DiTs, six datasets, three N; and our stand-ins."""
    panels: list[dict[str, Any]] = []
    for model in ("dit_xs1", "dit_s1"):
        for subset in paper().subsets:
            groups: list[dict[str, Any]] = [
                {
                    "label": paper().short(dataset),
                    "bars": [
                        _bar(published, bank, look, model, layout, dataset, subset) for look, layout in enumerate(("global", "local_head"))
                    ],
                }
                for dataset in paper().datasets
            ]
            alike = all(len({bar["value"] for bar in group["bars"]}) == 1 for group in groups)
            words = ", doubtful" if alike else ""  # the page says why
            panels.append({"title": f"the paper: {paper().models[model]}\nN = {subset:,}{words}", "y": "PSNR gap (dB)", "groups": groups})
    for own in paper().named("Fig. 6").stand_in:
        groups = [
            {
                "label": f"N = {subset:,}",
                "bars": [
                    _own_bar(bank.series(own.model, one, own.dataset, subset, own.recipe), look)
                    for look, one in enumerate(("global", own.layout))
                ],
            }
            for subset in bank.subsets(own.model, "global", own.dataset, own.recipe)
        ]
        if groups:
            panels.append({"title": own.title, "y": "PSNR gap (dB)", "groups": groups})
    return [
        Picture(
            "bars",
            _path("fig6"),
            "Fig. 6: PSNR gap with and without local attention, the paper's bars and ours",
            {"panels": panels, "columns": 3, "series": [TEXTURED, PLAIN]},
        )
    ]


def figure7(bank: Bank, published: Published) -> list[Picture]:
    """Return lines of the gap by placement: the printed ones that other figures give, and our stand-in, seed by seed."""
    panels: list[dict[str, Any]] = []
    layouts = [line.layout for line in paper().named("Fig. 7").line]
    for dataset in ("celeba", "imagenet"):
        found = []
        for look, layout in enumerate(layouts):
            values = [(n, value_of(published, "default", "psnr_gap", "dit_xs1", layout, dataset, n)) for n in paper().subsets]
            points = [[n, value] for n, value in values if value is not None]
            if points:
                found.append(_line(f"{layout}, the paper (Figs. 6 and 8)", look, points, dashed=True))
            ours = [(n, bank.series("dit_xs1", layout, dataset, n, "paper")) for n in paper().subsets]
            if any(series for _, series in ours):
                found.append(_seeded(f"{layout}, ours", look, ours, "psnr_gap"))
        panels.append(
            {
                "title": f"the paper: {paper().short(dataset)}",
                "x": "training images N",
                "y": "PSNR gap (dB)",
                "log": True,
                "zero": True,
                "ticks": [[n, f"{n:,}"] for n in paper().subsets],
                "lines": found,
            }
        )
    panels += _placements(bank)
    return [Picture("lines", _path("fig7"), "Fig. 7: PSNR gap by the placement of local attention", {"panels": panels, "columns": 3})]


def figure8(bank: Bank, published: Published) -> list[Picture]:
    """Return bars of the gap before and after a change of the windows: same total size, decreased, increased."""
    panels = [
        {
            "title": f"the paper: {paper().short(dataset)}\nN = {subset:,}",
            "y": "PSNR gap (dB)",
            "x": "window size",
            "groups": [
                {
                    "label": change.name,
                    "bars": [
                        _bar(published, bank, look, "dit_xs1", layout, dataset, subset)
                        for look, layout in enumerate((change.after or "global", change.layout))
                    ],
                }
                for change in paper().named("Fig. 8").line
            ],
        }
        for dataset in ("celeba", "imagenet")
        for subset in paper().subsets
    ]
    series = [TEXTURED | {"label": "before: 5×6, Local, Local*"}, PLAIN | {"label": "after: (3,3,5,5,7,7), smaller Local, larger Local*"}]
    return [
        Picture(
            "bars",
            _path("fig8"),
            "Fig. 8: PSNR gap before and after a change of the window sizes",
            {"panels": panels, "columns": 3, "series": series},
        )
    ]


def _placements(bank: Bank) -> list[dict[str, Any]]:
    """Return our stand-ins for Fig. 7: one line per seed over the placements that were run, at one N."""
    panels = []
    for title, model, windows, dataset, subset, recipe in PLACED:
        places = {"none": "global"} | {place: f"{windows}_{place}" for place in ("head", "mix", "tail")}
        found = {word: one for word, layout in places.items() if (one := bank.series(model, layout, dataset, subset, recipe))}
        values = [one.values("psnr_gap") for one in found.values()]
        if len(found) < 3 or not (seeds := sorted(set.intersection(*(set(one) for one in values)))):
            continue
        by_seed = [[[place, short(one[seed])] for place, one in enumerate(values)] for seed in seeds]
        mean = [[place, short(estimate([one[seed] for seed in seeds]).mean)] for place, one in enumerate(values)]
        panels.append(
            {
                "title": title,
                "x": "placement (thin: a seed)",
                "y": "PSNR gap (dB)",
                "ticks": list(enumerate(found)),
                "lines": [_line("", 0, mean) | {"seeds": by_seed}],
            }
        )
    return panels


def _over_subsets(
    bank: Bank, published: Published, recipe: str | None, dataset: str, network: tuple[str, str, int], kind: str
) -> dict[str, Any]:
    """Return the line of one number of a network over N: printed where there is no recipe, else ours."""
    name, model, look = network
    label, dashed = f"{name}, {kind.removeprefix('psnr_')}", kind == "psnr_test"
    if recipe is None:
        values = [(n, value_of(published, "default", kind, model, "global", dataset, n)) for n in paper().subsets]
        return _line(label, look, [[n, value] for n, value in values if value is not None], dashed=dashed)
    subsets = bank.subsets(model, "global", dataset, recipe)
    return _seeded(label, look, [(n, bank.series(model, "global", dataset, n, recipe)) for n in subsets], kind, dashed=dashed)


def _curves(bank: Bank, recipe: str, dataset: str, models: Sequence[str]) -> list[Picture]:
    """Return the curves over the diffusion steps at every N of which several of the models were run."""
    panels = []
    for subset in bank.subsets(models[0], "global", dataset, recipe):
        found = {model: bank.series(model, "global", dataset, subset, recipe) for model in models}
        panels.append({"subset": subset, "series": {model: mean_curves(list(one.runs.values())) for model, one in found.items() if one}})
    if not panels:
        return []
    return [
        Picture(
            "curves",
            _path("fig2-curves"),
            "Fig. 2, ours: PSNR and gap over the diffusion steps, mini track",
            {"panels": panels, "labels": list(models), "references": []},
        )
    ]


def _bar(published: Published, bank: Bank, look: int, model: str, layout: str, dataset: str, subset: int) -> dict[str, Any]:
    """Return a printed bar, and over it the mean and interval of our runs at the paper's scale."""
    ours = bank.series(model, layout, dataset, subset, "paper")
    own = _own_bar(ours, look) if ours else {}
    return own | {"series": look, "value": value_of(published, "default", "psnr_gap", model, layout, dataset, subset)}


def _own_bar(series: Series | None, look: int) -> dict[str, Any]:
    if series is None:
        return {"series": look, "value": None}
    gaps = list(series.values("psnr_gap").values())
    mine = estimate(gaps)
    ends = None if mine.low is None or mine.high is None else [short(mine.low), short(mine.high)]
    return {"series": look, "value": short(mine.mean), "interval": ends, "seeds": [short(gap) for gap in gaps]}


def _seeded(label: str, look: int, series: Sequence[tuple[int, Series | None]], quantity: str, *, dashed: bool = False) -> dict[str, Any]:
    """Return a line through the means over seeds, and a line for each seed."""
    values = {n: one.values(quantity) for n, one in series if one}
    mean = [[n, short(estimate(list(by_seed.values())).mean)] for n, by_seed in values.items()]
    seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
    lines = [[[n, short(by_seed[seed])] for n, by_seed in values.items() if seed in by_seed] for seed in seeds]
    return _line(label, look, mean, dashed=dashed) | {"seeds": lines if len(lines) > 1 else []}


def _line(label: str, look: int, mean: list[list[float]], *, dashed: bool = False) -> dict[str, Any]:
    return {"label": label, "look": look, "dashed": dashed, "mean": mean, "seeds": []}


def _path(name: str) -> PurePosixPath:
    return PurePosixPath("figures", f"{name}.svg")
