"""benchmark/pages/answers.py: the questions of the page's first section, from made-up records."""

from dataclasses import replace

import pytest

from benchmark.declaring.fields import FieldError, from_json
from benchmark.pages.answers import at_fit, counted, in_short
from benchmark.pages.claims import Declared, declared
from benchmark.pages.comparisons import judge, of_the_board
from benchmark.pages.verdicts import verdict, verdict_word, word_of
from tests.pages.test_experiments import control_records


def test_a_question_counts_every_comparison_and_shows_those_that_were_run() -> None:
    page = in_short(control_records(natural=-0.4, permuted=0.0, scattered=0.0))
    (help_,) = [part for part in page.split("**Does ") if part.startswith("local attention in the first layers help")]
    assert "−0.395 dB" in help_  # -0.4 and the mean of the wobble over seeds, .03 / 6
    question = declared().question[0]
    contrasts = [
        contrast for name in question.answered_by for claim in declared().own if claim.name == name for contrast in claim.contrasts
    ]
    assert f"of {len(contrasts)} comparisons" in help_ and "not run in" in help_
    assert "natural16" not in help_.split("| --- |", 1)[1]  # what was not run has no row
    assert "What the network estimates" not in page  # a question that nothing answers yet is not asked


def test_the_word_of_a_verdict_is_the_one_of_the_claims_table() -> None:
    records = control_records(natural=-0.4, permuted=0.0, scattered=0.0)
    judged = of_the_board(judge(records))
    assert {verdict_word(one) for one in judged} >= {"shown", "not run"}
    for one in judged:
        assert verdict(one, one.equal_steps).startswith(verdict_word(one))


def test_a_comparison_that_lacks_declared_seeds_is_unfinished_and_one_seed_of_them_too() -> None:
    for seeds in ([6, 7, 8], [6]):
        judged = [one for one in judge(control_records(-0.4, 0.0, 0.0, seeds)) if one.claim.name == "control-gap"]
        assert [verdict_word(one) for one in judged] == ["unfinished"]
        assert counted(judged) == "unfinished in 1 of 1 comparison"
        assert verdict(judged[0], judged[0].equal_steps) == f"unfinished, lower in {len(seeds)} of {len(seeds)} seeds, 6 declared"
        assert f"| {len(seeds)} of 6 unseen | unfinished |" in in_short(control_records(-0.4, 0.0, 0.0, seeds))


def test_a_question_says_how_its_gaps_stand_at_equal_fit_too() -> None:
    judged = [one for one in judge(control_records(-0.4, 0.0, 0.0)) if one.claim.name in ("control-gap", "control-test")]
    words = [word_of(one, one.equal_fit) for one in judged if one.contrast.quantity == "psnr_gap"]
    assert words == ["shown"] and at_fit(judged) == " At equal PSNR train, of the gaps: shown in 1 of 1 comparison."
    assert at_fit([one for one in judged if one.claim.name == "control-test"]) == ""
    (gap,) = [one for one in judged if one.claim.name == "control-gap"]
    assert "of the gaps: no common level in 1 of 1" in at_fit([replace(gap, equal_fit=None)])


def test_every_claim_that_windows_come_first_is_counted_where_the_page_asks_whether_they_help() -> None:
    """Global attention against local windows in the first layers, in gap or test PSNR: none is left out for how it ended."""
    asked = {name for question in declared().question for name in question.answered_by}
    for claim in declared().own:
        sides = {(one.variant, one.baseline) for one in claim.contrasts if claim.statistic in ("psnr_gap", "psnr_test", "psnr_best_stop")}
        windows = any("head" in variant.layout and baseline.layout == "global" and not baseline.model for variant, baseline in sides)
        assert not windows or claim.name in asked, f"{claim.name} answers a question and is not counted there"


def test_no_records_no_section() -> None:
    assert in_short([]) == ""


def test_a_question_that_names_no_claim_of_the_leaderboard_is_refused() -> None:
    one = {"name": "a", "suite": "mini", "statement": "s", "over": []}
    asked = {"asks": "Why?", "answered_by": ["b"]}
    with pytest.raises(FieldError, match="a question names the claim 'b', which is none of the leaderboard's: a"):
        from_json(Declared, {"claim": [one], "question": [asked]}, "claims")
