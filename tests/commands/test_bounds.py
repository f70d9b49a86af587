"""Numbers of flags that would do harm are refused before anything is done."""

import argparse

import pytest

from benchmark.commands.flags import decibels, seconds
from tests.conftest import TINY, Bench


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "1e99", "soon", ""])
def test_a_time_or_a_difference_is_a_number_within_reason(text: str) -> None:
    for read in (seconds, decibels):
        with pytest.raises(argparse.ArgumentTypeError):
            read(text)


def test_plain_numbers_are_read() -> None:
    assert (seconds("0"), seconds("2.5"), decibels("0.15")) == (0.0, 2.5, 0.15)


@pytest.mark.parametrize("words", [["--checkpoint-every", "nan"], ["--threads", "9" * 20], ["--device", "meta"]])
def test_a_run_refuses_them_in_one_paragraph(typed_here: Bench, words: list[str]) -> None:
    done = typed_here("run", *TINY, *words)
    assert done.returncode == 2 and "Traceback" not in done.stderr and words[1] in done.stderr
