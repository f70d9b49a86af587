"""An experiment in words: its table, what was learnt and what not, as the verdicts have it; for the page and the terminal."""

from collections.abc import Sequence

from benchmark.pages.claims import WORTH, Claim
from benchmark.pages.comparisons import Judged
from benchmark.pages.experiments import READINGS, Arm, Factor, Line, Told
from benchmark.pages.quantities import apart_with_interval, factor, named
from benchmark.pages.statistics import Paired
from benchmark.pages.text import NONE, interval, signed
from benchmark.pages.verdicts import side_of, unfinished

MOST_ACROSS = 4  # comparisons side by side
Table = tuple[list[str], list[list[str]]]  # titles, rows


def table(told: Told) -> Table:
    """Return the titles and the rows of an experiment's table, in plain text."""
    return _differences(told) if told.experiment.figure == "differences" else _worths(told)


def missing(told: Told) -> str:
    """Say which rows are not run yet; '' where all are."""
    if not told.missing:
        return ""
    absent = sum(count for _, count, _ in told.missing)
    parts = [f"{name} ({f'all {of}' if count == of else f'{count} of {of}'})" for name, count, of in told.missing]
    ran = len(told.rows) - absent
    whole = " A seed counts where its ladder has every N that another seed's has." if told.experiment.figure == "ladder" else ""
    return f"{ran} of {len(told.rows)} rows are run, and what follows rests on them.{whole} Not yet: {'; '.join(parts)}."


def learnt(told: Told) -> str:
    """Return what the decided claims say, by their verdicts, as one paragraph."""
    return " ".join(learnt_lines(told))


def not_learnt(told: Told) -> str:
    """Return what is left open as one paragraph."""
    return " ".join(not_learnt_lines(told))


def learnt_lines(told: Told) -> list[str]:
    """Return what the decided claims say, by their verdicts, claim by claim."""
    said = []
    for claim in _claims(told):
        for side, word in ((1, ""), (-1, "Contradicted: ")):
            if mine := [one for one in _of(told, claim) if _side(one) == side]:
                meaning = claim.meaning.shown if side == 1 else claim.meaning.contradicted
                said.append(f"{meaning or word + claim.statement} ({'; '.join(map(_numbers, mine))}.)")
    return [*said, *_fitting(told, seen=True)] or ["Nothing yet: no comparison of its claims is decided."]


def not_learnt_lines(told: Told) -> list[str]:
    """Return what the claims that are not decided leave open, and what the experiment cannot decide."""
    said = []
    for claim in _claims(told):
        waiting = [one for one in _of(told, claim) if one.equal_steps is None]
        for word, early in (("Not separated", False), ("Unfinished", True)):
            open_ones = [one for one in _of(told, claim) if _side(one) == 0 and _early(one) == early]
            if open_ones:
                numbers = "; ".join(map(_numbers, open_ones))
                said.append(f"{claim.meaning.open or f'{word}: {claim.statement}'} ({numbers}.)")
        if waiting:
            of = f" ({len(waiting)} of {len(_of(told, claim))} comparisons)" if len(_of(told, claim)) > 1 else ""
            said.append(f"Not run yet{of}: {claim.statement}")
    return [*said, *_fitting(told, seen=False), told.experiment.limits]


def factor_words(found: Factor | None) -> str:
    """Return a factor with its interval; with the sign of a bound, and how many seeds lie beyond the ladder, where some do."""
    if found is None:
        return NONE
    mean = factor(found.log2.mean)
    beyond = found.least + found.most
    if beyond:
        sign = "> " if not found.most else "< " if not found.least else "about "
        return f"{sign}{mean} ({beyond} of {found.log2.n} beyond the ladder)"
    if found.log2.low is None or found.log2.high is None:
        return f"{mean} (one seed)"
    return f"{mean} [{factor(found.log2.low)}, {factor(found.log2.high)}] n={found.log2.n}"


def label(told: Told, arm: Arm) -> str:
    """Return the name of an arm, without the model where all have one."""
    return f"{arm[0]} {arm[1]}" if len({model for model, _ in [*told.arms, told.baseline]}) > 1 else arm[1]


def line_label(told: Told, line: Line) -> str:
    """Return the name of a comparison."""
    where = f"{line.dataset} less {line.than_on}" if line.than_on else line.dataset
    many = f", N = {line.subset:,}" if len(told.subsets) > 1 else ""
    return f"{label(told, line.arm)} on {where}{many}"


def _fitting(told: Told, *, seen: bool) -> list[str]:
    """Say of every two datasets that are compared whether fitting is slowed alike on both, which equal steps take for granted.

    `seen` says those where the difference is seen, else those where it is not: two seeds see little.
    """
    if told.experiment.figure != "differences":
        return []
    trains = [(line, told.difference(line, "psnr_train")) for line in told.lines if line.than_on]
    return [_slowed(told, line, train) for line, train in trains if train and train.estimate.n > 1 and bool(train.side) == seen]


def _slowed(told: Told, line: Line, train: Paired) -> str:
    numbers = f"PSNR train, {line.dataset} less {line.than_on}: {_difference(train)}"
    if train.side == 0:
        return f"Whether {label(told, line.arm)} slows fitting more on one of the two datasets, which equal steps cannot tell ({numbers})."
    slower, faster = (line.dataset, line.than_on) if train.side < 0 else (line.than_on, line.dataset)
    fit = told.difference(line, "psnr_gap", equal_fit=True)
    at_fit = "it has no common level" if fit is None else f"the difference of the gap is then, in dB, {_difference(fit)}"
    return (
        f"But against {told.baseline[1]} {label(told, line.arm)} fits its training images less well on {slower} than on {faster} "
        f"({numbers}), which at equal steps is a part of the difference; "
        f"the reading at equal PSNR train takes it out: {at_fit}."
    )


def _differences(told: Told) -> Table:
    lines = [line for line in told.lines if told.difference(line, "psnr_gap")]
    readings = [(f"{named(name)}, dB", name, False) for name in READINGS]
    readings.append((f"{named('psnr_train')}, dB", "psnr_train", False))
    readings.insert(1, ("gap at equal PSNR train, dB", "psnr_gap", True))
    titles = [f"difference against {told.baseline[1]}", *(line_label(told, line) for line in lines)]
    rows = [[title, *(_difference(told.difference(line, name, equal_fit=fit)) for line in lines)] for title, name, fit in readings]
    rows = [row for row in rows if set(row[1:]) != {NONE}]
    if len(lines) <= MOST_ACROSS:
        return titles, rows
    head, *turned = ([*column] for column in zip(titles, *rows, strict=True))  # many comparisons: one below the other
    return head, turned


def _difference(found: Paired | None) -> str:
    return NONE if found is None else f"{signed(found.estimate.mean)} {interval(found.estimate, sign=True)} n={found.estimate.n}"


def _worths(told: Told) -> Table:
    quantities = {"worth_psnr_test": "PSNR test", "worth_psnr_gap": "gap", "worth_membership_gap": "membership gap"}
    rows = [
        [f"{label(told, arm)} on {dataset}", by, *(factor_words(told.worth(arm, dataset, subset, name)) for subset in told.subsets)]
        for arm in told.arms
        for dataset in told.datasets
        for name, by in quantities.items()
    ]
    titles = [f"worth, against {label(told, told.baseline)}", "by", *(f"N = {subset:,}" for subset in told.subsets)]
    return titles, [row for row in rows if set(row[2:]) != {NONE}]


def _claims(told: Told) -> list[Claim]:
    return list(dict.fromkeys(one.claim for one in told.judged))


def _of(told: Told, claim: Claim) -> Sequence[Judged]:
    return [one for one in told.judged if one.claim == claim]


def _side(one: Judged) -> int | None:
    return None if one.equal_steps is None else side_of(one.contrast, one.equal_steps)


def _early(one: Judged) -> bool:
    return one.equal_steps is not None and unfinished(one.contrast, one.equal_steps)


def _numbers(one: Judged) -> str:
    """Return where a comparison was made and what came out."""
    where = f"N = {one.contrast.variant.subset:,}, {one.contrast.dataset}" + (
        f" less {one.contrast.than_on}" if one.contrast.than_on else ""
    )
    found = apart_with_interval(one.contrast, one.equal_steps.estimate) if one.equal_steps else "not run"
    name = f"{named(one.contrast.quantity)} " if one.contrast.quantity not in WORTH else ""
    found += f", at equal PSNR train {apart_with_interval(one.contrast, one.equal_fit.estimate)}" if one.equal_fit else ""
    seeds = f", {one.equal_steps.estimate.n} seeds" if one.equal_steps and one.equal_steps.estimate.n > 1 else ""
    return f"{where}: {name}{found}{seeds}"
