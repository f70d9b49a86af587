"""The denoiser that is local by the data's principal components, against its definition and at its two ends."""

import math

import pytest
import torch
from torch import Tensor

from benchmark.networks.diffusion import alphas_cumprod, scaled
from registry.backbones import pca_locality
from registry.backbones.pca_locality import PcaLocality
from registry.backbones.reference import EmpiricalOptimal, Level
from tests.networks.test_reference import STEPS, fitted, images, noisy


def defined(x: Tensor, pool: Tensor, shrinkage: float, step: int) -> Tensor:
    """One pixel after the other in float64, with the whole matrix of the linear denoiser by an inverse."""
    channels, pixels = x.shape[0], x[0].numel()
    flat = scaled(pool).double().flatten(1)
    centred, dimension, abar = flat - flat.mean(dim=0), flat.shape[1], alphas_cumprod()[step].item()
    plain = centred.T @ centred / len(flat)
    covariance = (1 - shrinkage) * plain + shrinkage * plain.trace() / dimension * torch.eye(dimension, dtype=torch.float64)
    linear = math.sqrt(abar) * covariance @ torch.linalg.inv(abar * covariance + (1 - abar) * torch.eye(dimension, dtype=torch.float64))
    keys, query, clean = flat.view(len(flat), channels, pixels), x.double().view(channels, pixels), torch.empty(channels, pixels).double()
    for q in range(pixels):
        depends = [
            math.sqrt(sum(linear[c * pixels + q, d * pixels + p].item() ** 2 for c in range(channels) for d in range(channels)))
            for p in range(pixels)
        ]
        scores = [
            -sum(
                depends[p] / max(depends) * sum((query[c, p] - math.sqrt(abar) * key[c, p]).item() ** 2 for c in range(channels))
                for p in range(pixels)
            )
            / (2 * (1 - abar))
            for key in keys
        ]
        weights = [math.exp(score - max(scores)) for score in scores]
        clean[:, q] = sum(w * key[:, q] for w, key in zip(weights, keys, strict=True)) / sum(weights)
    return clean.view(x.shape)


@pytest.mark.parametrize("at_once", [1, 2**22])
def test_it_is_its_definition(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pca_locality, "PAIRS_AT_ONCE", at_once)  # image by image, and all at once
    pool = images(5, side=3)
    x = noisy(pool).double()
    found = fitted(PcaLocality(shrinkage=0.3), pool)(x, STEPS)
    for i, step in enumerate(STEPS.tolist()):
        abar = alphas_cumprod()[step].item()
        expected = (x[i] - math.sqrt(abar) * defined(x[i], pool, 0.3, step)) / math.sqrt(1 - abar)
        torch.testing.assert_close(found[i], expected, rtol=1e-8, atol=1e-8)


def test_where_no_pixel_tells_of_another_each_stands_alone() -> None:
    """A covariance that is a multiple of the identity: the weights of a pixel rest on that pixel."""
    pool = images(4, side=3)
    network, level = fitted(PcaLocality(shrinkage=1.0), pool), Level.at(alphas_cumprod(), torch.tensor([400]))
    torch.testing.assert_close(network.importance(level, 3), torch.eye(9, dtype=torch.float64))


def test_of_one_image_it_is_that_image_as_the_memoriser() -> None:
    pool = images(1)
    x = noisy(pool).double()
    torch.testing.assert_close(fitted(PcaLocality(), pool)(x, STEPS), fitted(EmpiricalOptimal(), pool)(x, STEPS))
