"""Records to tables: one per metric version, recipe, dataset and N; a row is a model under a layout, over seeds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.declaring import kinds
from benchmark.declaring.spec import AXES
from benchmark.errors import BenchError
from benchmark.pages.statistics import (
    EqualFit,
    Estimate,
    Paired,
    equal_fit,
    estimate,
    paired,
)
from benchmark.recording.record import Record

BASELINE = "global"  # the layout that every other layout of the same model is compared with


@dataclass(frozen=True)
class Series:
    """The runs of one model under one layout, by seed."""

    model: str
    layout: str
    runs: Mapping[int, Record]

    def values(self, quantity: str) -> dict[int, float]:
        """Return psnr_train, psnr_test or psnr_gap by seed."""
        return {seed: getattr(record, quantity) for seed, record in self.runs.items()}

    def restricted(self, seeds: Iterable[int]) -> "Series":
        """Return the runs of these seeds only."""
        return Series(self.model, self.layout, {seed: self.runs[seed] for seed in seeds})


@dataclass(frozen=True)
class Row:
    """A series with its estimates, its differences against the baseline layout, and its rank in the table."""

    series: Series
    psnr_train: Estimate
    psnr_test: Estimate
    psnr_gap: Estimate
    equal_steps: Paired | None
    equal_fit: Paired | None
    other_images: tuple[int, ...]  # seeds left out of the differences: the baseline saw other images
    rank: tuple[int, int] | None  # best and worst rank that the differences allow


@dataclass(frozen=True)
class Table:
    """What may be compared: same metric version, recipe, dataset and N."""

    metric_version: str
    recipe: str
    dataset: str
    subset: int
    rows: tuple[Row, ...]


def tabulate(records: Sequence[Record]) -> list[Table]:
    """Build the tables of all ranked records, in order of metric version, recipe, dataset and N."""
    ranked = [record for record in records if record.ranked]
    check_names(ranked)
    groups: dict[tuple[str, str, str, int], list[Record]] = defaultdict(list)
    for record in ranked:
        _, _, dataset, subset, _, recipe = record.row
        groups[record.metric_version, recipe, dataset, subset].append(record)
    for group in groups.values():
        _check_steps(group)
    return [Table(*key, rows=_rows(gather(groups[key]))) for key in sorted(groups)]


def gather(records: Iterable[Record]) -> list[Series]:
    """Group the records of one table by model and layout, the baseline layout of every model first."""
    runs: dict[tuple[str, bool, str], dict[int, Record]] = defaultdict(dict)
    for record in records:
        model, layout, _, _, seed, _ = record.row
        runs[model, layout != BASELINE, layout][seed] = record
    return [Series(model, layout, dict(sorted(runs[model, other, layout].items()))) for model, other, layout in sorted(runs)]


def check_names(records: Sequence[Record]) -> None:
    """Refuse records in which one name stands for two configurations: they would be averaged or compared in silence.

    A field that only some of the records have is no conflict: an entry may gain a field whose default means what was
    before.
    """
    known: dict[tuple[str, str, str, str], tuple[Any, Record]] = {}
    for record in records:
        for axis in AXES:
            name, kind, config = (record.spec[axis][key] for key in ("name", "kind", "config"))
            for field, mine in {"kind": kinds.named(kind), **config}.items():
                theirs, other = known.setdefault((record.metric_version, axis, name, field), (mine, record))
                if mine != theirs:
                    raise BenchError(
                        f"The {axis} '{name}' means two things: {field} = {theirs!r} in {_place(other)}, {mine!r} in "
                        f"{_place(record)}. Give the changed entry a name of its own, or run the older record again."
                    )


def common_seeds(variant: Series, baseline: Series) -> tuple[list[int], list[int]]:
    """Return the seeds that may be paired, and those that both have but on other images."""
    seeds = sorted(variant.runs.keys() & baseline.runs.keys())
    same = [seed for seed in seeds if _same_images(variant.runs[seed], baseline.runs[seed])]
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


def ranks(series: Sequence[Series]) -> list[tuple[int, int] | None]:
    """Rank by the gap, as the range that the paired differences allow; what nothing separates shares ranks.

    The best rank is 1 + the number of series whose gap is lower by a paired difference that excludes 0, the worst is
    the number of ranked series less those whose gap is higher by such a difference. (Not being separated is not
    transitive: single ranks would have to hide that.) A series that shares two seeds with no other has no rank.
    """
    sides = [
        [
            difference.side
            for other in series
            if other is not mine and (difference := at_equal_steps(mine, other)) and difference.estimate.n > 1
        ]
        for mine in series
    ]
    ranked = sum(bool(against) for against in sides)
    return [(1 + against.count(1), ranked - against.count(-1)) if against else None for against in sides]


def _rows(series: Sequence[Series]) -> tuple[Row, ...]:
    baselines = {mine.model: mine for mine in series if mine.layout == BASELINE}
    rows = [_row(mine, baselines.get(mine.model), rank) for mine, rank in zip(series, ranks(series), strict=True)]
    return tuple(sorted(rows, key=lambda row: (row.rank is None, row.psnr_gap.mean, row.series.model, row.series.layout)))


def _row(mine: Series, baseline: Series | None, rank: tuple[int, int] | None) -> Row:
    means = {name: estimate(list(mine.values(name).values())) for name in ("psnr_train", "psnr_test", "psnr_gap")}
    if baseline is None or baseline is mine:
        return Row(mine, **means, equal_steps=None, equal_fit=None, other_images=(), rank=rank)
    return Row(
        mine,
        **means,
        equal_steps=at_equal_steps(mine, baseline),
        equal_fit=at_equal_fit(mine, baseline),
        other_images=tuple(common_seeds(mine, baseline)[1]),
        rank=rank,
    )


def _same_images(one: Record, other: Record) -> bool:
    """Whether two runs were tested on the same images and, where N is the same, trained on the same ones."""
    same_subset = one.spec["subset"] == other.spec["subset"]
    return one.data.test_sha256 == other.data.test_sha256 and (not same_subset or one.data.train_sha256 == other.data.train_sha256)


def _check_steps(group: Sequence[Record]) -> None:
    for record in group:
        if record.psnr.diffusion_steps != group[0].psnr.diffusion_steps:
            raise BenchError(
                f"{_place(record)} was scored at other diffusion steps than {_place(group[0])}, under the same recipe "
                "and metric version: they cannot share a table. Run the older one again."
            )


def _place(record: Record) -> str:
    model, layout, dataset, subset, seed, recipe = record.row
    return f"{recipe}/{dataset}/{model}-{layout}-n{subset}-s{seed}.json"
