"""C^alpha images: golden bytes, the defining series by direct sums, regularity by decay, the adapted basis by theory."""

import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark.contract import FieldError, ImageError, Source
from benchmark.declaring import entries, registry
from registry.datasets import c_alpha
from registry.datasets.c_alpha import BEND, CONTRAST, TERMS, CAlpha, draw, spread

GOLDEN = {  # sha256 of the first 16 images, by (resolution, alpha, seed)
    (32, 2, 0): "12ebd06d637ade21f82851c772cc9101e087fa55a84e01d9356de254c7f1568b",
    (8, 1, 3): "664c1ae943318d7f1860c98919a5ab854c287be32657247e9371568f1f7e83cd",
}


def sha256_of(resolution: int, alpha: int, seed: int) -> str:
    """Digest the first 16 images."""
    source = CAlpha(resolution=resolution, count=16, alpha=alpha, seed=seed).open()
    return hashlib.sha256(b"".join(source.read(i).tobytes() for i in source.ids)).hexdigest()


@pytest.mark.parametrize("which", GOLDEN)
def test_the_images_have_the_same_bytes_everywhere(which: tuple[int, int, int]) -> None:
    assert sha256_of(*which) == GOLDEN[which]


def test_the_images_do_not_depend_on_the_processors_vector_instructions() -> None:
    code = "from tests.images.test_c_alpha import sha256_of; print(sha256_of(8, 1, 3))"
    features = "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V3 X86_V4"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={"NPY_DISABLE_CPU_FEATURES": features},
    )
    assert done.stdout.strip() == GOLDEN[8, 1, 3], done.stderr


def numbers_of(seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the normal and uniform draws of an image, from the raw words by loops."""
    draws = 2 * TERMS**2 + TERMS
    stream = np.random.Philox(key=np.array([seed, index], dtype=np.uint64))
    words = [int(word) for word in stream.random_raw(12 * draws + TERMS + 2)]
    normal = [(sum(word >> 40 for word in words[12 * k : 12 * k + 12]) - 6 * (2**24 - 1)) / 2**24 for k in range(draws)]
    return np.array(normal), np.array([(word >> 11) / 2**53 for word in words[12 * draws :]])


@pytest.mark.parametrize("seed, index, resolution, alpha", [(0, 0, 8, 1), (0, 3, 11, 2), (5, 1, 8, 4)])
def test_an_image_is_its_defining_series_summed_pixel_by_pixel(seed: int, index: int, resolution: int, alpha: int) -> None:
    normal, uniform = numbers_of(seed, index)
    decay = np.array([[(1 + i * i + j * j) ** (-(alpha + 1) / 2) for j in range(TERMS)] for i in range(TERMS)])
    energy = sum(decay[i, j] ** 2 * (0.5 if i else 1) * (0.5 if j else 1) for i in range(TERMS) for j in range(TERMS))
    regions = normal[: 2 * TERMS**2].reshape(2, TERMS, TERMS) * decay * CONTRAST / math.sqrt(energy)
    bends = np.array([k ** -(alpha + 0.5) for k in range(1, TERMS + 1)])
    bends *= normal[2 * TERMS**2 :] * BEND / math.sqrt(0.5 * np.sum(bends**2))
    angle, side = 2 * math.pi * uniform[0], 4 * resolution
    fine = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            x, y = (column + 0.5) / side, (row + 0.5) / side
            s = math.cos(angle) * (x - 0.5) + math.sin(angle) * (y - 0.5)
            d = math.cos(angle) * (y - 0.5) - math.sin(angle) * (x - 0.5)
            contour = 0.6 * (uniform[1] - 0.5) + sum(
                bends[k] * math.cos(math.pi * (k + 1) * s + 2 * math.pi * uniform[2 + k]) for k in range(TERMS)
            )
            waves = [[math.cos(math.pi * i * at) for i in range(TERMS)] for at in (y, x)]
            fine[row, column] = np.array(waves[0]) @ regions[int(d > contour)] @ np.array(waves[1])
    boxes = np.clip((fine + 1) * 127.5, 0, 255).reshape(resolution, 4, resolution, 4).mean(axis=(1, 3))
    painted = CAlpha(resolution=resolution, count=9, alpha=alpha, seed=seed).open().read(str(index))
    assert painted.shape == (1, resolution, resolution) and painted.dtype == np.uint8
    assert np.abs(painted[0] - boxes).max() < 0.51  # the rounding to bytes


def test_an_image_depends_on_seed_and_index_alone() -> None:
    few, many = (CAlpha(resolution=8, count=count, alpha=2).open() for count in (5, 50))
    assert isinstance(few, Source) and few.ids == ("0", "1", "2", "3", "4") and np.array_equal(few.read("3"), many.read("3"))
    other = CAlpha(resolution=8, count=5, alpha=2, seed=1).open()
    assert not np.array_equal(few.read("3"), other.read("3")) and not np.array_equal(few.read("3"), few.read("4"))
    prints = {
        CAlpha(resolution=r, count=c, alpha=a, seed=s).open().fingerprint
        for r, c, a, s in ((8, 5, 2, 0), (9, 5, 2, 0), (8, 6, 2, 0), (8, 5, 1, 0), (8, 5, 2, 1))
    }
    assert len(prints) == 5
    for image_id in ("5", "-1", "x", "", "²"):
        with pytest.raises(ImageError, match="the indices end at 4"):
            few.read(image_id)
    with pytest.raises(ImageError, match="leave the root out"):
        CAlpha(resolution=8, count=5, alpha=2).open(Path("x"))
    for alpha in (0, 9):
        with pytest.raises(FieldError):
            CAlpha(resolution=8, count=5, alpha=alpha)
    stock = entries.load(registry.find("dataset", "c_alpha")).config
    assert (stock.resolution, stock.count, stock.alpha, stock.channels, stock.embedded) == (32, 20480, 2, 1, True)


@pytest.mark.parametrize("alpha", [1, 2, 3])
def test_regions_and_contours_decay_as_their_regularity_asks(alpha: int) -> None:
    sd = spread(alpha)
    for i, j in ((3, 4), (12, 5), (0, 13)):
        assert sd[i, j] / sd[0, 0] == pytest.approx((1 + i * i + j * j) ** (-(alpha + 1) / 2), rel=1e-12)
    drawn = np.stack([draw(0, index, alpha, 1).coefficients / sd for index in range(60)])  # independent, of variance 1
    assert abs(drawn.mean()) < 0.02 and drawn.std() == pytest.approx(1, abs=0.01)
    assert np.abs(np.corrcoef(drawn.reshape(60, -1)[:, :40].T) - np.eye(40)).max() < 0.6
    energy = np.mean([c_alpha.series(draw(0, index, alpha, 1).coefficients[0], 64) ** 2 for index in range(60)])
    assert math.sqrt(energy) == pytest.approx(CONTRAST, rel=0.25)


def test_an_image_is_the_sum_of_its_adapted_atoms() -> None:
    source = CAlpha(resolution=12, count=4, alpha=2).open()
    for image_id in source.ids:
        geometry = source.geometry(image_id)
        weights = (geometry.coefficients / geometry.spread).ravel()
        rebuilt = (weights @ geometry.atoms() + 1) * 127.5
        assert rebuilt.min() > 0 and rebuilt.max() < 255  # these four are not clipped
        assert np.abs(rebuilt.reshape(12, 12) - source.read(image_id)[0]).max() < 0.51
        vectors, variances = geometry.basis()
        assert np.allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=1e-10) and (np.diff(variances) <= 0).all()
        covariance = geometry.atoms().T @ geometry.atoms()
        assert np.allclose(vectors.T @ (variances[:, None] * vectors), covariance, atol=1e-10)


def terms_needed(basis: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return the relative squared error of the best M-term approximation in an orthonormal basis, for M = 1, 2, ..."""
    energies = np.sort((basis @ image.ravel()) ** 2)[::-1]
    return 1 - np.cumsum(energies) / np.sum(image**2)


@pytest.mark.parametrize("alpha", [1, 2, 3])
def test_the_adapted_basis_approximates_at_the_rate_of_the_class_and_a_fixed_one_does_not(alpha: int) -> None:
    side = 32
    k = np.arange(side)
    cosines = np.sqrt(np.where(k, 2, 1) / side)[:, None] * np.cos(np.pi * k[:, None] * (k[None, :] + 0.5) / side)
    plane = np.kron(cosines, cosines)  # the fixed basis
    adapted, fixed = [], []
    for index in range(4):
        geometry = draw(0, index, alpha, side)
        image = ((geometry.coefficients / geometry.spread).ravel() @ geometry.atoms()).reshape(side, side)
        adapted.append(terms_needed(geometry.basis()[0], image)[[7, 31]])
        fixed.append(terms_needed(plane, image)[[7, 31]])
    slope = np.log(np.mean(adapted, axis=0)[1] / np.mean(adapted, axis=0)[0]) / np.log(4)
    edges = np.log(np.mean(fixed, axis=0)[1] / np.mean(fixed, axis=0)[0]) / np.log(4)
    assert slope < -0.75 * alpha and edges > -1.3  # M^-alpha against M^-1/2 to M^-1, over M = 8 to 32
    assert np.mean(adapted, axis=0)[1] < 0.3 * np.mean(fixed, axis=0)[1]


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.5])
def test_the_denoiser_that_knows_the_contour_has_the_least_error_that_theory_allows(sigma: float) -> None:
    geometry = draw(0, 2, 2, 16)
    atoms = geometry.atoms()
    rng = np.random.default_rng(0)
    clean = rng.standard_normal((400, len(atoms))) @ atoms  # many images of this contour
    noisy = clean + sigma * rng.standard_normal(clean.shape)
    covariance = atoms.T @ atoms
    expected = covariance @ np.linalg.solve(covariance + sigma**2 * np.eye(256), noisy[0])  # E[x | y] of normal x and y
    denoised = geometry.denoise(noisy.reshape(-1, 16, 16), sigma).reshape(clean.shape)
    assert np.allclose(denoised[0], expected, atol=1e-9)
    error = np.mean((denoised - clean) ** 2)
    values = np.linalg.eigvalsh(covariance).clip(0)
    least = np.sum(values * sigma**2 / (values + sigma**2)) / 256
    assert error == pytest.approx(least, rel=0.1) and least < sigma**2
    source = CAlpha(resolution=16, count=4, alpha=2).open()
    for image_id in source.ids:  # and on the images as they are stored, clipped and in bytes
        image = source.read(image_id) / 127.5 - 1
        seen = image + sigma * rng.standard_normal(image.shape)
        assert np.mean((source.geometry(image_id).denoise(seen, sigma) - image) ** 2) < 0.6 * sigma**2
