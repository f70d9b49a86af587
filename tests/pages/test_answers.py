"""benchmark/pages/answers.py: the questions of the page's first section, from made-up records."""

import pytest

from benchmark.declaring.fields import FieldError, from_json
from benchmark.pages.answers import counted, in_short
from benchmark.pages.claims import Declared, declared
from benchmark.pages.comparisons import judge, of_the_board
from benchmark.pages.verdicts import verdict, verdict_word
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
        assert f"| {len(seeds)} of 6 | unfinished |" in in_short(control_records(-0.4, 0.0, 0.0, seeds))


def test_no_records_no_section() -> None:
    assert in_short([]) == ""


def test_a_question_that_names_no_claim_of_the_leaderboard_is_refused() -> None:
    one = {"name": "a", "suite": "mini", "statement": "s", "over": []}
    asked = {"asks": "Why?", "answered_by": ["b"]}
    with pytest.raises(FieldError, match="a question names the claim 'b', which is none of the leaderboard's: a"):
        from_json(Declared, {"claim": [one], "question": [asked]}, "claims")
