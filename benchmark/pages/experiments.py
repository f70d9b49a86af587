"""Experiments to numbers: which rows a suite told as one experiment has, and what they say in every reading."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from benchmark.declaring import registry
from benchmark.declaring.entries import load_suite
from benchmark.declaring.row import Row
from benchmark.pages.claims import WORTH, Claim, Contrast, Experiment, Over, Part, Side, declared
from benchmark.pages.comparisons import Judged, Numbers, Rows, judge, judge_rows, ladder, usable, worths
from benchmark.pages.statistics import Estimate, Paired, estimate
from benchmark.pages.tables import BASELINE
from benchmark.recording.record import Record

READINGS = ("psnr_gap", "membership_gap", "psnr_test", "psnr_best_stop")
Arm = tuple[str, str]  # a model under a layout


@dataclass(frozen=True)
class Line:
    """One comparison with the baseline: of an arm, on a dataset or on one less on another, at one N."""

    arm: Arm
    dataset: str
    subset: int
    than_on: str | None = None


@dataclass(frozen=True)
class Factor:
    """What an arm is worth in training images at one N, over seeds: the mean of log2 N*/N, and how many seeds are only bounds."""

    log2: Estimate
    least: int  # seeds that are worth at least their number
    most: int  # seeds that are worth at most their number


class Told:
    """One experiment with the records that there are."""

    def __init__(self, experiment: Experiment, records: Sequence[Record], judged: Sequence[Judged]) -> None:
        self.experiment = experiment
        self.rows = tuple(load_suite(experiment.suite).rows())
        every = set(self.rows)
        self.records = [record for record in records if record.row in every]
        self.judged = [one for one in judged if one.claim.suite == experiment.suite]
        self.baseline: Arm = (self.rows[0].model, BASELINE)
        self.arms = [arm for arm in dict.fromkeys((row.model, row.layout) for row in self.rows) if arm != self.baseline]
        self.datasets, self.subsets, self.seeds = (
            tuple(dict.fromkeys(getattr(row, part) for row in self.rows)) for part in ("dataset", "subset", "seed")
        )
        self._differences: dict[tuple[Line, str], Judged] = {}  # tables, words and pictures ask for the same ones
        self._worths: dict[tuple[Arm, str, int, str], Factor | None] = {}

    @property
    def begun(self) -> bool:
        """Whether there is anything to show: a difference, or for a ladder what an arm is worth at two N or more."""
        if self.experiment.figure == "differences":
            return any(self.difference(line, "psnr_gap") for line in self.lines)
        rungs = (
            sum(self.worth(arm, dataset, subset, "worth_psnr_test") is not None for subset in self.subsets)
            for arm, dataset in product(self.arms, self.datasets)
        )
        return any(count > 1 for count in rungs)

    @property
    def missing(self) -> list[tuple[str, int, int]]:
        """Return, of each arm on each dataset that lacks rows: its name, how many are missing, and of how many."""
        there = {record.row for record in self.records}
        every, absent = Counter(map(_named, self.rows)), Counter(_named(row) for row in self.rows if row not in there)
        return [(name, count, every[name]) for name, count in absent.items()]

    @property
    def lines(self) -> list[Line]:
        """Every comparison with the baseline, dataset by dataset; where claims compare two datasets, the difference of the two last."""
        found = [Line(arm, dataset, subset) for subset in self.subsets for arm in self.arms for dataset in self._datasets_of(arm)]
        twice = dict.fromkeys(
            Line((one.contrast.model, one.contrast.variant.layout), one.contrast.dataset, one.contrast.variant.subset, one.contrast.than_on)
            for one in self.judged
            if one.contrast.than_on and one.contrast.quantity not in WORTH
        )
        return [*found, *twice]

    def difference(self, line: Line, quantity: str, *, equal_fit: bool = False) -> Paired | None:
        """Return the paired differences of a line in one reading; None where there are none."""
        if (line, quantity) not in self._differences:
            self._differences[line, quantity] = self._compared(line, quantity)
        one = self._differences[line, quantity]
        return one.equal_fit if equal_fit else one.equal_steps

    def _compared(self, line: Line, quantity: str) -> Judged:
        (model, layout), (base, _) = line.arm, self.baseline
        over = Over(
            recipe=self.rows[0].recipe,
            models=(base,),
            datasets=(line.dataset,),
            subsets=(line.subset,),
            variant=Part(model=None if model == base else model, layout=layout),
            baseline=Part(layout=BASELINE),
        )
        asked = Claim(
            name="line", suite=self.experiment.suite, statement="", statistic=quantity, than_on=line.than_on, seeds=self.seeds, over=(over,)
        )
        (one,) = judge_rows(self._usable, [asked])
        return one

    def psnr_test(self, arm: Arm, dataset: str) -> dict[int, dict[int, float]]:
        """Return the test PSNR of an arm by seed and N."""
        return ladder(self._usable, self._contrast(arm, dataset, self.subsets[0]), Side(arm[1], self.subsets[0], arm[0]), "psnr_test")

    def worth(self, arm: Arm, dataset: str, subset: int, quantity: str) -> Factor | None:
        """Return what an arm is worth in training images of the baseline; None where it cannot be read off."""
        key = (arm, dataset, subset, quantity)
        if key not in self._worths:
            self._worths[key] = self._worth(*key)
        return self._worths[key]

    def _worth(self, arm: Arm, dataset: str, subset: int, quantity: str) -> Factor | None:
        found = worths(self._usable, self._contrast(arm, dataset, subset, quantity), self.seeds)
        if not found:
            return None
        bounds = Counter(one.bound for one in found.values())
        return Factor(estimate([math.log2(one.factor) for one in found.values()]), bounds[1], bounds[-1])

    def _datasets_of(self, arm: Arm) -> list[str]:
        mine = {row.dataset for row in self.rows if (row.model, row.layout) == arm}
        return [dataset for dataset in self.datasets if dataset in mine]

    def _contrast(self, arm: Arm, dataset: str, subset: int, quantity: str = "worth_psnr_test") -> Contrast:
        variant, baseline = (Side(layout, subset, model) for model, layout in (arm, self.baseline))
        return Contrast(self.rows[0].recipe, dataset, arm[0], variant, baseline, quantity=quantity, seeds=self.seeds)

    @cached_property
    def _usable(self) -> Rows:
        return usable(self.records)


def told(records: Sequence[Record], numbers: Numbers | None = None) -> list[Told]:
    """Return the declared experiments that have begun."""
    judged = judge(records, numbers=numbers)
    suites = registry.entries("suite")  # a copy of the registry may declare fewer
    experiments = [experiment for experiment in declared().experiment if experiment.suite in suites]
    return [one for one in (Told(experiment, records, judged) for experiment in experiments) if one.begun]


def _named(row: Row) -> str:
    return f"{row.model} {row.layout} on {row.dataset}"
