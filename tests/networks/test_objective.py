"""benchmark/networks/objective.py and the schedules: on Gaussian data every prediction along every schedule is one denoiser."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from benchmark.contract import FieldError
from benchmark.declaring.recipe import Convention, External, NoiseSchedule, Prediction, Recipe, Weighting
from benchmark.networks.denoiser import InterpolantEstimate, NoiseEstimate, noise_estimate
from benchmark.networks.diffusion import STEPS, abar_along, alphas_cumprod, levels, loss, noised, respaced, times
from benchmark.networks.objective import Levels, Objective, clean, target, weights
from benchmark.scoring.psnr import psnr
from tests.gaussian import Gaussian, correlated

PREDICTIONS: tuple[Prediction, ...] = ("noise", "data", "velocity", "flow")
SCHEDULES: tuple[NoiseSchedule, ...] = ("linear", "cosine", "straight")
EVERY = list(itertools.product(PREDICTIONS, SCHEDULES))
ENDS = [alphas_cumprod()[0].item(), alphas_cumprod()[-1].item()]


def abar_at(schedule: NoiseSchedule, t: Tensor) -> Tensor:
    """Return abar at real times t, from the definition of the schedule and its two ends alone."""
    way = t.double() / 999
    if schedule == "linear":
        return alphas_cumprod()[t.long()]
    if schedule == "cosine":
        first, last = (math.acos(math.sqrt(end)) for end in ENDS)
        return torch.cos(first + way * (last - first)) ** 2
    first, last = (1 / (1 + math.sqrt(end / (1 - end))) for end in ENDS)
    u = first + way * (last - first)
    return (1 - u) ** 2 / ((1 - u) ** 2 + u**2)


class Optimal(nn.Module):
    """The best estimate of what is predicted on Gaussian data, at the times of one schedule."""

    def __init__(self, data: Gaussian, prediction: Prediction, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.data, self.prediction, self.schedule = data, prediction, schedule

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        abar = abar_at(self.schedule, t)
        noise = self.data.estimate(x, abar)
        a, s = abar.sqrt().view(-1, 1, 1, 1), (1 - abar).sqrt().view(-1, 1, 1, 1)
        image = (x.double() - s * noise) / a
        return {"noise": noise, "data": image, "velocity": a * noise - s * image, "flow": noise - image}[self.prediction]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_has_the_levels_of_the_linear_one_at_its_own_times(schedule: NoiseSchedule) -> None:
    abar, place = abar_along(schedule), times(schedule)
    assert abar[[0, -1]].tolist() == pytest.approx(ENDS, rel=1e-9)
    assert place[[0, -1]].tolist() == pytest.approx([0, 999], abs=1e-9)
    assert (abar.diff() < 0).all() and (place.diff() > 0).all()
    torch.testing.assert_close(abar, abar_at(schedule, torch.arange(STEPS)), rtol=1e-9, atol=0)
    log_snr = torch.special.logit(abar_at(schedule, place))
    torch.testing.assert_close(log_snr, torch.special.logit(alphas_cumprod()), rtol=1e-9, atol=1e-9)


def test_the_straight_path_is_the_variance_preserving_one_rescaled() -> None:
    x0, noise = torch.randn(2, STEPS, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, last = (1 / (1 + math.sqrt(end / (1 - end))) for end in ENDS)
    u = torch.linspace(first, last, STEPS, dtype=torch.float64).view(-1, 1, 1, 1)
    path = ((1 - u) * x0 + u * noise) / ((1 - u) ** 2 + u**2).sqrt()
    level = levels(abar_along("straight"), torch.arange(STEPS), torch.float64)
    torch.testing.assert_close(noised(x0, noise, level), path, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("prediction", "schedule"), EVERY)
def test_the_optimal_network_of_every_objective_is_the_same_denoiser_with_the_analytic_error(
    prediction: Prediction, schedule: NoiseSchedule
) -> None:
    """At the 50 scored levels in float64: x0_hat to 1e-10, and its mean squared error, exact for what is affine in x."""
    data = correlated()
    network = NoiseEstimate(Optimal(data, prediction, schedule), prediction, schedule)
    size, steps = len(data.mean), respaced(50)
    basis = torch.cat([torch.zeros(1, size), torch.eye(size)]).double().view(-1, *data.shape)
    for t in steps:
        abar = alphas_cumprod()[t]
        level = levels(alphas_cumprod(), torch.full((len(basis),), t), torch.float64)
        x0 = clean(network(basis, torch.full((len(basis),), t)), basis, level, "noise").flatten(1)
        expected = data.predict([abar.item()])(basis, 0).flatten(1)
        assert (x0 - expected).abs().max() < 1e-10, t
        offset, gain = x0[0], (x0[1:] - x0[0]).T  # x0_hat = gain x + offset
        left = torch.eye(size) - abar.sqrt() * gain
        error = (left @ data.covariance @ left.T).trace() + (1 - abar) * gain.square().sum() + (left @ data.mean - offset).square().sum()
        mmse = (data.variances * (1 - abar) / (abar * data.variances + 1 - abar)).sum()
        assert error.item() == pytest.approx(mmse.item(), rel=1e-8), t


def test_psnr_of_the_optimal_network_is_one_curve_whatever_is_predicted() -> None:
    generator = torch.Generator().manual_seed(0)
    data = Gaussian(torch.full((12,), 0.1).double(), torch.diag(torch.logspace(-3, -1.2, 12)).double(), (3, 2, 2))
    pixels = 0.1 + torch.randn(24, 12, generator=generator, dtype=torch.float64) * data.covariance.diag().sqrt()
    images = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).view(24, 3, 2, 2)
    want = psnr(data, images[:12], images[12:], seed=0, steps=50, images=12)
    for prediction, schedule in EVERY:
        network = NoiseEstimate(Optimal(data, prediction, schedule), prediction, schedule)
        got = psnr(network, images[:12], images[12:], seed=0, steps=50, images=12)
        for reading in ("clipped", "unclipped"):
            for side in ("train", "test"):
                ours, theirs = getattr(getattr(got, reading), side), getattr(getattr(want, reading), side)
                assert ours == pytest.approx(theirs, abs=1e-3), (prediction, schedule)


class OfClean(nn.Module):
    """A small network that estimates x_0, read as an estimate of something else."""

    def __init__(self, prediction: Prediction) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(12, 12, generator=generator, dtype=torch.float64) / 4)
        self.bias = nn.Parameter(torch.randn(12, generator=generator, dtype=torch.float64))
        self.prediction = prediction

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x0 = torch.tanh(x.flatten(1) @ self.weight + self.bias * t[:, None] / 1000).view(x.shape)
        level = levels(alphas_cumprod(), t, torch.float64)
        return target(x0, (x - level.signal * x0) / level.sigma, level, self.prediction)


@pytest.mark.parametrize("weighting", ["noise", "data", "velocity", "flow", "min_snr"])
def test_gradients_of_two_predictions_under_one_weighting_agree(weighting: Weighting) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 16, 3, 2, 2, generator=generator, dtype=torch.float64)
    t, found = torch.arange(16) * 66, {}
    for prediction in PREDICTIONS:
        network = OfClean(prediction)
        loss(network, x0, t, noise, alphas_cumprod(), Objective(prediction, weighting, 5.0)).backward()
        found[prediction] = torch.cat([network.weight.grad.flatten(), network.bias.grad])
    for prediction in PREDICTIONS:
        assert (found[prediction] - found["noise"]).norm() < 1e-6 * found["noise"].norm(), prediction
    other = OfClean("data")
    loss(other, x0, t, noise, alphas_cumprod(), Objective("data", "data" if weighting != "data" else "noise", 5.0)).backward()
    assert (other.weight.grad.flatten() - found["noise"][:144]).norm() > 0.1 * found["noise"][:144].norm()  # a weighting matters


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_is_its_formula(gamma: float) -> None:
    """Hang et al. 2023, section 3.4: min(SNR, gamma) on x_0, divided by SNR on the noise and by SNR + 1 on the velocity."""
    abar = alphas_cumprod()
    level = levels(abar, torch.arange(STEPS), torch.float64)
    snr = [a / (1 - a) for a in abar.tolist()]
    factors = {"data": lambda r: 1, "noise": lambda r: r, "velocity": lambda r: r + 1, "flow": lambda r: (math.sqrt(r) + 1) ** 2}
    for prediction, of in factors.items():
        got = weights(Objective(prediction, "min_snr", gamma), level).flatten().tolist()
        assert got == pytest.approx([min(r, gamma) / of(r) for r in snr], rel=1e-10)


def test_the_loss_of_the_default_objective_is_the_plain_mean_to_the_last_bit() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return (x * 1.3).sin()

    x0, noise = torch.randn(2, 64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    t, abar = torch.randint(STEPS, (64,), generator=torch.Generator().manual_seed(1)), alphas_cumprod()
    xt = abar[t].view(-1, 1, 1, 1).sqrt().float() * x0 + (1 - abar[t].view(-1, 1, 1, 1)).sqrt().float() * noise
    assert loss(Odd(), x0, t, noise, abar).item() == (Odd()(xt, t) - noise).square().mean().item()


def test_each_target_gives_back_the_image() -> None:
    x0, noise = torch.randn(2, STEPS, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    level = levels(alphas_cumprod(), torch.arange(STEPS), torch.float64)
    for prediction in PREDICTIONS:
        got = clean(target(x0, noise, level, prediction), noised(x0, noise, level), level, prediction)
        assert (got - x0).abs().max() < 1e-12


@pytest.mark.parametrize("convention", ["sit", "repa"])
def test_an_official_flow_is_the_same_denoiser(convention: Convention) -> None:
    """The path in shares of image and noise, with SiT's time and sign and with REPA's, by the best estimate of each."""
    data = correlated()

    class Official(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            a, s = (t[:, None], 1 - t[:, None]) if convention == "sit" else (1 - t[:, None], t[:, None])
            along = (x.flatten(1) - a * data.mean) @ data.axes / (a**2 * data.variances + s**2)  # (x - E x) / Var x, by axis
            image = data.mean + (a * data.variances * along) @ data.axes.T
            noise = s * along @ data.axes.T
            return (image - noise if convention == "sit" else noise - image).view(x.shape)

    x = torch.randn(50, *data.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    t = torch.tensor(respaced(50))
    estimate = noise_estimate(Official(), External(psnr_steps=1, psnr_images=1, convention=convention))
    assert (estimate(x, t) - data(x, t)).abs().max() < 1e-9


@pytest.mark.parametrize("steps", [1000, 4000])
def test_the_time_of_improved_diffusions_cosine_schedule_is_where_its_products_reach_the_level(steps: int) -> None:
    """By the products of its betas, in a loop: the level of every scored step lies between those of the two steps around its time."""

    def f(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    product, abar = 1.0, []
    for i in range(steps):
        product *= 1 - min(1 - f((i + 1) / steps) / f(i / steps), 0.999)
        abar.append(product)
    place = noise_estimate(nn.Identity(), External(psnr_steps=1, psnr_images=1, convention="improved_cosine", cosine_steps=steps)).times
    for t in respaced(50):
        i = place[t].item() * steps / 1000
        below, level = math.floor(i), alphas_cumprod()[t].item()
        assert abar[below] * (1 + 1e-9) >= level >= abar[below + 1] * (1 - 1e-9), (t, i)


def test_who_needs_no_conversion_is_left_alone() -> None:
    network = nn.Linear(1, 1)
    assert noise_estimate(network, Recipe()) is network
    assert noise_estimate(network, External(psnr_steps=1, psnr_images=1)) is network
    made = noise_estimate(network, Recipe(prediction="flow", noise_schedule="straight"))
    assert isinstance(made, NoiseEstimate) and noise_estimate(made, Recipe(prediction="flow")) is made
    assert isinstance(noise_estimate(network, Recipe(noise_schedule="cosine")), NoiseEstimate)
    assert isinstance(noise_estimate(network, External(psnr_steps=1, psnr_images=1, convention="sit")), InterpolantEstimate)
    assert Recipe().min_snr_gamma == 5.0
    with pytest.raises(FieldError, match="needs weighting = 'min_snr'"):
        Recipe(min_snr_gamma=3.0)


def test_scoring_leaves_the_mode_of_a_converted_network_as_it_was() -> None:
    network = nn.Sequential(nn.Dropout(0.5)).eval()
    converted = NoiseEstimate(lambda_of(network), "data", "cosine")
    images = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    psnr(converted, images, images, seed=0, steps=2, images=2)
    assert not network.training


def lambda_of(network: nn.Module) -> nn.Module:
    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.inner(x)

    return Called().eval()


def test_levels_are_single_precision_unless_images_are_not() -> None:
    level = levels(alphas_cumprod(), torch.tensor([3]))
    assert isinstance(level, Levels) and level.signal.dtype == torch.float32
