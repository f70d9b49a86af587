"""benchmark/pages/equivalence.py against hand-worked numbers, scipy's isotonic regression, and a layout against itself."""

import math

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from benchmark.pages.equivalence import Worth, _monotone, worth

PSNR = {4: 10.0, 8: 12.0, 16: 14.0, 32: 15.0, 64: 15.5}


def test_a_number_between_two_sizes_is_read_linearly_in_log_n() -> None:
    found = worth({16: 14.5}, PSNR, 16, rises=True)
    assert found == Worth(pytest.approx(math.sqrt(2)), 0)  # half way from 16 to 32
    gaps = {size: -value for size, value in PSNR.items()}
    assert worth({16: -14.5}, gaps, 16, rises=False) == found
    assert worth({8: 11.0}, PSNR, 8, rises=True).factor == pytest.approx(math.sqrt(0.5))


def test_a_layout_is_worth_itself() -> None:
    for ladder in (PSNR, {4: 10.0, 8: 12.0, 16: 11.5, 32: 15.0, 64: 15.0}, {4: 3.0, 8: 2.0, 16: 1.0}):
        for subset in ladder:
            assert worth(ladder, ladder, subset, rises=True) == Worth(pytest.approx(1.0), 0)


def test_beyond_the_ladder_is_a_bound() -> None:
    assert worth({16: 16.0}, PSNR, 16, rises=True) == Worth(4.0, 1)
    assert worth({16: 9.0}, PSNR, 16, rises=True) == Worth(0.25, -1)
    assert worth({16: 16.0}, {16: 14.0}, 16, rises=True) is None
    assert worth({8: 16.0}, PSNR, 16, rises=True) is None


def test_ladders_are_made_monotone_as_scipy_does() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        values = generator.normal(size=7)
        ladder = {2**i: float(value) for i, value in enumerate(values)}
        assert list(_monotone(ladder, 1).values()) == pytest.approx(isotonic_regression(values).x)
        assert list(_monotone(ladder, -1).values()) == pytest.approx(isotonic_regression(-values).x)


def test_a_known_law_gives_a_known_factor() -> None:
    """Test PSNR = 3 log2 N + 1, and a variant as good as twice the data everywhere: x2, and at the end of the ladder at least x1."""
    law = {size: 3 * math.log2(size) + 1 for size in (4, 8, 16, 32, 64)}
    better = {size: value + 3 for size, value in law.items()}
    assert [worth(better, law, size, rises=True).factor for size in (4, 8, 16, 32)] == pytest.approx([2.0] * 4)
    assert worth(better, law, 64, rises=True) == Worth(1.0, 1)
