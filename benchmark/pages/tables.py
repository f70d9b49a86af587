"""Records to tables: one per metric version, recipe, dataset and N; a row is a model under a layout, over seeds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmark.pages.alike import check_names, check_steps, one_draw, other_images
from benchmark.pages.ranking import NOT_RUN, ranges
from benchmark.pages.statistics import (
    EqualFit,
    Estimate,
    Paired,
    equal_fit,
    estimate,
    paired,
)
from benchmark.recording.marks import NONE as UNMARKED
from benchmark.recording.marks import Mark, Marks
from benchmark.recording.record import Record

BASELINE = "global"  # the layout that every other layout of the same model is compared with


@dataclass(frozen=True)
class Series:
    """The runs of one model under one layout, by seed."""

    model: str
    layout: str
    runs: Mapping[int, Record]
    images: str = ""  # what tells them from the images of the other rows; '' where they are the same

    def values(self, quantity: str) -> dict[int, float]:
        """Return psnr_train, psnr_test or psnr_gap by seed."""
        return {seed: getattr(record, quantity) for seed, record in self.runs.items()}

    def restricted(self, seeds: Iterable[int]) -> "Series":
        """Return the runs of these seeds only."""
        return replace(self, runs={seed: self.runs[seed] for seed in seeds})


@dataclass(frozen=True)
class Row:
    """A series with its estimates, its differences against the baseline layout, and its rank in the table."""

    series: Series
    psnr_train: Estimate
    psnr_test: Estimate
    psnr_gap: Estimate
    equal_steps: Paired | None
    equal_fit: Paired | None
    unpaired: tuple[int, ...]  # seeds left out of the differences: the baseline saw other images, or ran on another kind of device
    rank: tuple[int, int] | None  # best and worst rank that the differences allow
    mark: Mark | None = None  # contested or withdrawn


@dataclass(frozen=True)
class Table:
    """What may be compared: same metric version, recipe, dataset and N."""

    metric_version: str
    recipe: str
    dataset: str
    subset: int
    rows: tuple[Row, ...]
    pairs: int  # of rows that were tested for the ranks


def tabulate(records: Sequence[Record], marks: Marks = UNMARKED) -> list[Table]:
    """Build the tables of all ranked records, in order of metric version, recipe, dataset and N.

    A row that is withdrawn stands in its table, last, with its own numbers: it has no rank, and nothing is compared with it.
    """
    ranked = [record for record in records if record.ranked]
    check_names(ranked)
    groups: dict[tuple[str, str, str, int], list[Record]] = defaultdict(list)
    for record in ranked:
        _, _, dataset, subset, _, recipe = record.row
        groups[record.metric_version, recipe, dataset, subset].append(record)
    for group in groups.values():
        check_steps(group)
    apart = other_images(ranked)
    return [_tabulated(key, gather(groups[key], apart), marks) for key in sorted(groups)]


def withdrawn(row: Row) -> bool:
    """Whether a row is marked as withdrawn."""
    return row.mark is not None and row.mark.state == "withdrawn"


def gather(records: Iterable[Record], apart: Mapping[str, str] | None = None) -> list[Series]:
    """Group the records of one table by model and layout, the baseline layout of every model first.

    `apart` tells by a record's id what its images are, where they are others than those of the other rows: such records
    are series of their own, since a mean over different images is a mean of nothing.
    """
    runs: dict[tuple[str, bool, str, str], dict[int, Record]] = defaultdict(dict)
    for record in records:
        model, layout, _, _, seed, _ = record.row
        runs[model, layout != BASELINE, layout, (apart or {}).get(record.id, "")][seed] = record
    found = sorted(runs.items(), key=lambda item: item[0])
    return [Series(model, layout, dict(sorted(by_seed.items())), images) for (model, _, layout, images), by_seed in found]


def common_seeds(variant: Series, baseline: Series) -> tuple[list[int], list[int]]:
    """Return the seeds that may be paired, and those that both have but on other images or another kind of device."""
    seeds = sorted(variant.runs.keys() & baseline.runs.keys())
    same = [seed for seed in seeds if one_draw(variant.runs[seed], baseline.runs[seed])]
    return same, [seed for seed in seeds if seed not in same]


def at_equal_steps(variant: Series, baseline: Series, quantity: str = "psnr_gap") -> Paired | None:
    """Compare the final values by seed."""
    seeds, _ = common_seeds(variant, baseline)
    return paired(variant.restricted(seeds).values(quantity), baseline.restricted(seeds).values(quantity))


def fits(variant: Series, baseline: Series) -> dict[int, EqualFit]:
    """Return the gaps at the highest common PSNR_train by seed, where there is one; both sides from trajectories."""
    seeds, _ = common_seeds(variant, baseline)
    met = {seed: equal_fit(variant.runs[seed].trajectory, baseline.runs[seed].trajectory) for seed in seeds}
    return {seed: fit for seed, fit in met.items() if fit is not None}


def at_equal_fit(variant: Series, baseline: Series) -> Paired | None:
    """Compare the gaps by seed where both runs have the same PSNR_train."""
    met = fits(variant, baseline)
    return paired({seed: fit.variant for seed, fit in met.items()}, {seed: fit.baseline for seed, fit in met.items()})


def ranks(series: Sequence[Series]) -> tuple[list[tuple[int, int] | None], int]:
    """Rank by the gap, as the range that the paired differences allow, and say on how many pairs of series that rests.

    The best rank is 1 + the number of series whose gap is lower by a paired difference that Holm's correction over all pairs leaves
    separated from 0, the worst is the number of ranked series less those whose gap is higher by such a difference. (Not being
    separated is not transitive: single ranks would have to hide that.) A series that shares two seeds with no other has no rank.
    """
    seeds = sorted({seed for one in series for seed in one.runs})
    gaps = np.full((len(series), len(seeds)), np.nan)
    images = np.full((len(series), len(seeds)), NOT_RUN)
    known: dict[tuple[str, str], int] = {}
    for place, one in enumerate(series):
        for seed, run in one.runs.items():
            gaps[place, seeds.index(seed)] = run.psnr_gap
            images[place, seeds.index(seed)] = known.setdefault((run.data.test_sha256, run.data.train_sha256), len(known))
    return ranges(gaps, images)


def _tabulated(key: tuple[str, str, str, int], every: Sequence[Series], marks: Marks) -> Table:
    series = [mine for mine in every if not any(map(marks.withdrawn, mine.runs.values()))]
    baselines = {(mine.model, mine.images): mine for mine in series if mine.layout == BASELINE}
    found, pairs = ranks(series)
    rows = [
        _row(mine, baselines.get((mine.model, mine.images), baselines.get((mine.model, ""))), rank)
        for mine, rank in zip(series, found, strict=True)
    ]
    rows += [_row(mine, None, None) for mine in every if mine not in series]
    rows = [replace(row, mark=marks.of(next(iter(row.series.runs.values())))) for row in rows]
    rows.sort(key=lambda row: (row.rank is None, row.psnr_gap.mean, row.series.model, row.series.layout, row.series.images))
    return Table(*key, rows=tuple(rows), pairs=pairs)


def _row(mine: Series, baseline: Series | None, rank: tuple[int, int] | None) -> Row:
    train, test, gap = (estimate(list(mine.values(name).values())) for name in ("psnr_train", "psnr_test", "psnr_gap"))
    if baseline is None or baseline is mine:
        return Row(mine, train, test, gap, equal_steps=None, equal_fit=None, unpaired=(), rank=rank)
    return Row(
        mine,
        train,
        test,
        gap,
        equal_steps=at_equal_steps(mine, baseline),
        equal_fit=at_equal_fit(mine, baseline),
        unpaired=tuple(common_seeds(mine, baseline)[1]),
        rank=rank,
    )
