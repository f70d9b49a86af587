"""benchmark/pages/claims.py and registry/claims.toml: what may be declared, and how records decide it."""

from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from benchmark.analysis import WHATS
from benchmark.declaring.fields import FieldError
from benchmark.errors import BenchError
from benchmark.pages.claims import (
    ANALYSES,
    Claim,
    Contrast,
    Over,
    Part,
    Side,
    declared,
)
from benchmark.pages.comparisons import judge
from benchmark.pages.quantities import apart, apart_with_interval, named
from benchmark.pages.report.evidence import Evidence
from benchmark.pages.report.paper import paper
from benchmark.pages.statistics import Corrected, paired
from benchmark.pages.verdicts import holds, p_words, plain_side, side_of, verdict
from benchmark.recording.published import VARIANTS
from benchmark.recording.record import Record, Score
from tests.record_factory import made, point

SCORE = Score(value=10.0, sd=None, samples=50_000, extractor="inception", weights_digest="w", reference_digest="r", version="fid-1")
OVER = Over(
    recipe="mini",
    models=("dit_mini",),
    datasets=("dead_leaves8",),
    subsets=(16,),
    variant=Part(layout="local_3x3_head"),
    baseline=Part(layout="global"),
)


def claim(**fields: object) -> Claim:
    return Claim(**({"name": "one", "suite": "mini", "statement": "It falls.", "over": (OVER,)} | fields))


def pair(first: list[float], second: list[float], scores: str = "", other: Score = SCORE) -> list[Record]:
    """Return records of the variant and of the baseline with these gaps, or with these values of a score."""
    found = []
    for layout, values, score in (("local_3x3_head", first, other), ("global", second, SCORE)):
        for seed, value in enumerate(values):
            held = {scores: replace(score, value=value)} if scores else {}
            found.append(made(1.0 if scores else value, layout=layout, seed=seed, scores=held))
    return found


def test_every_claim_is_about_an_exhibit_and_only_the_papers_recipes_count_as_its_scale() -> None:
    names = {exhibit.name for exhibit in paper().exhibit}
    for one in (*declared().claim, *declared().not_claimed):
        assert set(one.shows) <= names, one.name
        assert one.of_the_paper == one.suite.startswith("paper_"), one.name
        assert {contrast.recipe in VARIANTS for contrast in one.contrasts} <= {one.of_the_paper}
    assert all(any(exhibit.name in one.shows for one in declared().claim) for exhibit in paper().exhibit)


NEWER = ("mini_control", "mini_ladder", "mini_ladder_biases", "natural16", "mini_real", "patches16", "mini_objectives")


def test_the_claims_of_the_leaderboard_are_those_of_the_own_suites_about_psnr() -> None:
    own = [one for one in declared().own if one.suite not in NEWER]
    assert len(own) == len(declared().own) - 39
    assert [one.name for one in own] == [
        "mini-1",
        "mini-2",
        "natural8",
        "small-1",
        "small-2",
        "biases-1",
        "biases-2",
        "scale-few",
        "scale-many",
        "scale-n",
    ]
    assert set(ANALYSES) >= set(WHATS)


def test_over_is_the_product_and_a_side_may_have_its_own_part() -> None:
    over = Over(recipe="r", models=("a", "b"), datasets=("c", "d"), subsets=(1, 2), layouts=("x",), baseline=Part(model="m", subset=9))
    assert over.contrasts()[:3] == [
        Contrast("r", "c", "a", Side("x", 1), Side("x", 9, "m")),
        Contrast("r", "c", "a", Side("x", 2), Side("x", 9, "m")),
        Contrast("r", "d", "a", Side("x", 1), Side("x", 9, "m")),
    ]
    assert len(over.contrasts()) == 8


@pytest.mark.parametrize(
    ("low", "high", "expected", "margin", "side"),
    [
        (-0.3, -0.1, "lower", None, 1),
        (-0.3, 0.1, "lower", None, 0),
        (0.1, 0.3, "lower", None, -1),
        (0.1, 0.3, "higher", None, 1),
        (-0.3, -0.1, "higher", None, -1),
        (-0.1, 0.1, "equal", 0.2, 1),
        (-0.3, 0.1, "equal", 0.2, 0),
        (0.2, 0.4, "equal", 0.2, -1),
        (-0.9, -0.3, "equal", 0.2, -1),
        (-0.3, 0.3, "equal", 0.2, 0),
    ],
)
def test_the_rule_by_the_ends_of_the_interval(low: float, high: float, expected: str, margin: float | None, side: int) -> None:
    """Two seeds whose t-interval is [low, high]: their half distance is the half width / t(0.975, 1) = 12.7062."""
    reach = (high - low) / 2 / 12.706204736432095
    differences = {0: (low + high) / 2 - reach, 1: (low + high) / 2 + reach}
    found = paired(differences, {0: 0.0, 1: 0.0})
    assert found and found.estimate.low == pytest.approx(low) and found.estimate.high == pytest.approx(high)
    contrast = Contrast("r", "d", "m", Side("x", 1), Side("y", 1), expected=expected, margin=margin)  # type: ignore[arg-type]
    assert plain_side(contrast, found) == side


def test_one_difference_holds_on_its_side_only() -> None:
    contrast = Contrast("r", "d", "m", Side("x", 1), Side("y", 1))
    equal = replace(contrast, expected="equal", margin=0.1)
    assert [holds(contrast, value) for value in (-1.0, 0.0, 1.0)] == [True, False, False]
    assert [holds(replace(contrast, expected="higher"), value) for value in (-1.0, 0.0, 1.0)] == [False, False, True]
    assert [holds(equal, value) for value in (-0.1, -0.09, 0.09, 0.1)] == [False, True, True, False]


def test_equality_within_a_margin_is_shown_by_the_whole_interval() -> None:
    near = claim(expected="equal", margin=0.5)
    (one,) = judge(pair([1.01, 1.02, 1.03], [1.0, 1.0, 1.0]), [near])
    assert verdict(one, one.equal_steps) == "shown, equal in 3 of 3 seeds" and "≈" in one.contrast.title
    (one,) = judge(pair([2.01, 2.02, 2.03], [1.0, 1.0, 1.0]), [near])
    assert verdict(one, one.equal_steps) == "contradicted, equal in 0 of 3 seeds"


def test_verdicts_are_corrected_for_what_the_suite_declares() -> None:
    """The same pairs: alone in their suite, among five comparisons of it of which none was run, and in another suite."""
    records = pair([0.7, 1.1, 0.6], [1.0, 1.5, 1.0])  # -0.3 -0.4 -0.4, p = .0084
    others = Over(recipe="mini", models=("a", "b", "c", "d", "e"), datasets=("x",), subsets=(1,), layouts=("y",), baseline=Part(subset=2))
    alone, more, elsewhere = claim(), claim(name="more", over=(others,)), claim(name="else", suite="small", over=(others,))
    again = claim(name="again", over=(replace(others, subsets=(3,)),))

    def first(*claims: Claim) -> tuple[Corrected, str, int]:
        one = judge(records, claims)[0]
        assert one.equal_steps is not None
        return one.equal_steps, verdict(one, one.equal_steps), side_of(one.contrast, one.equal_steps)

    shown = "shown, lower in 3 of 3 seeds"
    p = stats.ttest_1samp([-0.3, -0.4, -0.4], 0).pvalue
    for claims, times, word, side in (
        ([alone], 1, shown, 1),
        ([alone, elsewhere], 1, shown, 1),
        ([alone, more], 6, shown, 1),
        ([alone, more, again], 11, "not separated (interval alone: shown), lower in 3 of 3 seeds", 0),
    ):
        found, words, where = first(*claims)
        assert (found.p, found.p_holm) == (pytest.approx(p), pytest.approx(times * p)) and (words, where) == (word, side)
    assert p_words(found) == "p 0.008, Holm 0.090"


def test_a_claim_says_what_had_been_seen_of_it() -> None:
    assert claim(pilot="A pilot had shown it.").said == "It falls. A pilot had shown it." and claim().said == "It falls."
    said = {one.name: one.said for one in declared().claim}
    assert all("pilot" in said[name] for name in ("mini-1", "mini-2", "small-1"))
    assert "looked at twice" in said["mini-1"]


def test_a_score_is_compared_in_percent_and_only_with_one_made_the_same_way() -> None:
    fid = claim(statistic="fid", relative=True)
    (one,) = judge(pair([9.0, 18.0], [10.0, 20.0], "fid"), [fid])
    assert one.equal_steps and list(one.equal_steps.differences.values()) == pytest.approx([-10.0, -10.0])
    assert one.equal_fit is None
    (other,) = judge(pair([9.0, 18.0], [10.0, 20.0], "fid", replace(SCORE, samples=1024)), [fid])
    assert other.equal_steps is None and verdict(other, None) == "not run"
    with pytest.raises(BenchError, match="not above 0"):
        judge(pair([9.0], [0.0], "fid"), [fid])


def test_a_number_of_an_analysis_is_compared_where_both_sides_have_it() -> None:
    records = pair([1.0, 1.0], [1.0, 1.0])
    numbers = {record.id: {"attention.distance": 2.0 + record.row.seed + (record.row.layout == "global")} for record in records}
    (one,) = judge(records, [claim(statistic="attention.distance")], numbers)
    assert one.equal_steps and one.equal_steps.differences == {0: -1.0, 1: -1.0}
    del numbers[records[0].id]
    (one,) = judge(records, [claim(statistic="attention.distance")], numbers)
    assert one.equal_steps and one.equal_steps.differences == {1: -1.0}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"statistic": "psnr_gpa"}, "must be one of psnr_gap"),
        ({"statistic": "jacobian."}, "must be one of"),
        ({"statistic": "jacobean.harmonicity"}, "must be one of"),
        ({"expected": "equal"}, "margin = None belongs"),
        ({"margin": 0.1}, "margin = 0.1 belongs"),
        ({"expected": "equal", "margin": 0.0}, "must be above 0"),
        ({"expected": "smaller"}, "must be one of 'lower'"),
    ],
)
def test_a_claim_that_cannot_be_decided_is_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(FieldError, match=words):
        claim(**fields)


def test_an_over_without_a_layout_or_with_equal_sides_is_refused() -> None:
    plain = {"recipe": "r", "models": ("m",), "datasets": ("d",)}
    with pytest.raises(FieldError, match="variant names no layout"):
        Over(**plain, subsets=(1,), baseline=Part(layout="x"))
    with pytest.raises(FieldError, match="names no subset"):
        Over(**plain, layouts=("x",), variant=Part(subset=1))
    with pytest.raises(FieldError, match="variant and baseline are the same"):
        Over(**plain, subsets=(1,), layouts=("x",))
    with pytest.raises(FieldError, match="models = "):
        Over(**plain | {"models": ()}, subsets=(1,), layouts=("x",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[claim]\n", "not valid"),
        ("[[claim]]\nname = 'a'\nsuite = 'mini'\n", "claims.claim[0] lacks the field 'statement'"),
        ("[[claim]]\nname = 'a'\nsuite = 'mini'\nstatement = 's'\nwhy = 1\n", "has no field 'why'"),
        (
            "[[claim]]\nname = 'a'\nsuite = 'm'\nstatement = 's'\n[[not_claimed]]\nname = 'a'\nsuite = 'm'\nstatement = 't'\n",
            "two claims are called 'a'",
        ),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(text)
    with pytest.raises(BenchError) as refusal:
        declared(path)
    assert str(path) in str(refusal.value) and words in str(refusal.value)
    with pytest.raises(BenchError, match="cannot be read"):
        declared(tmp_path / "none.toml")


def on(dataset: str, gaps: tuple[list[float], list[float]]) -> list[Record]:
    """Return records on a dataset: gaps of the variant and of the baseline, by seed from 6 on."""
    return [
        made(gap, layout=layout, seed=6 + seed, dataset=dataset)
        for layout, values in zip(("local_3x3_head", "global"), gaps, strict=True)
        for seed, gap in enumerate(values)
    ]


def test_a_difference_of_differences_is_that_on_one_dataset_less_that_on_the_other() -> None:
    records = on("dead_leaves8", ([0.5, 0.6, 0.4], [1.0, 1.0, 0.9])) + on("digits", ([1.1, 1.0, 1.0], [1.0, 1.1, 1.0]))
    (one,) = judge(records, [claim(than_on="digits")])
    assert dict(one.equal_steps.differences) == pytest.approx({6: -0.6, 7: -0.3, 8: -0.5})
    assert verdict(one, one.equal_steps) == "shown, lower in 3 of 3 seeds"
    (absent,) = judge(records, [claim(than_on="nowhere")])
    assert absent.equal_steps is None and verdict(absent, None) == "not run"


def test_a_claim_may_count_some_seeds_only() -> None:
    records = on("dead_leaves8", ([0.5, 2.0, 0.4, 0.3], [1.0, 1.0, 0.9, 1.0]))
    (one,) = judge(records, [claim(seeds=(6, 8, 9))])
    assert set(one.equal_steps.differences) == {6, 8, 9}


def test_seeds_yet_to_be_run_leave_a_claim_unfinished() -> None:
    """Who may look before the last seed may stop where it pleases: no verdict before, whatever the interval."""
    records = on("dead_leaves8", ([0.6, 0.5, 0.6, 0.5], [1.0, 1.0, 1.1, 1.0]))
    (early,) = judge(records, [claim(seeds=(6, 7, 8, 9, 10))])
    (whole,) = judge(records, [claim(seeds=(6, 7, 8, 9))])
    assert (side_of(early.contrast, early.equal_steps), side_of(whole.contrast, whole.equal_steps)) == (0, 1)
    assert verdict(early, early.equal_steps) == "unfinished, lower in 4 of 4 seeds, 5 declared"
    assert Evidence(early, None).verdict(early.equal_steps) == "unfinished"
    assert verdict(whole, whole.equal_steps) == "shown, lower in 4 of 4 seeds"


def test_seeds_that_were_run_and_reach_no_common_level_are_not_called_yet_to_be_run() -> None:
    far = [point(2000, 41.0, 0.2)]
    one_apart = [made(0.5, seed=8, layout="local_3x3_head", trajectory=far), made(1.0, seed=8)]
    (one,) = judge([*on("dead_leaves8", ([0.5, 0.6], [1.0, 1.1])), *one_apart], [claim(seeds=(6, 7, 8))])
    assert (one.equal_steps.estimate.n, one.equal_fit.estimate.n) == (3, 2) and side_of(one.contrast, one.equal_fit) == 0
    assert verdict(one, one.equal_fit) == "no common level in 1 of 3 seeds, lower in 2 of 2 seeds"
    assert Evidence(one, None).verdict(one.equal_fit) == "no common level"


@pytest.mark.parametrize(
    ("differences", "word"),
    [([0.0, 0.01, 0.02], "shown"), ([0.5, 0.6, 0.5], "shown"), ([-0.5, -0.6, -0.5], "contradicted"), ([-0.1, 0.0, -0.07], "not separated")],
)
def test_not_lower_is_shown_where_the_interval_lies_above_minus_the_margin(differences: list[float], word: str) -> None:
    records = on("dead_leaves8", ([1 + d for d in differences], [1.0] * 3))
    (one,) = judge(records, [claim(expected="not lower", margin=0.05)])
    assert verdict(one, one.equal_steps).startswith(word)


def test_what_a_layout_is_worth_in_images_is_read_off_the_baselines_ladder() -> None:
    """Gaps of 2, 1 and 0.5 dB at N = 8, 16 and 32 under global; 0.75 at 16 is half way to 32: x 2 ** 0.5, log2 of it 0.5."""
    ladder = [made(gap, subset=n, seed=seed) for seed in (0, 1, 2) for n, gap in ((8, 2.0), (16, 1.0), (32, 0.5))]
    variant = [made(gap, subset=16, seed=seed, layout="local_3x3_head") for seed, gap in enumerate((0.75, 0.625, 0.1))]
    (one,) = judge([*ladder, *variant], [claim(statistic="worth_psnr_gap", expected="higher")])
    assert dict(one.equal_steps.differences) == pytest.approx({0: 0.5, 1: 0.75, 2: 1.0})  # the last lies beyond the ladder
    assert verdict(one, one.equal_steps) == "shown, higher in 3 of 3 seeds"


def test_what_a_layout_is_worth_is_written_as_a_factor_and_its_statistic_named() -> None:
    """log2 of 0.5, 0.75 and 1: their mean is 0.75, the factor 2 ** 0.75 = 1.68; t(0.975, 2) = 4.303 and sd 0.25 give 0.129 to 1.371."""
    found = paired({0: 0.5, 1: 0.75, 2: 1.0}, dict.fromkeys(range(3), 0.0))
    worth = Contrast("r", "d", "m", Side("x", 1), Side("y", 1), quantity="worth_psnr_test")
    assert found and apart_with_interval(worth, found.estimate) == "×1.68 [×1.09, ×2.59]"
    assert apart(worth, -1.0) == "×0.50" and "worth" in named("worth_psnr_test") and "dB" not in named("worth_psnr_test")
    assert apart_with_interval(replace(worth, quantity="membership_gap"), found.estimate) == "+0.750 dB [+0.129, +1.371]"
    assert apart(replace(worth, quantity="fid", relative=True), -10.0) == "−10.00%"


def test_the_first_claim_of_the_control_says_which_of_its_rows_had_been_seen() -> None:
    said = {one.name: one.said for one in declared().claim}["control-gap"]
    assert "seed 6 had been run once" in said and "earlier draft" in said
