"""benchmark/pages/experiments.py and told.py: the control and the ladder from made-up records, against numbers worked out by hand."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.declaring.entries import load_suite
from benchmark.pages import leaderboard, told
from benchmark.pages.claims import declared
from benchmark.pages.experiment_pictures import picture
from benchmark.pages.experiments import Factor, Told
from benchmark.pages.experiments import told as all_told
from benchmark.pages.plots import draw
from benchmark.pages.statistics import estimate
from benchmark.recording.record import Record
from tests.record_factory import made, save

PUBLISHED = Path(__file__).parents[2] / "leaderboard" / "published"
WOBBLE = (0.0, 0.02, -0.02, 0.01, -0.01, 0.03)


def control_records(natural: float, permuted: float, scattered: float, seeds: Sequence[int] = range(6, 12)) -> list[Record]:
    """Return the control with these differences of the gap against global attention, the seeds a little apart."""
    gaps = {
        ("global", "dead_leaves8"): 0.0,
        ("local_3x3_head", "dead_leaves8"): natural,
        ("scattered_3x3_head", "dead_leaves8"): scattered,
        ("global", "dead_leaves8_permuted"): 0.0,
        ("local_3x3_head", "dead_leaves8_permuted"): permuted,
    }
    return [
        made(1.0 + apart + (WOBBLE[seed - 6] if apart else 0.0), layout=layout, dataset=dataset, seed=seed, recipe="mini_control")
        for (layout, dataset), apart in gaps.items()
        for seed in seeds
    ]


def ladder_records(factor: float = 2.0) -> list[Record]:
    """Return ladders whose test PSNR is 2 log2 N for global attention, and for windows as if there were `factor` times the images."""
    found = []
    for row in load_suite("mini_ladder").rows():
        better = 2 * math.log2(factor) if row.layout != "global" and row.dataset == "dead_leaves8" else 0.0
        rise = 2 * math.log2(row.subset) + better
        gap = 20 - rise  # the records' PSNR train is the same everywhere
        one = made(gap, model=row.model, layout=row.layout, dataset=row.dataset, subset=row.subset, seed=row.seed, recipe="mini_control")
        found.append(one)
    return found


def experiment(name: str, records: Sequence[Record]) -> Told:
    (found,) = [one for one in all_told(records) if one.experiment.suite == name]
    return found


def test_the_control_is_told_by_its_verdicts_whatever_they_are() -> None:
    meanings = {one.name: one.meaning for one in declared().claim}
    near, match, few = meanings["near-keys"], meanings["control-match"], meanings["few-keys"]
    as_hoped = experiment("mini_control", control_records(-0.4, 0.05, 0.03))
    assert all(part in told.learnt(as_hoped) for part in (near.shown, match.shown, few.shown))
    other_way = experiment("mini_control", control_records(-0.4, -0.9, -0.8))
    said = told.learnt(other_way)
    assert all(part in said for part in (near.contradicted, match.contradicted, few.contradicted))
    assert not any(part in said for part in (near.shown, match.shown, few.shown))
    level = experiment("mini_control", control_records(-0.4, -0.4, -0.4))  # the wobble is the same: nothing between the three
    assert match.open in told.not_learnt(level) and match.shown not in told.learnt(level)
    assert as_hoped.experiment.limits in told.not_learnt(as_hoped) and told.missing(as_hoped) == ""


def test_the_table_of_the_control_has_the_differences_and_their_difference() -> None:
    one = experiment("mini_control", control_records(-0.4, 0.05, 0.03))
    titles, rows = told.table(one)
    assert titles[1:] == [
        "local_3x3_head on dead_leaves8",
        "local_3x3_head on dead_leaves8_permuted",
        "scattered_3x3_head on dead_leaves8",
        "local_3x3_head on dead_leaves8 less dead_leaves8_permuted",
    ]
    gap = rows[0]
    mean = sum(WOBBLE) / 6
    assert gap[1].startswith(f"−{0.4 - mean:.3f} [") and gap[1].endswith("n=6") and gap[4].startswith("−0.450 [")
    assert [row[0] for row in rows] == [
        "gap, dB",
        "gap at equal PSNR train, dB",
        "PSNR test, dB",
        "PSNR train, dB",
    ]  # no peers, no halves here


def test_slower_fitting_on_one_dataset_only_is_told_beside_the_comparison_of_the_two() -> None:
    """The windows fit 0.4 dB less on natural pixels: then equal steps compare unequal fits, and the page must say so."""
    even = control_records(-0.4, 0.05, 0.03)
    level = experiment("mini_control", even)
    assert "slows fitting more on one of the two datasets" in told.not_learnt(level) and "slows fitting" not in told.learnt(level)
    uneven = [
        made(0.6 + WOBBLE[one.row.seed - 6], layout="local_3x3_head", seed=one.row.seed, recipe="mini_control", fit=-0.4)
        if (one.row.layout, one.row.dataset) == ("local_3x3_head", "dead_leaves8")
        else one
        for one in even
    ]
    said = told.learnt(experiment("mini_control", uneven))
    assert (
        "But against global local_3x3_head fits its training images less well on dead_leaves8 than on dead_leaves8_permuted (" in said
        and "−0.400 [−0.400, −0.400] n=6" in said
    )
    assert "the reading at equal PSNR train takes it out: the difference of the gap is then, in dB, −" in said


def test_faster_fitting_where_pixels_are_permuted_is_not_called_slower_fitting_elsewhere() -> None:
    """The windows fit 0.4 dB more on permuted pixels and alike on natural ones: nothing is slowed on either."""
    permuted = "dead_leaves8_permuted"
    uneven = [
        made(1.05 + WOBBLE[one.row.seed - 6], layout="local_3x3_head", seed=one.row.seed, recipe="mini_control", fit=0.4, dataset=permuted)
        if (one.row.layout, one.row.dataset) == ("local_3x3_head", permuted)
        else one
        for one in control_records(-0.4, 0.05, 0.03)
    ]
    said = told.learnt(experiment("mini_control", uneven))
    assert "less well on dead_leaves8 than on dead_leaves8_permuted (" in said and "slows" not in said


def test_what_is_unfinished_is_not_called_not_separated() -> None:
    early = told.not_learnt(experiment("mini_control", control_records(-0.4, 0.05, 0.03, seeds=(6, 7, 8))))
    assert "Unfinished: Local attention in the first layers lowers the gap at N = 16" in early and "Not separated: Local" not in early


def test_a_control_that_is_partly_run_says_what_is_missing() -> None:
    part = [one for one in control_records(-0.4, 0.05, 0.03, seeds=(6, 7)) if one.row.dataset == "dead_leaves8"]
    one = experiment("mini_control", part)
    assert told.missing(one).startswith(
        "6 of 30 rows are run, and what follows rests on them. Not yet: dit_mini global on dead_leaves8 (4 of 6); "
    )
    assert "dit_mini local_3x3_head on dead_leaves8_permuted" in told.missing(one)
    match = next(claim for claim in declared().own if claim.name == "control-match")
    assert f"Not run yet: {match.statement}" in told.not_learnt(one)
    assert all_told([]) == [] and all_told(part[:1]) == []


def test_a_ladder_that_is_partly_run_rests_on_whole_seeds() -> None:
    """Of seed 7 the largest N of the baseline is missing: its windows are beyond what was run, which is no bound of the ladder."""

    def missing(one: Record) -> bool:
        row = one.row
        return (row.seed == 7 and row.subset > 16 and row.layout == "global") or row.model == "unet_mini"

    one = experiment("mini_ladder", [record for record in ladder_records(1.5) if not missing(record)])
    found = one.worth(("dit_mini", "local_3x3_head"), "dead_leaves8", 16, "worth_psnr_test")
    assert (found.log2.n, found.least, found.most) == (5, 0, 0) and 2**found.log2.mean == pytest.approx(1.5)
    assert "A seed counts where its ladder has every N" in told.missing(
        one
    ) and "unet_mini global on dead_leaves8 (all 30)" in told.missing(one)
    assert "unet_mini global" not in picture(one).numbers["labels"] and "dit_mini global" in picture(one).numbers["labels"]


def test_many_comparisons_stand_one_below_the_other() -> None:
    gaps = {"local_head": 1.5, "local_tail": 1.6, "local_mix": 1.7, "local_star_head": 1.4, "local_5x6": 1.8, "global": 2.0}
    rows = [row for row in load_suite("natural16").rows() if row.layout in gaps and row.model == "dit_mid" and row.subset == 16]
    names = ("model", "layout", "dataset", "subset", "seed", "recipe")
    records = [made(gaps[row.layout] + 0.01 * row.seed, **{name: getattr(row, name) for name in names}) for row in rows]
    head, lines = told.table(experiment("natural16", records))
    assert head[:2] == ["difference against global", "gap, dB"] and len(lines) == 5
    assert {line[0]: line[1] for line in lines}["dit_mid local_tail on natural16, N = 16"] == "−0.400 [−0.400, −0.400] n=5"
    few = [one for one in records if one.row.layout in ("local_head", "global")]
    head, lines = told.table(experiment("natural16", few))
    assert head == ["difference against global", "dit_mid local_head on natural16, N = 16"] and lines[0][0] == "gap, dB"


def test_one_rung_is_no_ladder() -> None:
    """What the demo runs: windows at N = 16, global attention at 16 and 64."""
    natural = [one for one in ladder_records() if one.row.dataset == "dead_leaves8" and one.row.model == "dit_mini"]
    demo = [one for one in natural if one.row.subset == 16 or (one.row.subset == 64 and one.row.layout == "global")]
    assert "mini_ladder" not in [one.experiment.suite for one in all_told(demo)]
    assert "mini_ladder" in [one.experiment.suite for one in all_told(natural)]


def test_the_ladder_reads_off_what_was_put_in() -> None:
    one = experiment("mini_ladder", ladder_records(1.5))
    windows, natural = ("dit_mini", "local_3x3_head"), "dead_leaves8"
    for subset in (8, 16, 32):
        found = one.worth(windows, natural, subset, "worth_psnr_test")
        assert found and 2**found.log2.mean == pytest.approx(1.5) and (found.least, found.most) == (0, 0)
    last = one.worth(windows, natural, 64, "worth_psnr_test")
    assert last and 2**last.log2.mean == pytest.approx(1.0) and last.least == 6
    permuted = one.worth(windows, "dead_leaves8_permuted", 16, "worth_psnr_test")
    assert permuted and permuted.log2.mean == pytest.approx(0.0)
    titles, rows = told.table(one)
    row = next(row for row in rows if row[:2] == ["dit_mini local_3x3_head on dead_leaves8", "PSNR test"])
    assert dict(zip(titles, row, strict=True))["N = 64"] == "> ×1.00 (6 of 6 beyond the ladder)"
    assert dict(zip(titles, row, strict=True))["N = 16"] == "×1.50 [×1.50, ×1.50] n=6"
    shown = next(part for part in told.learnt(one).split(".)") if "is worth more training images than there are" in part)
    assert "×1.50 [×1.50, ×1.50]" in shown and "dB" not in shown


@pytest.mark.parametrize(
    ("values", "least", "most", "words"),
    [
        ([1.0], 0, 0, "×2.00 (one seed)"),
        ([1.0, 1.0], 0, 0, "×2.00 [×2.00, ×2.00] n=2"),
        ([2.0, 2.0, 2.0], 3, 0, "> ×4.00 (3 of 3 beyond the ladder)"),
        ([-1.0, -1.0], 0, 1, "< ×0.50 (1 of 2 beyond the ladder)"),
        ([1.0, -1.0, 0.0], 1, 1, "about ×1.00 (2 of 3 beyond the ladder)"),
    ],
)
def test_a_censored_factor_is_a_bound(values: list[float], least: int, most: int, words: str) -> None:
    assert told.factor_words(Factor(estimate(values), least, most)) == words


def test_pictures_show_every_line_and_are_drawn() -> None:
    control = picture(experiment("mini_control", control_records(-0.4, 0.05, 0.03)))
    assert len(control.numbers["labels"]) == 4 and control.numbers["panels"][0]["lines"][0]["mean"] == pytest.approx(-0.395)
    assert control.numbers["panels"][1]["lines"] == [None] * 4  # the membership gap was not measured
    ladder = picture(experiment("mini_ladder", ladder_records()))
    shown = ladder.numbers["columns"][0]["series"]["dit_mini local_3x3_head"]
    assert [one["factor"] for one in shown["worth"]] == [2.0, 2.0, 2.0, 2.0, 1.0] and shown["worth"][-1]["bound"] == 1
    assert shown["means"][0] == [4, pytest.approx(ladder.numbers["columns"][0]["series"]["dit_mini global"]["means"][1][1])]
    assert all("<svg" in draw(one) for one in (control, ladder))


def test_the_page_and_the_terminal_tell_the_control(tmp_path: Path) -> None:
    records = save(control_records(-0.4, 0.05, 0.03), tmp_path / "records")
    leaderboard.build(records, tmp_path, PUBLISHED)
    assert leaderboard.stale(records, tmp_path, PUBLISHED) == []
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "## The control" in text and "**What was learnt.**" in text and "**What was not.**" in text
    assert "figures/experiments/mini_control.svg" in text and (tmp_path / "figures/experiments/mini_control.svg").is_file()
    assert "## The ladder" not in text
    console = Console(file=io.StringIO(), width=80)
    console.print(*leaderboard.summary(records), sep="\n")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "The control" in shown and "What was learnt." in shown and max(map(len, shown.splitlines())) <= 80


def test_what_the_demo_shows_is_whole_at_80_columns(tmp_path: Path) -> None:
    made = [one for one in control_records(-0.4, 0.05, 0.03) if one.row.layout in ("global", "local_3x3_head") and one.row.seed in (6, 7)]
    assert len(made) == 8
    console = Console(file=io.StringIO(), width=80)
    console.print(*leaderboard.summary(save(made, tmp_path / "records"), width=80), sep="\n")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    control = shown[: shown.index("Do local windows")]
    assert "…" not in control and max(map(len, shown.splitlines())) <= 80
    assert all(name in control for name in ("local_3x3_head", "dead_leaves8_permuted", "less", "gap, dB"))


def test_rows_of_other_seeds_or_suites_are_no_part_of_an_experiment() -> None:
    records = control_records(-0.4, 0.05, 0.03)
    stranger = made(9.0, layout="local_3x3_head", seed=3, recipe="mini_control")
    with_it, without = (experiment("mini_control", [*records, *more]) for more in ([stranger], []))
    assert told.table(with_it) == told.table(without)
    assert stranger not in with_it.records
