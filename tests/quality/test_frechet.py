"""benchmark/quality/frechet.py: moments against numpy in extended precision, distances against closed forms."""

import numpy as np
import pytest

from benchmark.errors import BenchError
from benchmark.quality.frechet import Gaussian, frechet_distance, gaussian


def rotation(size: int, seed: int) -> np.ndarray:
    """A random orthogonal matrix: three reflections, exact to rounding and cheap at any size."""
    rng = np.random.default_rng(seed)
    turned = np.eye(size)
    for _ in range(3):
        v = rng.standard_normal(size)
        turned -= np.outer(turned @ v, v) * (2 / (v @ v))
    return turned


def spread(turned: np.ndarray, variances: np.ndarray, mean: np.ndarray) -> Gaussian:
    covariance = (turned * variances) @ turned.T
    return Gaussian(10**6, mean, (covariance + covariance.T) / 2)


SPECTRA = {
    "well conditioned": (lambda i: 1 + i, lambda i: 2 - i),
    "ill conditioned": (lambda i: 10.0 ** (-12 * i), lambda i: 10.0 ** (-12 * (1 - i))),
    "ill and well": (lambda i: 10.0 ** (-10 * i), lambda i: 1 + i),
    "rank deficient": (lambda i: np.where(i < 0.1, 1 + i, 0), lambda i: np.where(i < 0.3, 2 - i, 0)),
    "rank deficient and full": (lambda i: np.where(i < 0.1, 1 + i, 0), lambda i: 2 - i),
    "disjoint": (lambda i: np.where(i < 0.5, 1.0, 0), lambda i: np.where(i < 0.5, 0, 1.0)),
    "one dimension": (lambda i: np.where(i == 0, 3.0, 0), lambda i: np.where(i == 0, 5.0, 0)),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_commuting_gaussians_have_the_distance_of_their_spectra(name: str) -> None:
    size = 224
    i, turned = np.arange(size) / (size - 1), rotation(size, 0)
    one, other = (np.asarray(spectrum(i), dtype=float) for spectrum in SPECTRA[name])
    shift = np.sin(np.arange(size))
    expected = shift @ shift + ((np.sqrt(one) - np.sqrt(other)) ** 2).sum()
    found = frechet_distance(spread(turned, one, shift), spread(turned, other, np.zeros(size)))
    assert found == pytest.approx(expected, rel=1e-6)


def test_gaussians_that_do_not_commute_have_the_cost_of_the_optimal_map() -> None:
    size = 200
    i = np.arange(size) / (size - 1)
    covariance = spread(rotation(size, 0), 10.0 ** (-6 * i), np.zeros(size)).covariance
    transport = spread(rotation(size, 1), 0.5 + i, np.zeros(size)).covariance  # x -> T x is the optimal map to T S T
    moved = transport @ covariance @ transport
    rest = np.eye(size) - transport
    found = frechet_distance(Gaussian(9, np.zeros(size), covariance), Gaussian(9, np.zeros(size), (moved + moved.T) / 2))
    assert found == pytest.approx(np.trace(rest @ covariance @ rest), rel=1e-6)


def test_2048_dimensions_rank_deficient_against_ill_conditioned() -> None:
    size = 2048
    i, turned = np.arange(size) / (size - 1), rotation(size, 2)
    one, other = np.where(i < 0.2, 1 + i, 0.0), 10.0 ** (-9 * i)
    expected = ((np.sqrt(one) - np.sqrt(other)) ** 2).sum() + 4.0
    shift = np.zeros(size)
    shift[7] = 2.0
    assert frechet_distance(spread(turned, one, shift), spread(turned, other, np.zeros(size))) == pytest.approx(expected, rel=1e-6)


def test_a_gaussian_is_at_no_distance_from_itself() -> None:
    mine = gaussian([np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)])
    assert abs(frechet_distance(mine, mine)) < 1e-10 * np.trace(mine.covariance)


def test_moments_do_not_depend_on_the_blocks_and_survive_a_large_mean() -> None:
    rows = (1e5 + np.random.default_rng(0).standard_normal((1000, 12))).astype(np.float32)
    exact = rows.astype(np.longdouble)
    centred = exact - exact.mean(axis=0)
    for cuts in ([], [1, 2, 500], list(range(7, 1000, 7))):
        found = gaussian(np.split(rows, cuts))
        assert found.count == 1000
        np.testing.assert_allclose(found.mean, exact.mean(axis=0).astype(float), rtol=1e-14)
        np.testing.assert_allclose(found.covariance, (centred.T @ centred / 999).astype(float), rtol=1e-9, atol=1e-12)


def test_one_row_has_no_covariance_and_other_widths_no_distance() -> None:
    with pytest.raises(BenchError, match="at least 2"):
        gaussian([np.ones((1, 3))])
    with pytest.raises(BenchError, match="3 and of 4"):
        frechet_distance(Gaussian(2, np.zeros(3), np.eye(3)), Gaussian(2, np.zeros(4), np.eye(4)))
