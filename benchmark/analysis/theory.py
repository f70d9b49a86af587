"""Does a network denoise as a theory says? r^2 with denoisers that are fitted to its training images in closed form.

The references are entries of the registry: the optimal denoiser of the training images (the perfect memoriser), the
linear one of least error, the local score machine of Kamb & Ganguli 2024 at the patch that agrees best at each noise
level, and one that is local by the data's principal components (after Lukoianov et al. 2025). r^2 is the squared
correlation between the numbers of two images, pixels and channels alike: of x0_hat (clipped) from the same noisy image,
and of samples from the same noise (DDIM, 20 steps); the median over images is told. At the highest noise the references
answer with nearly the mean training image, so that they agree with each other.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.analysis import study
from benchmark.contract import ClosedForm, ImageShape
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.networks.diffusion import alphas_cumprod, denoised, levels, random_key
from benchmark.sampling.samplers import ddim, kept_steps, predictor, signal_levels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = "theory-1"
LOCAL = "local_score"
REFERENCES = ("empirical_optimal", "wiener", LOCAL, "pca_locality")
SAMPLER_STEPS = 20
SHOWN = 6  # samples in the picture
Denoise = Callable[[Tensor, Tensor], Tensor]  # x (K, C, R, R) float64, t (K,) -> eps_hat


def analyse(
    network: nn.Module, images: Tensor, request: study.Request, progress: study.Progress, parts: study.Parts, train: Tensor
) -> study.Result:
    """Return r^2 with every reference at each noise level and over samples; `train` (N, C, R, R) uint8 is what they are fitted to."""
    mine, steps = _as_double(network), request.timesteps
    fitted: dict[str, Denoise] = {name: _fitted(name, train) for name in REFERENCES if name != LOCAL}
    total = len(steps) + 1 + len(REFERENCES)
    levels_done = []
    for done, timestep in enumerate(steps, start=1):
        x, _ = study.noisy(images, timestep, request)
        levels_done.append(_at_level(mine, fitted, x, timestep, train, parts))
        progress(done, total, f"t = {timestep}")
    sides = [int(found["side"]) for found in levels_done]
    fitted[LOCAL] = _fitted(LOCAL, train, **patches_of(dict(zip(steps, sides, strict=True))))
    samples = {}
    for done, name in enumerate(("network", *REFERENCES), start=len(steps)):
        samples[name] = _samples(mine if name == "network" else fitted[name], name, images, request, parts)
        progress(done, total, f"samples of {name}")
    arrays = {
        "timesteps": np.array(steps),
        "references": np.array(REFERENCES),
        "r2": np.stack([[found[name].numpy() for found in levels_done] for name in REFERENCES]),  # (references, steps, images)
        "r2_samples": np.stack([r2(samples["network"], samples[name]).numpy() for name in REFERENCES]),
        "samples": np.stack([samples[name][:SHOWN].numpy() for name in ("network", *REFERENCES)]).astype(np.float32),
    }
    numbers = _numbers(arrays) | {f"patch_side_t{step}": float(side) for step, side in zip(steps, sides, strict=True)}
    settings = {"references": list(REFERENCES), "training_images": len(train), "sampler": f"ddim, {SAMPLER_STEPS} steps"}
    return study.Result(numbers, arrays, {"agreement": partial(draw, arrays), "samples": partial(draw_samples, arrays)}, settings)


def _numbers(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the medians over images, by reference and step, and by reference over samples."""
    found: dict[str, float] = {}
    for name, levels_done, samples in zip(REFERENCES, arrays["r2"], arrays["r2_samples"], strict=True):
        found |= {f"r2_{name}_t{step}": float(np.median(one)) for step, one in zip(arrays["timesteps"], levels_done, strict=True)}
        found[f"r2_samples_{name}"] = float(np.median(samples))
    return found


def _at_level(mine: Denoise, fitted: dict[str, Denoise], x: Tensor, timestep: int, train: Tensor, parts: study.Parts) -> dict[str, Tensor]:
    """Return r^2 (K,) with every reference at one step, by name, and the `side` of the local machine's patch."""

    def measure(name: str) -> dict[str, Tensor]:
        ours = _clean(mine, x, timestep)
        return _best_side(ours, x, timestep, train) if name == LOCAL else {"r2": r2(ours, _clean(fitted[name], x, timestep))}

    found = {name: parts.keep(f"{name}-t{timestep}", partial(measure, name)) for name in REFERENCES}
    return {name: one["r2"] for name, one in found.items()} | {"side": found[LOCAL]["side"]}


def r2(one: Tensor, other: Tensor) -> Tensor:
    """Return the squared correlation of the numbers of two images, for each of (K, C, R, R); of a constant image 1 if both are, else 0."""
    a, b = (images.double().flatten(1) for images in (one, other))
    a, b = (values - values.mean(dim=1, keepdim=True) for values in (a, b))
    spread = a.square().sum(dim=1) * b.square().sum(dim=1)
    both = (a.square().sum(dim=1) == 0) & (b.square().sum(dim=1) == 0)
    return torch.where(spread > 0, (a * b).sum(dim=1).square() / spread.clamp_min(1e-300), both.double()).cpu()


def _fitted(name: str, train: Tensor, **fields: Any) -> nn.Module:
    """Return a reference of the registry, fitted; `fields` replace those of its entry."""
    config = load(registry.find("model", name)).config
    network: nn.Module = replace(config, **fields).build(ImageShape(train.shape[1], train.shape[2]), ()).to(train.device)
    assert isinstance(network, ClosedForm)
    network.fit(train)
    return network


def patches_of(sides: dict[int, int]) -> dict[str, tuple[int, ...]]:
    """Return the fields of a local score machine with these sides of its patch by diffusion step: a step takes that of the nearest."""
    steps = sorted(sides)
    begins = (0, *((a + b + 1) // 2 for a, b in zip(steps, steps[1:], strict=False)))
    return {"patches": tuple(sides[step] for step in steps), "from_steps": begins}


def _best_side(ours: Tensor, x: Tensor, timestep: int, train: Tensor) -> dict[str, Tensor]:
    """Return r^2 and the side of the patch whose median r^2 is the highest at one step, of the sides that the entry names."""
    whole = train.shape[2] - (train.shape[2] + 1) % 2  # the largest odd patch
    sides = sorted({min(side, whole) for side in load(registry.find("model", LOCAL)).config.patches})
    found = {side: r2(ours, _clean(_fitted(LOCAL, train, patches=(side,), from_steps=(0,)), x, timestep)) for side in sides}
    best = max(sides, key=lambda side: found[side].median().item())
    return {"r2": found[best], "side": torch.tensor(best)}


def _as_double(network: nn.Module) -> Denoise:
    """Return a network that computes in the type of its weights as one of float64; one that is fitted computes in float64."""
    weights = next(iter(network.parameters()), None)
    dtype = torch.float64 if weights is None else weights.dtype

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        found: Tensor = network(x.to(dtype), t)
        return found.double()

    return denoise


@torch.no_grad()
def _clean(denoise: Denoise, x: Tensor, timestep: int) -> Tensor:
    """Return x0_hat (K, C, R, R), clipped, in float64."""
    t = torch.full((len(x),), timestep, device=x.device)
    return denoised(x.double(), denoise(x.double(), t), levels(alphas_cumprod().to(x.device), t)).clipped


def _samples(denoise: Denoise, name: str, images: Tensor, request: study.Request, parts: study.Parts) -> Tensor:
    """Return as many samples as there are images, (K, C, R, R) float64, the k-th from noise that the request's seed and k decide."""

    @torch.no_grad()
    def sample() -> dict[str, Tensor]:
        keys = [random_key("analysis", request.seed, "sample", k) for k in range(len(images))]
        noise = [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(key)) for key in keys]
        x, steps = torch.stack(noise).double().to(images.device), kept_steps("ddim", SAMPLER_STEPS)
        *_, last = ddim(x, predictor(denoise, steps), signal_levels(steps), partial(torch.zeros_like, x))
        return {"x": last.clamp(-1, 1)}

    return parts.keep(f"samples-{name}", sample)["x"]


def draw(arrays: dict[str, np.ndarray], figure: "Figure") -> None:
    """Draw r^2 by reference over the noise levels, and over samples: the median, and the middle half of the images."""
    from benchmark.recording.style import WIDTH, colour, legend, marker

    figure.set_size_inches(WIDTH, 3.4)
    left, right = figure.subplots(1, 2, width_ratios=(2, 1), sharey=True)
    steps, handles = arrays["timesteps"], []
    order = np.argsort(steps)
    for place, name in enumerate(arrays["references"]):
        low, middle, high = np.quantile(arrays["r2"][place][order], (0.25, 0.5, 0.75), axis=1)
        look: dict[str, Any] = {"color": colour(place + 1), "marker": marker(place + 1), "markersize": 5}
        handles += left.plot(steps[order], middle, label=str(name), linewidth=1.3, **look)
        left.fill_between(steps[order], low, high, color=colour(place + 1), alpha=0.15, linewidth=0)
        low, middle, high = np.quantile(arrays["r2_samples"][place], (0.25, 0.5, 0.75))
        right.plot([place] * 2, [low, high], color=colour(place + 1), linewidth=2)
        right.plot([place], [middle], linestyle="none", **look)
    left.set_xlabel("diffusion step t")
    left.set_ylabel("r² with the network")
    left.set_ylim(-0.02, 1.02)
    left.set_title("x̂₀ of the same noisy image", fontsize=9)
    right.set_xticks([])
    right.set_xlim(-0.6, len(arrays["references"]) - 0.4)
    right.set_title("samples from the same noise", fontsize=9)
    legend(figure, handles)


def draw_samples(arrays: dict[str, np.ndarray], figure: "Figure") -> None:
    """Draw the samples of the network and of every reference, a column for each noise."""
    from benchmark.recording.style import WIDTH

    samples, names = arrays["samples"], ["network", *arrays["references"]]
    figure.set_size_inches(WIDTH * 0.8, 1.05 * len(names))
    grid = figure.subplots(len(names), samples.shape[1], squeeze=False)
    for row, (name, line) in enumerate(zip(names, samples, strict=True)):
        for axes, image in zip(grid[row], line, strict=True):
            pixels = ((image + 1) / 2).clip(0, 1).transpose(1, 2, 0)
            axes.imshow(pixels if pixels.shape[2] == 3 else pixels[:, :, 0], cmap="gray", interpolation="none", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
        grid[row][0].set_ylabel(str(name).replace("_", "\n"), fontsize=7, rotation=0, ha="right", va="center")
