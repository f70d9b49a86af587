"""What is estimated, side by side: rows of one budget whose recipes differ in their objective alone, in one table.

Every other table is of one recipe. Here a row is a recipe: one model under one layout on the same images, trained as long in
the same way and scored at the same noise levels on the same noise, so that the rows may be compared whatever was predicted.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmark.declaring.recipe import Recipe
from benchmark.pages.alike import other_images
from benchmark.pages.comparisons import Judged
from benchmark.pages.quantities import named
from benchmark.pages.statistics import Estimate, Paired, estimate, paired
from benchmark.pages.tables import Series, at_equal_fit, at_equal_steps, common_seeds, gather
from benchmark.pages.text import NONE, estimate_lines, paired_lines
from benchmark.pages.verdicts import verdict_word
from benchmark.recording.record import METRIC_VERSION, Record, mean

FIELDS = ("prediction", "weighting", "noise_schedule", "min_snr_gamma")
PLAIN = Recipe()  # what a field that a record lacks was
TITLES = (
    "recipe",
    "PSNR train, dB",
    "PSNR test, dB",
    "gap, dB",
    "gap not clipped, dB",
    "gap − first row, equal steps",
    "not clipped, equal steps",
    "PSNR test − first row, equal steps",
    "gap − first row, equal PSNR train",
    "claimed, and the verdict",
)
WORDS = (0, len(TITLES) - 1)  # columns of words
THAN = {"lower": "lower than", "higher": "higher than", "equal": "as of", "not lower": "not lower than"}


class Objective(NamedTuple):
    """The fields of a recipe that say what is estimated; the defaults where a record has none."""

    prediction: str
    weighting: str
    noise_schedule: str
    min_snr_gamma: float

    @property
    def weighed_by(self) -> str:
        """The weighting in words."""
        return f"min-SNR, gamma {self.min_snr_gamma:g}" if self.weighting == "min_snr" else self.weighting

    @property
    def lines(self) -> tuple[str, str]:
        """What is estimated, along which schedule, and weighed by what, in two short lines."""
        return f"{self.prediction}, {self.noise_schedule},", f"by {self.weighed_by}"


@dataclass(frozen=True)
class Line:
    """One recipe of a table, and its differences against the first."""

    recipe: str
    objective: Objective
    series: Series
    psnr_train: Estimate
    psnr_test: Estimate
    psnr_gap: Estimate
    unclipped: Estimate
    equal_steps: Paired | None
    unclipped_steps: Paired | None
    equal_fit: Paired | None
    test_steps: Paired | None


@dataclass(frozen=True)
class Siblings:
    """Recipes that differ in their objective alone, of one model under one layout at one N; the plain one first."""

    dataset: str
    subset: int
    model: str
    layout: str
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """What the rows share."""
        return f"What is estimated: {self.model} {self.layout} on {self.dataset}, N = {self.subset:,}"


def siblings(records: Sequence[Record]) -> list[Siblings]:
    """Return the tables of two and more such recipes, from the ranked records of the current metric version."""
    ranked = [one for one in records if one.ranked and one.metric_version == METRIC_VERSION and not one.half]
    apart = other_images(ranked)
    groups: dict[tuple[Any, ...], dict[tuple[Objective, str], list[Record]]] = defaultdict(lambda: defaultdict(list))
    for one in ranked:
        config = one.spec["recipe"]["config"]
        if one.id not in apart and "steps" in config:
            row = one.row
            key = (row.dataset, row.subset, row.model, row.layout, _budget(config), one.psnr.diffusion_steps)
            groups[key][_objective(config), row.recipe].append(one)
    found = (
        Siblings(key[0], key[1], key[2], key[3], lines=_lines(by_recipe))
        for key, by_recipe in sorted(groups.items(), key=lambda item: item[0][:4])
        if len({objective for objective, _ in by_recipe}) > 1
    )
    return list(found)


def verdicts(line: Line, judged: Sequence[Judged]) -> list[str]:
    """Return the verdicts at equal steps on a recipe against others: of each claim that compares the two of this row's kind, a line."""
    mine = next(iter(line.series.runs.values())).row
    found = []
    for one in judged:
        contrast = one.contrast
        variant, baseline = (side.recipe or contrast.recipe for side in (contrast.variant, contrast.baseline))
        where = (contrast.dataset, contrast.model, contrast.variant.layout, contrast.variant.subset)
        if variant == line.recipe != baseline and where == (mine.dataset, mine.model, mine.layout, mine.subset):
            found.append(f"{named(contrast.quantity)}: {THAN[contrast.expected]} {baseline}, {verdict_word(one)}")
    return found


def cells(line: Line, judged: Sequence[Judged]) -> list[list[str]]:
    """Return the cells of a row, each a list of lines, in plain text; `judged` are the comparisons of the claims."""
    return [
        [line.recipe, *line.objective.lines],
        estimate_lines(line.psnr_train),
        estimate_lines(line.psnr_test),
        estimate_lines(line.psnr_gap),
        estimate_lines(line.unclipped),
        *(paired_lines(one) if one else [NONE] for one in (line.equal_steps, line.unclipped_steps, line.test_steps, line.equal_fit)),
        verdicts(line, judged) or [NONE],
    ]


def _lines(by_recipe: Mapping[tuple[Objective, str], Sequence[Record]]) -> tuple[Line, ...]:
    """Return a line a recipe; the first is the plain loss of the noise, or what is nearest to it."""
    plain = _objective({})
    ordered = sorted(by_recipe, key=lambda key: ([mine != theirs for mine, theirs in zip(key[0], plain, strict=True)], key))
    series = {key: gather(by_recipe[key])[0] for key in ordered}
    return tuple(_line(*key, series[key], series[ordered[0]]) for key in ordered)


def _line(objective: Objective, recipe: str, mine: Series, first: Series) -> Line:
    values = {name: estimate(list(mine.values(name).values())) for name in ("psnr_train", "psnr_test", "psnr_gap")}
    compared = mine is not first
    same, _ = common_seeds(mine, first)
    open_gaps = [{seed: _unclipped(one.runs[seed]) for seed in same} for one in (mine, first)]
    return Line(
        recipe=recipe,
        objective=objective,
        series=mine,
        **values,
        unclipped=estimate([_unclipped(run) for run in mine.runs.values()]),
        equal_steps=at_equal_steps(mine, first) if compared else None,
        unclipped_steps=paired(*open_gaps) if compared else None,
        equal_fit=at_equal_fit(mine, first) if compared else None,
        test_steps=paired(*({seed: one.runs[seed].psnr_test for seed in same} for one in (mine, first))) if compared else None,
    )


def _unclipped(record: Record) -> float:
    return mean(record.psnr.unclipped.gap)


def _objective(config: Mapping[str, Any]) -> Objective:
    return Objective(*(config.get(field, getattr(PLAIN, field)) for field in FIELDS))


def _budget(config: Mapping[str, Any]) -> str:
    """Return all that a recipe says but its objective, as one line."""
    return json.dumps({field: value for field, value in config.items() if field not in FIELDS}, sort_keys=True)
