"""Numbers of flags that would do harm are refused before anything is done."""

import argparse
from pathlib import Path

import pytest
import torch

from benchmark import cli
from benchmark.analysis import jacobian, study
from benchmark.commands.flags import decibels, minutes, seconds
from benchmark.contract import ImageShape
from benchmark.errors import BenchError, UsageError
from benchmark.images.manifest import Manifest
from benchmark.images.subsets import _check_size
from benchmark.sampling import Request, samples
from tests.conftest import TINY, Bench


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "1e99", "soon", ""])
def test_a_time_or_a_difference_is_a_number_within_reason(text: str) -> None:
    for read in (seconds, minutes, decibels):
        with pytest.raises(argparse.ArgumentTypeError):
            read(text)


def test_plain_numbers_are_read() -> None:
    assert (seconds("0"), seconds("2.5"), decibels("0.15")) == (0.0, 2.5, 0.15)


@pytest.mark.parametrize("words", [["--checkpoint-every", "nan"], ["--threads", "9" * 20], ["--device", "meta"]])
def test_a_run_refuses_them_in_one_paragraph(typed_here: Bench, words: list[str]) -> None:
    done = typed_here("run", *TINY, *words)
    assert done.returncode == 2 and "Traceback" not in done.stderr and words[1] in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sweep", "mini", "--jobs", "-3"], "-3 must be from 1 to 4,096"),
        (["sweep", "mini", "--jobs", "many"], "'many' is no whole number"),
        (["sample", "abc", "--count", "9" * 30], "must be from 1 to 1,000,000,000,000"),
        (["evaluate", "abc", "--samples", "0"], "0 must be from 1"),
        (["analyze", "abc", "--what", "all", "--noise-seed", "-1"], "-1 must be from 0"),
        (["run", *TINY, "--suite", "evil\x1b[2J"], "characters that can be seen"),
        (["run", *TINY, "--suite", "x" * 101], "up to 100 characters"),
    ],
)
def test_whole_numbers_and_labels_have_bounds(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and said in printed and "\x1b" not in printed


def test_samples_that_the_disk_cannot_hold_are_refused_with_what_they_need(tmp_path: Path) -> None:
    shape = ImageShape(3, 32)
    with pytest.raises(BenchError, match=r"99,999,999,999 samples of 3,072 bytes would need .* GiB on the disk, and .* free"):
        samples(
            tmp_path,
            Request(count=99_999_999_999),
            shape=shape,
            weights_sha256="0",
            network=lambda: pytest.fail("it is built"),  # type: ignore[return-value]
            device=torch.device("cpu"),
        )


def test_more_directions_than_there_are_is_refused() -> None:
    request = study.Request(images=1, leading=999_999)
    with pytest.raises(UsageError, match="`leading=999999` is more than the 12 directions"):
        jacobian.analyse(torch.nn.Identity(), torch.zeros(1, 3, 2, 2), request, lambda done, total: None, None)  # type: ignore[arg-type]


def test_advice_on_a_subset_is_one_that_could_be_followed() -> None:
    made = Manifest.__new__(Manifest)
    for name, value in {"config": {"count": 330}, "count": 330, "held_out_from": None, "held_out": None}.items():
        object.__setattr__(made, name, value)
    for size, advice in ((100, "dataset.count=400"), (10**9, "a dataset with more images")):
        with pytest.raises(UsageError, match=advice):
            _check_size("leaves", size, made, 300, 30, None)
