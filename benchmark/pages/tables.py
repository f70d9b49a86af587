"""Records to tables: one per metric version, recipe, dataset and N; a row is a model under a layout, over seeds."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmark.declaring import kinds
from benchmark.declaring.spec import AXES
from benchmark.errors import BenchError
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

# Fields of `External` that are no part of how PSNR is taken: what a network estimates, and for whom the membership gap is measured.
OF_A_NETWORK = ("prediction", "noise_schedule", "convention", "cosine_steps", "sigma_data", "peers", "peer_images")
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
        _check_steps(group)
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


def other_images(records: Sequence[Record]) -> dict[str, str]:
    """Return, by id, the records whose images are not those of the others, and what they are.

    Of one dataset all records rest on one manifest: that of the most records. Under it a seed has one set of test images, and with N
    one training subset: what more than half of the records of that seed have; where no half agrees, nobody can tell.
    """
    apart: dict[str, str] = {}
    of_dataset = _grouped(records, lambda record: record.row.dataset)
    for group in of_dataset.values():
        counts = Counter(record.data.manifest_sha256 for record in group)
        usual = min(counts, key=lambda digest: (-counts[digest], digest))
        apart |= {one.id: f"manifest {one.data.manifest_sha256[:8]}" for one in group if one.data.manifest_sha256 != usual}
    rest = [record for record in records if record.id not in apart]
    for what, key in (
        ("test", lambda record: (record.row.dataset, record.row.seed, record.half)),
        ("train", lambda record: (record.row.dataset, record.row.seed, record.row.subset, record.half)),
    ):
        for group in _grouped(rest, key).values():
            digests = [getattr(record.data, f"{what}_sha256") for record in group]
            digest, count = Counter(digests).most_common(1)[0]
            if 2 * count > len(group):
                apart |= {one.id: f"{what} images {mine[:8]}" for one, mine in zip(group, digests, strict=True) if mine != digest}
    return apart


def _grouped(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return groups


def check_names(records: Sequence[Record]) -> None:
    """Refuse records in which one name stands for two configurations: they would be averaged or compared in silence.

    A field that only some of the records have is no conflict: an entry may gain a field whose default means what was
    before. What a network trained elsewhere estimates is told by its recipe and is its own: it may differ from one model to another.
    """
    known: dict[tuple[str, str, str, str, str], tuple[Any, Record]] = {}
    for record in records:
        for axis in AXES:
            name, kind, config = (record.spec[axis][key] for key in ("name", "kind", "config"))
            own = {field: config.get(field) for field in OF_A_NETWORK} if kinds.named(kind) == "external" else {}
            for field, mine in {"kind": kinds.named(kind), **config, **own}.items():
                whose = record.row.model if field in own else ""
                theirs, other = known.setdefault((record.metric_version, axis, name, whose, field), (mine, record))
                if mine != theirs:
                    raise BenchError(
                        f"The {axis} '{name}' means two things: {field} = {theirs!r} in {_place(other)}, {mine!r} in "
                        f"{_place(record)}. Give the changed entry a name of its own, or run the older record again."
                    )


def common_seeds(variant: Series, baseline: Series) -> tuple[list[int], list[int]]:
    """Return the seeds that may be paired, and those that both have but on other images or another kind of device."""
    seeds = sorted(variant.runs.keys() & baseline.runs.keys())
    same = [seed for seed in seeds if _one_draw(variant.runs[seed], baseline.runs[seed])]
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


def _one_draw(one: Record, other: Record) -> bool:
    """Whether a seed drew the same images, batches and noise for two runs: each kind of GPU has numbers of its own for it."""
    return _same_images(one, other) and _generator(one) == _generator(other)


def _generator(record: Record) -> str:
    device = record.training.device
    return "cpu" if device.startswith("cpu") else device


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
