"""Any function (x, t) -> eps as a network that is scored and sampled like one."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.contract import ClosedForm
from benchmark.declaring.recipe import External, NoiseSchedule, Prediction, Recipe
from benchmark.declaring.spec import Spec
from benchmark.errors import UsageError
from benchmark.networks.diffusion import alphas_cumprod, levels, times
from benchmark.networks.objective import Levels, clean

Images = np.ndarray | Tensor  # (N, C, R, R) uint8
Estimate = Callable[[Tensor, Tensor], Tensor]  # x (N, C, R, R), t (N,) -> eps_hat (N, C, R, R)


class Denoiser(nn.Module):
    """A noise estimate of any origin, held to its shape."""

    def __init__(self, estimate: Estimate) -> None:
        super().__init__()
        self.estimate = estimate  # registers a network's parameters, and eval() reaches it

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        noise = self.estimate(x, t)
        if not isinstance(noise, Tensor) or noise.shape != x.shape:
            what = f"a tensor of shape {tuple(noise.shape)}" if isinstance(noise, Tensor) else f"a {type(noise).__name__}"
            raise UsageError(f"The denoiser must return its estimate, a tensor of the shape of x, {tuple(x.shape)}; it returned {what}.")
        return noise


class NoiseEstimate(nn.Module):
    """A network trained to any prediction along any schedule, as one that estimates the noise at the steps of the linear one.

    Whatever scores, samples or analyses a network meets it in this form, and x_0 is what `clean` makes of its estimate.
    """

    abar: Tensor
    times: Tensor  # of the network, at every step of the linear schedule

    def __init__(self, network: nn.Module, prediction: Prediction, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.network, self.prediction, self.schedule = network, prediction, schedule
        self.training = network.training
        device = device_of(network)
        self.register_buffer("abar", alphas_cumprod().to(device), persistent=False)
        self.register_buffer("times", times(schedule).to(device), persistent=False)
        if stages := getattr(network, "stages", None):
            self.stages = stages

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the noise (N, C, R, R) in x: (N, C, R, R) at steps t: (N,) of the linear schedule, of classes y: (N,) or None."""
        level = levels(self.abar, t, x.dtype)
        x0 = clean(self.output(x, t, level, y), x, level, self.prediction)
        return (x - level.signal * x0) / level.sigma

    def output(self, x: Tensor, t: Tensor, level: Levels, y: Tensor | None) -> Tensor:
        """Return what the network itself estimates."""
        place = t if self.schedule == "linear" else self.times[t].to(x.dtype)
        return self.network(x, place, *(() if y is None else (y,))).to(x.dtype)


class InterpolantEstimate(NoiseEstimate):
    """A network trained elsewhere along the straight path between image and noise, which is not rescaled and whose time is a share.

    SiT: x = t x_0 + (1 - t) eps, and x_0 - eps is estimated; REPA and DiverseDiT: x = (1 - t) x_0 + t eps and eps - x_0.
    """

    def __init__(self, network: nn.Module, *, toward_image: bool) -> None:
        super().__init__(network, "flow", "straight")
        self.toward_image = toward_image

    def output(self, x: Tensor, t: Tensor, level: Levels, y: Tensor | None) -> Tensor:
        """Return eps - x_0; x is rescaled so that the shares of image and noise, a and s, sum to 1."""
        whole = level.signal + level.sigma
        share = ((level.signal if self.toward_image else level.sigma) / whole).flatten()
        found = self.network(x / whole, share, *(() if y is None else (y,))).to(x.dtype)
        return -found if self.toward_image else found


class ImprovedCosineEstimate(NoiseEstimate):
    """A network that estimates the noise along improved-diffusion's cosine schedule of `steps` steps, its time rescaled to 1000.

    abar after step i is f((i + 1) / steps) / f(0) with f(u) = cos^2((u + 0.008) / 1.008 pi / 2) (Nichol & Dhariwal 2021, Eq. 17).
    """

    def __init__(self, network: nn.Module, steps: int) -> None:
        super().__init__(network, "noise", "cosine")
        start = math.cos(0.008 / 1.008 * math.pi / 2)
        share = (self.abar.sqrt() * start).acos() / (math.pi / 2) * 1.008 - 0.008
        self.times = 1000 * (share - 1 / steps)


class SigmaEstimate(NoiseEstimate):
    """A denoiser D(image + sigma noise; sigma) that returns the image, as EDM's and k-diffusion's do (Karras et al. 2022).

    The noisy image is x / a, of the same signal-to-noise ratio as x, with sigma = s / a: x = (x / a) / sqrt(1 + sigma^2).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, "data", "linear")

    def output(self, x: Tensor, t: Tensor, level: Levels, y: Tensor | None) -> Tensor:
        """Return x_0, by what the network makes of the noisy image, of sigma: (N, 1, 1, 1), and of the classes."""
        labels = () if y is None else (y,)
        return self.denoised(x / level.signal, level.sigma / level.signal, labels).to(x.dtype)

    def denoised(self, noisy: Tensor, sigma: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        """Return D(noisy; sigma): the network is one."""
        return self.network(noisy, sigma.flatten(), *labels)


class EdmEstimate(SigmaEstimate):
    """A network F within EDM's preconditioning, D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) (Karras et al. 2022, Table 1)."""

    def __init__(self, network: nn.Module, sigma_data: float) -> None:
        super().__init__(network)
        self.sigma_data = sigma_data

    def denoised(self, noisy: Tensor, sigma: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        """Return D(noisy; sigma); with r^2 = sigma^2 + sigma_data^2, c_in is 1 / r and c_noise ln(sigma) / 4."""
        root = (sigma.square() + self.sigma_data**2).sqrt()
        found = self.network(noisy / root, (sigma.log() / 4).flatten(), *labels)
        return (self.sigma_data / root).square() * noisy + sigma * self.sigma_data / root * found


class ResidualEstimate(SigmaEstimate):
    """A denoiser of images in [0, 1] that returns the residual sigma z of y = image + sigma z, told sigma or blind to it.

    Kadkhodaie et al. 2024, section 2. Half of x / a and a half is such a y, whose sigma is half of that of images in [-1, 1].
    """

    def denoised(self, noisy: Tensor, sigma: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        """Return the image in [-1, 1]."""
        y = (noisy + 1) / 2
        return 2 * (y - self.network(y, (sigma / 2).flatten(), *labels)) - 1


class OneLabel(nn.Module):
    """A network that takes labels, given the same one always."""

    def __init__(self, network: nn.Module, label: int) -> None:
        super().__init__()
        self.network, self.label = network, label
        self.training = network.training
        if stages := getattr(network, "stages", None):
            self.stages = stages

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, t, torch.full((len(x),), self.label, device=x.device))


def without_labels(network: nn.Module, spec: Spec) -> nn.Module:
    """Return the network of a spec as a function of image and step alone, given no class where it takes labels; refuse one without that."""
    if not spec.classes:
        return network
    if spec.no_class is None:
        raise UsageError(
            f"The model '{spec.model.name}' takes class labels and has none for no class (class_dropout = 0): this is computed of a "
            "network without labels. Train it with `overrides=['model.class_dropout=0.1']`, where the model has that field."
        )
    return OneLabel(network, spec.no_class)


def noise_estimate(network: nn.Module, recipe: Recipe | External) -> nn.Module:
    """Return a network that was trained by a recipe as one that estimates the noise; it itself where it does so already."""
    if isinstance(network, ClosedForm | NoiseEstimate):  # what is fitted has no objective but its own
        return network
    if isinstance(recipe, External) and recipe.convention != "here":
        return _of_convention(network, recipe)
    if recipe.prediction == "noise" and recipe.noise_schedule == "linear":
        return network
    return NoiseEstimate(network, recipe.prediction, recipe.noise_schedule)


def _of_convention(network: nn.Module, asked: External) -> NoiseEstimate:
    if asked.convention == "improved_cosine":
        return ImprovedCosineEstimate(network, asked.cosine_steps)
    if asked.convention == "edm":
        return EdmEstimate(network, asked.sigma_data)
    if asked.convention == "sigma":
        return SigmaEstimate(network)
    if asked.convention == "residual":
        return ResidualEstimate(network)
    return InterpolantEstimate(network, toward_image=asked.convention == "sit")


def as_network(estimate: Estimate) -> Denoiser:
    """Return a network that gives this estimate of the noise; refuse what cannot be called."""
    if not callable(estimate):
        raise UsageError(f"A denoiser is called with (x, t) and returns the noise; a {type(estimate).__name__} cannot be called.")
    return estimate if isinstance(estimate, Denoiser) else Denoiser(estimate)


def device_of(network: nn.Module) -> torch.device:
    """Return where a network's weights lie; the CPU where it has none."""
    first = next(chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode for the time of the block; every part of it goes back to its own mode."""
    before = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


def pair_of_images(train: Images, test: Images, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return both sides (N, C, R, R) uint8 as tensors on a device; refuse what is anything else, and sides of other shapes."""
    first, second = _uint8(train, "training").to(device), _uint8(test, "test").to(device)
    if first.shape[1:] != second.shape[1:]:
        raise UsageError(
            f"The training images are {tuple(first.shape[1:])}, the test images {tuple(second.shape[1:])}: both must be alike."
        )
    return first, second


def _uint8(images: Images, what: str) -> Tensor:
    tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    if tensor.dtype != torch.uint8 or tensor.dim() != 4 or tensor.shape[2] != tensor.shape[3] or not len(tensor):
        raise UsageError(f"The {what} images must be uint8 of shape (N, C, R, R); these are {tensor.dtype} of shape {tuple(tensor.shape)}.")
    return tensor
