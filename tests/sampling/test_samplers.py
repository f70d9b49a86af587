"""benchmark/samplers.py on Gaussian data, where the optimal noise estimate and the probability flow are known."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmark.commands import samples
from benchmark.networks.diffusion import alphas_cumprod
from benchmark.sampling import DEFAULT_STEPS
from benchmark.sampling.samplers import (
    SAMPLERS,
    Variance,
    ancestral,
    ddim,
    dpm,
    kept_steps,
    predictor,
    signal_levels,
    straight,
    trajectory,
)
from benchmark.scoring.psnr import psnr
from tests.gaussian import Gaussian, correlated, diagonal

COUNT = 20_000
SIGMAS = 4.5  # of Monte Carlo error that are allowed: 3e-6 a value, and the seeds are fixed
# How far a sampler misses a standard deviation by its finite number of steps, the worst over the variances 0.01 to 1.
BIAS = {("ancestral", 1000): 0.037, ("ddim", 1000): 0.022, ("dpm", 100): 0.004, ("euler", 1000): 0.017, ("heun", 100): 0.004}


def noise(shape: tuple[int, int, int], count: int, seed: int = 0) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(count, *shape, generator=generator, dtype=torch.float64)


def sample(data: Gaussian, sampler: str, count: int, steps: int, eta: float = 0.0, variance: Variance = "beta_tilde") -> list[Tensor]:
    draw, kept = noise(data.shape, count), kept_steps(sampler, steps)
    return list(trajectory(sampler, draw(), predictor(data, kept, clip=False), signal_levels(kept), draw, eta, variance))


@pytest.mark.parametrize("data", [diagonal(), correlated()], ids=["diagonal", "correlated"])
@pytest.mark.parametrize(
    ("sampler", "steps", "eta"),
    [("ancestral", 1000, 0), ("ddim", 1000, 0), ("ddim", 1000, 0.5), ("dpm", 100, 0), ("euler", 1000, 0), ("heun", 100, 0)],
)
def test_samples_have_the_mean_and_covariance_of_the_data(data: Gaussian, sampler: str, steps: int, eta: float) -> None:
    """Within Monte Carlo error and the stated bias of the steps, in the axes of the covariance."""
    count = COUNT // 4
    got = sample(data, sampler, count, steps, eta)[-1].flatten(1)
    along = (got - data.mean) @ data.axes / data.variances.sqrt()  # should be N(0, I)
    bias = BIAS[sampler, steps]
    # All start from N(0, I) and not from noised data, whose mean is sqrt(abar_T) mu: at most that is missing in the end.
    start = math.sqrt(alphas_cumprod()[999]) * (data.mean @ data.axes).abs()
    assert ((along.mean(0)).abs() <= SIGMAS / math.sqrt(count) + start + bias).all()
    covariance = along.T @ along / count
    error = torch.full_like(covariance, 1 / math.sqrt(count)) + torch.eye(len(covariance)) * (math.sqrt(2) - 1) / math.sqrt(count)
    assert ((covariance - torch.eye(len(covariance))).abs() <= SIGMAS * error + 2 * bias).all()


def analytic_variances(c: float, steps: int, fixed: Variance) -> list[float]:
    """Return the variance after every ancestral step on N(., c): Ho et al. 2020, Eq. 6-7, from the betas of the whole schedule."""
    kept = [round(i * 999 / (steps - 1)) for i in range(steps)][::-1]
    product, levels = 1.0, []
    for t in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        levels.append(product)
    variance, found = 1.0, []
    for place, t in enumerate(kept):
        now, before = levels[t], levels[kept[place + 1]] if place + 1 < steps else 1.0
        alpha = now / before
        gain = math.sqrt(now) * c / (now * c + 1 - now)  # of E[x_0 | x]
        slope = math.sqrt(before) * (1 - alpha) / (1 - now) * gain + math.sqrt(alpha) * (1 - before) / (1 - now)
        added = (1 - alpha) * ((1 - before) / (1 - now) if fixed == "beta_tilde" else before < 1)
        variance = slope**2 * variance + added
        found.append(variance)
    return found


@pytest.mark.parametrize("fixed", ["beta_tilde", "beta"])
@pytest.mark.parametrize("steps", [20, 250])
def test_ancestral_variances_follow_the_analytic_recursion_at_every_step(steps: int, fixed: Variance) -> None:
    data = diagonal()
    states = sample(data, "ancestral", COUNT // 4, steps, variance=fixed)
    for axis, c in enumerate([1.0, 0.25, 0.05, 0.01]):
        wanted = analytic_variances(c, steps, fixed)
        got = [state.flatten(1)[:, axis].var().item() for state in states]
        worst = max(abs(one / variance - 1) for one, variance in zip(got, wanted, strict=True))
        assert worst < SIGMAS * math.sqrt(2 / len(states[0])), axis
        assert 0 < wanted[-1] < c or fixed == "beta"  # beta-tilde loses variance, the less the more steps: see BIAS


@pytest.mark.parametrize(
    ("fixed", "steps", "error"), [("beta_tilde", 250, -0.056), ("beta_tilde", 1000, -0.017), ("beta", 250, 0.020), ("beta", 50, 0.11)]
)
def test_what_either_variance_misses_of_a_standard_deviation(fixed: Variance, steps: int, error: float) -> None:
    """In closed form on data of variance 0.05; the samples at 250 steps agree within Monte Carlo error."""
    closed = math.sqrt(analytic_variances(0.05, steps, fixed)[-1] / 0.05) - 1
    assert closed == pytest.approx(error, abs=0.0015 if steps >= 250 else 0.005)
    if steps == 250:
        data = Gaussian(torch.zeros(4, dtype=torch.float64), 0.05 * torch.eye(4, dtype=torch.float64), (1, 2, 2))
        got = sample(data, "ancestral", COUNT, steps, variance=fixed)[-1]
        assert got.std().item() / math.sqrt(0.05) - 1 == pytest.approx(closed, abs=SIGMAS / math.sqrt(2 * got.numel()))


def test_ddim_with_eta_one_is_ancestral_at_every_step() -> None:
    for steps in (1000, 37):
        pairs = zip(sample(correlated(), "ddim", 8, steps, eta=1.0), sample(correlated(), "ancestral", 8, steps), strict=True)
        assert all(torch.allclose(a, b, atol=1e-9, rtol=0) for a, b in pairs)


@pytest.mark.parametrize(
    ("solver", "ratio"),
    [
        (dpm, 4.0),
        (lambda x, p, a: ddim(x, p, a, torch.Tensor), 2.0),
        (lambda x, p, a: straight(x, p, a, corrected=False), 2.0),
        (lambda x, p, a: straight(x, p, a, corrected=True), 4.0),
    ],
    ids=["dpm", "ddim", "euler", "heun"],
)
def test_order_of_convergence_to_the_exact_probability_flow(solver: Callable[..., object], ratio: float) -> None:
    """Half the width: a quarter of the error for a second-order solver, half of it for DDIM and Euler."""
    data, errors = correlated(), []
    x = noise(data.shape, 32)()
    for count in (64, 128, 256, 512):
        abar = torch.linspace(-10, 8, count + 1, dtype=torch.float64).sigmoid().tolist()
        got = list(solver(x, data.predict(abar), abar))[-2]  # the last returns x0_hat of the state at abar[-1]
        errors.append((got - data.flow(x, abar[0], abar[-1])).square().mean().sqrt().item())
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert coarse / fine == pytest.approx(ratio, rel=0.15)


def test_last_step_returns_the_estimate_of_the_clean_image() -> None:
    data = diagonal()
    for sampler in SAMPLERS:
        kept = kept_steps(sampler, 10)
        *_, before, last = sample(data, sampler, 4, 10)
        assert torch.allclose(last, predictor(data, kept, clip=False)(before, 9))


def test_clip_bounds_the_samples_and_what_the_noise_is_taken_from() -> None:
    data = diagonal()
    for sampler in SAMPLERS:
        draw, kept = noise(data.shape, 50), kept_steps(sampler, 20)
        x = list(trajectory(sampler, 3 * draw(), predictor(data, kept), signal_levels(kept), draw, 0.0))[-1]
        assert x.abs().max() == 1.0


def test_kept_steps_fall_from_999_to_0() -> None:
    for sampler in SAMPLERS:
        for count in (2, 3, 10, 20, 50, 250, 999, 1000):
            steps = kept_steps(sampler, count)
            assert len(steps) == count
            assert (steps[0], steps[-1]) == (999, 0)
            assert all(a > b for a, b in zip(steps, steps[1:], strict=False))
        assert kept_steps(sampler, 1) == [500]
        with pytest.raises(ValueError, match="1001"):
            kept_steps(sampler, 1001)
    abar = alphas_cumprod()[kept_steps("dpm", 12)]
    widths = (abar / (1 - abar)).log().diff()
    assert widths.min() > 0.9 * widths.mean()
    assert widths.max() < 1.1 * widths.mean()
    abar = alphas_cumprod()[kept_steps("euler", 50)]
    shares = ((1 - abar).sqrt() / (abar.sqrt() + (1 - abar).sqrt())).diff()
    assert shares.max() < 0.9 * shares.mean() < 0  # all fall, by about as much
    assert shares.min() > 1.1 * shares.mean()


def test_psnr_of_the_optimal_denoiser_is_the_analytic_mmse_curve() -> None:
    """MMSE(t) = mean over the axes of c (1 - a) / (a c + 1 - a); 300 images of 192 values, so 5 sigmas are 0.13 dB."""
    generator = torch.Generator().manual_seed(0)
    variances = torch.logspace(-3, -1.2, 192, dtype=torch.float64)
    data = Gaussian(torch.full((192,), 0.1, dtype=torch.float64), torch.diag(variances), (3, 8, 8))
    pixels = 0.1 + torch.randn(600, 192, generator=generator, dtype=torch.float64) * variances.sqrt()
    images = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).view(600, 3, 8, 8)
    got = psnr(data, images[:300], images[300:], seed=0, steps=12, images=300)
    for place, t in enumerate(got.diffusion_steps):
        a = alphas_cumprod()[t].item()
        mmse = (variances * (1 - a) / (a * variances + 1 - a)).mean().item()
        noise_mse = (a * variances / (a * variances + 1 - a)).mean().item()
        for side in ("train", "test"):
            assert getattr(got.unclipped, side)[place] == pytest.approx(10 * math.log10(4 / mmse), abs=0.13)
            assert getattr(got.clipped, side)[place] == pytest.approx(10 * math.log10(4 / mmse), abs=0.13)
            assert getattr(got.noise_mse, side)[place] == pytest.approx(noise_mse, rel=0.03)


def test_ancestral_steps_draw_noise_but_the_last() -> None:
    data, drawn = diagonal(), []
    kept = kept_steps("ancestral", 5)
    source = noise(data.shape, 1)

    def draw() -> Tensor:
        drawn.append(1)
        return source()

    list(ancestral(source(), predictor(data, kept), signal_levels(kept), draw))
    assert len(drawn) == 4


def test_a_step_of_euler_is_the_velocity_times_the_width_and_heuns_the_mean_of_two() -> None:
    """In plain floats on one value of variance c, whose velocity is known: u moves from 0.75 to 0.5, then to 0."""
    c, u, end = 0.25, 0.75, 0.5
    data = Gaussian(torch.zeros(1, dtype=torch.float64), torch.tensor([[c]], dtype=torch.float64), (1, 1, 1))
    abar = [(1 - w) ** 2 / ((1 - w) ** 2 + w**2) for w in (u, end)]
    z = 0.8

    def velocity(z: float, u: float) -> float:
        image = (1 - u) * c / ((1 - u) ** 2 * c + u**2) * z  # E[x_0 | z]
        return (z - image) / u

    once = z + (end - u) * velocity(z, u)
    twice = z + (end - u) * (velocity(z, u) + velocity(once, end)) / 2
    x = torch.full((1, 1, 1, 1), z / math.sqrt((1 - u) ** 2 + u**2), dtype=torch.float64)
    for corrected, expected in ((False, once), (True, twice)):
        first, last = straight(x, data.predict(abar), abar, corrected=corrected)
        assert first.item() * math.sqrt((1 - end) ** 2 + end**2) == pytest.approx(expected, abs=1e-12)
        assert last.item() == pytest.approx(expected - end * velocity(expected, end), abs=1e-12)


def test_the_command_line_names_every_sampler_and_its_steps() -> None:
    assert samples.SAMPLERS == SAMPLERS == tuple(DEFAULT_STEPS)
    assert ", ".join(f"{name} {steps}" for name, steps in DEFAULT_STEPS.items()) == samples.DEFAULT_STEPS_SAID
