"""CKA, effective rank and DiverseDiT's terms against their definitions: loops, numpy, closed forms, the loss itself."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.analysis.similarity import (
    Comparison,
    diversity,
    effective_rank,
    unbiased_hsic,
)
from registry.backbones.dit_diverse import (
    diversity_loss,
    mean_similarity,
    token_similarity,
    usage_variance,
)


def features(count: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def compared(*stages: Tensor, batch: int | None = None) -> Comparison:
    found = Comparison()
    for part in zip(*(stage.split(batch or len(stage)) for stage in stages), strict=True):
        found.add(part)
    return found


def rotation(size: int) -> Tensor:
    return torch.linalg.qr(features(size, size, seed=9))[0]


def test_hsic_is_the_mean_over_all_quadruples() -> None:
    """Song et al. 2012: E[k_ij l_ij + k_ij l_qr - 2 k_ij l_iq] over distinct i, j, q, r."""
    x, y = features(6, 3), 5 + features(6, 4, seed=1) + features(6, 1)
    k, l = x @ x.T, y @ y.T
    terms = [k[i, j] * l[i, j] + k[i, j] * l[q, r] - 2 * k[i, j] * l[i, q] for i, j, q, r in permutations(range(6), 4)]
    expected = math.fsum(term.item() for term in terms) / len(terms)
    assert unbiased_hsic(torch.stack([k, l]))[0, 1].item() == pytest.approx(expected, rel=1e-9)


def test_cka_is_the_dense_formula() -> None:
    """With K~ = K without its diagonal, written out with matrices as Nguyen et al. 2021, Eq. 3 and 2."""
    stages = [features(9, 5, 4), features(9, 5, 4, seed=1) + 0.5 * features(9, 5, 4), features(9, 20, 2, seed=2)]
    found = compared(*stages).cka()

    def hsic(x: np.ndarray, y: np.ndarray) -> float:
        n, one = len(x), np.ones((len(x), 1))
        k, l = (a @ a.T * (1 - np.eye(n)) for a in (x, y))
        middle = (one.T @ k @ one * (one.T @ l @ one)).item() / ((n - 1) * (n - 2))
        return (np.trace(k @ l) + middle - 2 / (n - 2) * (one.T @ k @ l @ one).item()) / (n * (n - 3))

    flat = [stage.flatten(1).numpy() for stage in stages]
    expected = [[hsic(a, b) / math.sqrt(hsic(a, a) * hsic(b, b)) for b in flat] for a in flat]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_cka_sums_the_hsic_of_minibatches_before_it_divides() -> None:
    stages = features(12, 3, 2), features(12, 3, 2) + features(12, 3, 2, seed=1)
    parts = [[part.flatten(1) @ part.flatten(1).T for part in stage.split(4)] for stage in stages]
    each = torch.stack([unbiased_hsic(torch.stack(grams)) for grams in zip(*parts, strict=True)]).sum(0)
    expected = each[0, 1] / (each[0, 0] * each[1, 1]).sqrt()
    assert compared(*stages, batch=4).cka()[0, 1].item() == pytest.approx(expected.item(), rel=1e-12)


def test_cka_is_1_on_equal_features_and_does_not_see_rotation_scale_and_offset() -> None:
    x = features(10, 4, 6)
    turned = 3 * (x.flatten(1) @ rotation(24)) + features(24, seed=5)
    found = compared(x, x, turned.unflatten(1, (4, 6))).cka()
    torch.testing.assert_close(found, torch.ones(3, 3, dtype=torch.float64), rtol=0, atol=1e-9)


def test_cka_of_independent_features_is_0_on_average_where_the_biased_one_is_not() -> None:
    draws, biased = [], []
    for seed in range(200):
        x, y = features(8, 30, seed=2 * seed), features(8, 30, seed=2 * seed + 1)
        draws.append(unbiased_hsic(torch.stack([x @ x.T, y @ y.T]))[0, 1].item())
        x, y = x - x.mean(0), y - y.mean(0)
        biased.append(((x.T @ y).norm() ** 2 / (x.T @ x).norm() / (y.T @ y).norm()).item())
    error = np.std(draws) / math.sqrt(len(draws))
    assert abs(np.mean(draws)) < 3 * error
    assert error < 0.5  # against E[HSIC(x, x)] = 30
    assert np.mean(biased) > 0.7


def test_cka_of_a_linear_map_and_noise_is_that_of_the_distribution() -> None:
    """y = x + noise of the same size: |cov(x, y)|^2 / |cov(x)| / |cov(y)| = 10 / sqrt(10 * 40), whatever the batches."""
    x = features(400, 10)
    y = x + features(400, 10, seed=1)
    whole, parts = (compared(x[:, None], y[:, None], batch=batch).cka()[0, 1].item() for batch in (400, 8))
    assert whole == pytest.approx(0.5, abs=0.05)
    assert parts == pytest.approx(0.5, abs=0.05)


def test_a_stage_that_does_not_tell_images_apart_has_no_cka() -> None:
    found = compared(features(6, 4, 3), torch.ones(6, 4, 3, dtype=torch.float64)).cka()
    assert found[0, 0] == 1
    assert found[0, 1].isnan() and found[1, 1].isnan()


def test_fewer_than_four_images_are_refused() -> None:
    with pytest.raises(ValueError, match="3 images are too few"):
        compared(features(3, 2, 2))


def test_cosine_is_the_mean_over_samples() -> None:
    x, y = features(8, 3, 5), features(8, 3, 5, seed=1) + 1
    found = compared(x, y, features(8, 3, 4), features(8, 7, 5), batch=4).cosine()
    each = [torch.dot(a, b) / a.norm() / b.norm() for a, b in zip(x.flatten(0, 1), y.flatten(0, 1), strict=True)]
    assert found[0, 1].item() == pytest.approx(math.fsum(c.item() for c in each) / 24, abs=1e-6)
    torch.testing.assert_close(found.diagonal(), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-6)
    assert found[0, 2].isnan() and found[2, 1].isnan() and found[0, 3].isnan()  # of another shape


def test_effective_rank_is_that_of_numpys_singular_values_whatever_the_batches() -> None:
    x = 100 + features(12, 7, 6) * torch.tensor([9, 3, 1, 0.3, 0.1, 0.0])
    samples = x.flatten(0, 1).numpy()
    singular = np.linalg.svd(samples - samples.mean(0), compute_uv=False)
    shares = singular[:5] / singular[:5].sum()
    expected = math.exp(-(shares * np.log(shares)).sum())
    for batch in (12, 4):
        assert compared(x, batch=batch).effective_rank()[0].item() == pytest.approx(expected, rel=1e-6)


def test_effective_rank_of_known_spectra() -> None:
    turned = rotation(5)
    assert effective_rank(turned @ torch.eye(5).double() @ turned.T) == pytest.approx(5)
    assert effective_rank(torch.ones(5, 5)) == pytest.approx(1, rel=1e-2)  # single precision
    shares = (0.75, 0.25)  # singular values 3 and 1
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert effective_rank(turned @ torch.diag(torch.tensor([9.0, 1, 0, 0, 0]).double()) @ turned.T) == pytest.approx(expected, rel=1e-6)
    assert effective_rank(torch.zeros(3, 3)) == 0


def test_diversity_is_the_loss_of_diversedit_over_all_pairs() -> None:
    """The loss in one piece, on all levels and images; here level by level, batch by batch."""
    levels = [[features(8, 6, 5, seed=10 * level + stage) + torch.arange(5) * (stage - 1) for stage in range(4)] for level in range(2)]
    found = diversity([compared(*stages, batch=4).result() for stages in levels])
    together = [torch.cat(stage).float() for stage in zip(*levels, strict=True)]
    pairs, flat = list(combinations(range(4), 2)), [stage.flatten(0, 1) for stage in together]
    expected = (mean_similarity(flat, pairs), token_similarity(flat, pairs), usage_variance(flat), diversity_loss(together, pairs))
    assert tuple(found) == pytest.approx([value.item() for value in expected], rel=1e-5)


def test_stages_of_several_shapes_have_no_diversity() -> None:
    assert diversity([compared(features(6, 4, 3), features(6, 4, 2)).result()]) is None
    assert diversity([compared(features(6, 4, 3)).result()]) is None
