"""The reference denoisers against loops in float64 and closed forms: the known answers of the whole measuring chain."""

import json
import math

import pytest
import torch
from torch import Tensor, nn

from benchmark.contract import Attention, Backbone, FieldError, ImageShape
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.declaring.spec import resolve
from benchmark.networks import cost
from benchmark.networks.diffusion import alphas_cumprod
from benchmark.scoring.psnr import psnr
from registry.backbones import local_score, reference
from registry.backbones.local_score import LocalScore
from registry.backbones.reference import EmpiricalOptimal, Wiener
from tests.conftest import ENTRIES, TINY, Bench

STEPS = torch.tensor([0, 40, 400, 999])
NAMES = ("empirical_optimal", "wiener", "local_score", "local_score_border", "pca_locality")


def images(count: int, side: int = 4, channels: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, side, side), generator=generator, dtype=torch.uint8)


def noisy(pool: Tensor, seed: int = 1) -> Tensor:
    """One noisy image for each of STEPS, of the pool in turn."""
    clean = torch.stack([pool[i % len(pool)] for i in range(len(STEPS))]).double() / 127.5 - 1
    abar = alphas_cumprod()[STEPS].view(-1, 1, 1, 1)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (abar.sqrt() * clean + (1 - abar).sqrt() * noise).float()


def fitted(config: Backbone, pool: Tensor) -> nn.Module:
    network = config.build(ImageShape(pool.shape[1], pool.shape[2]), ())
    network.fit(pool)
    return network


def posterior_by_loop(query: list[float], keys: list[list[float]], values: list[list[float]], abar: float) -> list[float]:
    """E[value | query], one candidate after the other, squared distances written out."""
    scores = [-math.fsum((q - math.sqrt(abar) * k) ** 2 for q, k in zip(query, key, strict=True)) / (2 * (1 - abar)) for key in keys]
    weights = [math.exp(score - max(scores)) for score in scores]
    return [math.fsum(w * v[c] for w, v in zip(weights, values, strict=True)) / math.fsum(weights) for c in range(len(values[0]))]


def estimate_of(x: Tensor, clean: Tensor, step: int) -> Tensor:
    abar = alphas_cumprod()[step].item()
    return (x.double() - math.sqrt(abar) * clean) / math.sqrt(1 - abar)


@pytest.mark.parametrize("at_once", [8, 2**22])
def test_the_memoriser_is_the_posterior_mean_over_the_training_images(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "PAIRS_AT_ONCE", at_once)  # blocks of two images, and all at once
    pool = images(7)
    pool[3] = pool[2]
    pool[3, 0, 0, 0] ^= 1  # two images that differ by one level of one pixel: at t = 0 the noise decides between them
    x, found = noisy(pool), None
    found = fitted(EmpiricalOptimal(), pool)(x, STEPS)
    flat = (pool.double() / 127.5 - 1).flatten(1).tolist()
    for i, step in enumerate(STEPS.tolist()):
        clean = posterior_by_loop(x[i].double().flatten().tolist(), flat, flat, alphas_cumprod()[step].item())
        expected = estimate_of(x[i], torch.tensor(clean, dtype=torch.float64).view(3, 4, 4), step)
        torch.testing.assert_close(found[i].double(), expected, rtol=1e-5, atol=2e-5)


def test_a_bandwidth_is_a_gaussian_around_every_image() -> None:
    """Of one image, the posterior is Gaussian with a mean of one line; of several, many draws around each stand in."""
    pool, width = images(1), 0.3
    x = noisy(pool)
    found = fitted(EmpiricalOptimal(bandwidth=width), pool)(x, STEPS)
    centre = pool[0].double() / 127.5 - 1
    for i, step in enumerate(STEPS.tolist()):
        abar = alphas_cumprod()[step].item()
        precision = 1 / width**2 + abar / (1 - abar)
        clean = (centre / width**2 + math.sqrt(abar) / (1 - abar) * x[i].double()) / precision
        torch.testing.assert_close(found[i].double(), estimate_of(x[i], clean, step), rtol=1e-5, atol=2e-5)


def test_of_one_training_image_the_psnr_has_a_closed_form() -> None:
    """x0_hat is that image whatever the noise: the MSE is its distance from the test images, and 0 from itself."""
    train, test = images(1), images(9, seed=5)
    measured = psnr(fitted(EmpiricalOptimal(), train), train, test, seed=0, steps=6, images=9)
    distance = ((train.double() - test.double()) / 127.5).square().mean().item()
    expected = 10 * math.log10(4 / distance)
    assert measured.clipped.test == pytest.approx([expected] * 6, abs=1e-3)
    assert measured.clipped.train == (pytest.approx(100.0),) * 6  # the ceiling: the error is that of rounding, if any


@pytest.mark.parametrize(("count", "dimension"), [(400, 12), (6, 48)])
def test_the_linear_denoiser_is_that_of_the_shrunk_covariance(count: int, dimension: int) -> None:
    """x0 = m + s C (s^2 C + v I)^-1 (x - s m) with the whole matrix, more and fewer images than dimensions."""
    side = math.isqrt(dimension // 3)
    pool, x = images(count, side), noisy(images(4, side, seed=2))
    flat = (pool.double() / 127.5 - 1).flatten(1)
    mean = flat.mean(dim=0)
    plain = (flat - mean).T @ (flat - mean) / count
    target = plain.trace() / dimension * torch.eye(dimension, dtype=torch.float64)
    for shrinkage in (0.0, 0.2, 1.0, None):
        used = ledoit_wolf(flat - mean) if shrinkage is None else shrinkage
        assert 0 <= used <= 1
        covariance = (1 - used) * plain + used * target
        found = fitted(Wiener(shrinkage=shrinkage), pool)(x, STEPS)
        for i, step in enumerate(STEPS.tolist()):
            abar = alphas_cumprod()[step].item()
            inner = abar * covariance + (1 - abar) * torch.eye(dimension, dtype=torch.float64)
            clean = mean + math.sqrt(abar) * covariance @ torch.linalg.solve(inner, x[i].double().flatten() - math.sqrt(abar) * mean)
            torch.testing.assert_close(found[i].double(), estimate_of(x[i], clean.view(3, side, side), step), rtol=1e-5, atol=1e-5)


def ledoit_wolf(centred: Tensor) -> float:
    """The shrinkage by its definition, one image's outer product after the other (norms divided by D throughout)."""
    n, dimension = centred.shape
    covariance = centred.T @ centred / n
    target = covariance.trace() / dimension * torch.eye(dimension, dtype=centred.dtype)
    distance = (covariance - target).square().sum().item() / dimension
    error = math.fsum((torch.outer(row, row) - covariance).square().sum().item() / dimension for row in centred) / n**2
    return min(error, distance) / distance


def test_on_gaussian_images_the_linear_denoiser_reaches_the_least_error_there_is() -> None:
    """Its error is the trace of the posterior covariance, sum l v / (s^2 l + v), of a known spectrum."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(12, 12, generator=generator, dtype=torch.float64) * 0.04
    draws = torch.randn(12_000, 12, generator=generator, dtype=torch.float64) @ mixing.T
    pool = ((draws + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).view(-1, 3, 2, 2)
    network, test = fitted(Wiener(), pool[:8000]), pool[8000:].double() / 127.5 - 1
    spectrum = torch.linalg.eigvalsh(mixing @ mixing.T) + (2 / 255) ** 2 / 12  # and the noise of the rounding
    for step in (100, 500, 900):
        abar = alphas_cumprod()[step].item()
        noise = torch.randn(test.shape, generator=generator, dtype=torch.float64)
        x = math.sqrt(abar) * test + math.sqrt(1 - abar) * noise
        eps = network(x.float(), torch.full((len(x),), step)).double()
        error = ((x - math.sqrt(1 - abar) * eps) / math.sqrt(abar) - test).square().mean().item()
        least = (spectrum * (1 - abar) / (abar * spectrum + 1 - abar)).mean().item()
        assert error == pytest.approx(least, rel=0.04), step


def test_constant_images_leave_the_mean() -> None:
    pool = images(1).expand(3, -1, -1, -1)
    for count in (1, 3):
        found = fitted(Wiener(), pool[:count])(noisy(pool), STEPS)
        mean = pool[0].double() / 127.5 - 1
        for i, step in enumerate(STEPS.tolist()):
            torch.testing.assert_close(found[i].double(), estimate_of(noisy(pool)[i], mean, step), rtol=1e-4, atol=1e-4)


def local_by_loop(pool: Tensor, x: Tensor, step: int, side: int, border: str) -> Tensor:
    """The posterior mean of each pixel of x (C, R, R), one patch after the other."""
    clean, size = pool.double() / 127.5 - 1, x.shape[1]
    reach, found = side // 2, torch.zeros(x.shape, dtype=torch.float64)

    def pixels(row: int, column: int) -> list[tuple[int, int]]:
        offsets = [(row + a, column + b) for a in range(-reach, reach + 1) for b in range(-reach, reach + 1)]
        if border == "circular":
            return [(a % size, b % size) for a, b in offsets]
        return [(a, b) for a, b in offsets if 0 <= a < size and 0 <= b < size]

    def kind(row: int, column: int) -> tuple[int, ...]:
        return tuple(min(reach, d) for d in (row, size - 1 - row, column, size - 1 - column)) if border == "truncated" else ()

    def patch(image: Tensor, row: int, column: int) -> list[float]:
        return [image[c, a, b].item() for c in range(len(image)) for a, b in pixels(row, column)]

    grid = [(row, column) for row in range(size) for column in range(size)]
    for row, column in grid:
        places = [(image, *place) for image in clean for place in grid if kind(*place) == kind(row, column)]
        keys, values = [patch(*place) for place in places], [image[:, a, b].tolist() for image, a, b in places]
        found[:, row, column] = torch.tensor(posterior_by_loop(patch(x.double(), row, column), keys, values, alphas_cumprod()[step].item()))
    return found


@pytest.mark.parametrize("border", ["circular", "truncated"])
@pytest.mark.parametrize("at_once", [2, 1024])
def test_the_local_machine_is_the_posterior_mean_over_the_patches(border: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_score, "QUERIES_AT_ONCE", at_once)
    pool = images(3, side=5, channels=1)
    x = noisy(pool)
    sides = {0: 3, 40: 3, 400: 5, 999: 5}
    found = fitted(LocalScore(patches=(3, 5), from_steps=(0, 400), border=border), pool)(x, STEPS)
    for i, (step, side) in enumerate(sides.items()):
        expected = estimate_of(x[i], local_by_loop(pool, x[i], step, side, border), step)
        torch.testing.assert_close(found[i].double(), expected, rtol=1e-5, atol=2e-5)


def test_patches_as_wide_as_the_image_make_the_local_machine_the_memoriser() -> None:
    pool = images(5)
    x = noisy(images(4, seed=3))
    local = fitted(LocalScore(patches=(7,), from_steps=(0,), border="truncated"), pool)
    torch.testing.assert_close(local(x, STEPS), fitted(EmpiricalOptimal(), pool)(x, STEPS), rtol=1e-6, atol=1e-6)


def test_the_border_decides_what_shifts_with_the_image() -> None:
    """Continued on its other side, a shifted noisy image gives the shifted estimate; cut at the border, it does not."""
    pool, x = images(4), noisy(images(4, seed=3))
    for border, same in (("circular", True), ("truncated", False)):
        network = fitted(LocalScore(patches=(3,), from_steps=(0,), border=border), pool)
        shifted, moved = network(x.roll((1, 2), (2, 3)), STEPS), network(x, STEPS).roll((1, 2), (2, 3))
        assert torch.allclose(shifted, moved, rtol=1e-5, atol=1e-5) is same


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_trained_or_saved_and_an_unfitted_one_says_so(name: str) -> None:
    config = load(registry.find("model", name)).config
    network = config.build(ImageShape(3, 8), ())
    with pytest.raises(FieldError, match=r"not trained but fitted: call fit\(images\)"):
        network(torch.zeros(1, 3, 8, 8), torch.tensor([5]))
    network.fit(images(3, side=8))
    assert not list(network.parameters())
    assert not network.state_dict()
    assert config.attention_layers == 0
    with pytest.raises(FieldError, match="the layout gives 1"):
        config.build(ImageShape(3, 8), (Attention(),))


@pytest.mark.parametrize(
    ("fields", "culprit"),
    [
        ({"patches": (3, 4), "from_steps": (0, 5)}, "the side 4 must be odd"),
        ({"patches": (3,), "from_steps": (0, 5)}, "name 1 and 2 values"),
        ({"patches": (3, 5), "from_steps": (0, 0)}, "must begin with 0 and grow"),
        ({"patches": (3,), "from_steps": (2,)}, "must begin with 0"),
        ({"patches": (3, 5), "from_steps": (0, 1000)}, "1000 is no diffusion step"),
        ({"patches": (), "from_steps": ()}, "at least one"),
    ],
)
def test_impossible_schedules_are_refused(fields: dict[str, tuple[int, ...]], culprit: str) -> None:
    with pytest.raises(FieldError, match=culprit):
        LocalScore(**fields)


def test_costs_grow_with_the_subset_and_nothing_is_charged_for_training() -> None:
    names = {"model": "empirical_optimal", "layout": "global", "dataset": "leaves_tiny", "recipe": "tiny"}
    spec = resolve(names, subset=6, seed=0, search=registry.roots([ENTRIES]))
    assert cost.forward_flops(spec) == 2 * 2 * 6 * 192  # scores and means, of 6 images with 192 numbers
    assert cost.parameters(cost.on_meta(spec)) == (0, 0)
    assert cost.training_memory_bytes(spec) == 0
    assert cost.step_seconds(spec, cost.on_meta(spec), torch.device("cpu")) == 0.0


def test_a_reference_row_is_run_recorded_and_scored_again(bench: Bench) -> None:
    words = ["empirical_optimal" if word == "dit_tiny" else word for word in TINY]
    dry = bench("run", *words, "--dry-run", "--json", "--no-track")
    assert dry.returncode == 0, dry.stderr
    assert json.loads(dry.stdout)["training_flops"] == 0
    done = bench("run", *words, "--json", "--no-track")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["psnr_gap"] > 5
    again = bench("evaluate", result["id"], "--json", "--device", "cpu", "--threads", "1")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["psnr_test"] == pytest.approx(result["psnr_test"], abs=1e-9)
