"""The instrument: it measures what registry/ declares. The names below are its Python API; docs/python.md shows them.

Importing it costs nothing: torch, pandas and matplotlib wait inside the functions that need them.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    import numpy as np
    import pandas
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from benchmark import run as run
    from benchmark.contract import ImageShape
    from benchmark.declaring import spec as spec
    from benchmark.declaring.recipe import Prediction
    from benchmark.declaring.spec import Half, Spec
    from benchmark.images.subsets import Subset
    from benchmark.recording.record import Psnr, Record
    from benchmark.running.place import Place
    from benchmark.sampling import Precision
    from benchmark.sampling.samplers import Variance

    Denoiser = Callable[[Tensor, Tensor], Tensor]
    Images = np.ndarray | Tensor

__version__ = "0.1.0"
__all__ = ["Loaded", "load", "plot_curves", "records", "resolve", "run", "sample", "score", "spec"]

_MODULES = {"run": "benchmark.run", "spec": "benchmark.declaring.spec"}


@final
@dataclass(frozen=True)
class Loaded:
    """A trained network and what it is: the spec it was trained by, its record, its images."""

    network: "nn.Module"
    spec: "Spec"
    record: "Record"
    place: "Place"

    @cached_property
    def images(self) -> "Subset":
        """The images it was trained on and those held out, uint8 (N, C, R, R); read, or generated, when first asked for."""
        from benchmark.run import load_subset
        from benchmark.running.progress import Display

        with Display() as display:
            return load_subset(self.spec, self.place, display)


def resolve(
    *,
    model: str,
    layout: str,
    dataset: str,
    recipe: str,
    subset: int | None = None,
    seed: int = 0,
    half: "Half | None" = None,
    overrides: Sequence[str] = (),
    registry: Sequence[Path] = (),
) -> "Spec":
    """Return the spec of a run by the names of its entries; `overrides` as in ['recipe.steps=500'] change single fields.

    `subset` is the number of training images, where None the one that the recipe is made for. `registry` names folders
    of further entries. Raise UsageError, which says what there is, where a name is unknown.
    """
    from benchmark.declaring import registry as declared
    from benchmark.declaring import spec as specs

    names = {"model": model, "layout": layout, "dataset": dataset, "recipe": recipe}
    search = declared.roots([Path(folder) for folder in registry])
    return specs.resolve(names, subset=subset, seed=seed, half=half, overrides=overrides, search=search)


def load(run: "str | Path | Record", *, device: str = "auto", registry: Sequence[Path] = ()) -> Loaded:
    """Return the trained network of a finished run, in evaluation mode, with its EMA weights.

    `run` is a run's id, the id's first digits, its folder, a record, or a record's file. Raise UsageError, which says
    how to train it, where its weights are not here: a record holds numbers alone.
    """
    from benchmark.declaring import registry as declared
    from benchmark.declaring.spec import from_record
    from benchmark.run import trained_network
    from benchmark.running import finished
    from benchmark.running.progress import Display

    found = finished.find(run, device)
    search = declared.roots([Path(folder) for folder in registry])
    spec = from_record(found.record.spec, overrides=found.record.overrides, assumed=found.record.assumed, search=search)
    with Display() as display:
        network = trained_network(spec, found.place, display, None, found.record.weights_sha256)
    return Loaded(network, spec, found.record, found.place)


def records(folder: Path | None = None) -> "pandas.DataFrame":
    """Return the records under a folder (default: the leaderboard's), one row a record, halves and unranked ones included.

    The columns are named as in `bench leaderboard --json`; behind them stand the sample-quality scores by name and the
    numbers of the published analyses, "<analysis>.<number>".
    """
    from benchmark.files import home
    from benchmark.recording.frame import frame

    return frame(home() / "leaderboard" / "records" if folder is None else Path(folder))


def score(
    network: "nn.Module | Denoiser",
    train: "Images",
    test: "Images",
    *,
    seed: int = 0,
    steps: int = 50,
    images: int = 300,
    batch: int | None = None,
    prediction: "Prediction" = "noise",
) -> "Psnr":
    """Return the PSNR curves and the gap (Eq. 2-4) of any denoiser (x, t) -> eps on images of both sides.

    x: (N, C, R, R) noisy images in [-1, 1], t: (N,) diffusion steps in [0, 1000). The images are uint8 (K, C, R, R);
    the first `images` of each side are scored at `steps` evenly spaced diffusion steps. The noise is a function of the
    seed, so that two denoisers are compared on the same noise. One that estimates the clean image has `prediction` "data";
    "velocity" is that of Salimans & Ho 2022, "flow" the noise less the image.
    """
    from benchmark.networks.denoiser import NoiseEstimate, as_network, device_of, evaluating, pair_of_images
    from benchmark.networks.numerics import reproducible
    from benchmark.running.progress import Display
    from benchmark.scoring.psnr import psnr

    denoiser = as_network(network)
    sides = pair_of_images(train, test, device_of(denoiser))
    estimate = denoiser if prediction == "noise" else NoiseEstimate(denoiser, prediction, "linear")
    with Display() as display, reproducible(), evaluating(estimate):
        return psnr(estimate, *sides, seed=seed, steps=steps, images=images, batch=batch, progress=display.bar("scoring"))


def sample(
    network: "Loaded | nn.Module | Denoiser",
    count: int = 64,
    *,
    shape: "ImageShape | tuple[int, int] | None" = None,
    sampler: str = "dpm",
    steps: int | None = None,
    eta: float = 0.0,
    variance: "Variance" = "beta_tilde",
    guidance: float | None = None,
    seed: int = 0,
    batch: int = 64,
    precision: "Precision" = "fp32",
) -> "np.ndarray":
    """Return `count` images drawn from a denoiser, uint8 (count, C, R, R); the k-th is a function of (seed, k).

    `shape` is (channels, resolution); a network from `load` knows its own. `sampler` is ancestral, ddim, dpm, euler or
    heun, `steps` its network evaluations (default: 250, 50, 20, 50, 25; heun evaluates twice a step); `eta` is the noise of ddim,
    `variance` that of ancestral, beta_tilde or beta. `precision` of the network's passes is fp32, bf16 or, on a GPU, tf32. A
    network from `load` that takes class labels draws them evenly from all classes; `guidance` W is classifier-free: no class +
    W (class - no class).
    """
    from torch import nn

    from benchmark.contract import ImageShape
    from benchmark.errors import UsageError
    from benchmark.networks.denoiser import as_network, evaluating
    from benchmark.networks.numerics import reproducible
    from benchmark.running.progress import Display
    from benchmark.sampling import draw_batches, request_of

    classes, null = 0, False
    if isinstance(network, Loaded):
        shape, classes, null = shape or network.spec.images, network.spec.classes, network.spec.no_class is not None
        network = network.network
    if shape is None:
        raise UsageError("Which images are to be drawn? shape=(channels, resolution) says it.")
    size = shape if isinstance(shape, ImageShape) else ImageShape(*shape)
    wanted = request_of(count, sampler, steps, eta=eta, variance=variance, guidance=guidance, seed=seed, precision=precision)
    denoiser = network if classes and isinstance(network, nn.Module) else as_network(network)
    with Display() as display, reproducible(), evaluating(denoiser):
        return draw_batches(denoiser, wanted, size, batch, display.bar("sampling"), classes=classes, null=null)


def plot_curves(curves: "Psnr | Record | Mapping[str, Psnr | Record]") -> "Figure":
    """Return a figure of PSNR over the diffusion steps (train solid, test dashed) and the gap, one line a label.

    Records of several N stand in panels of their own. A notebook shows the figure as it is; `savefig` writes it.
    """
    from benchmark.recording.curves import figure_of

    return figure_of(curves)


def __getattr__(name: str) -> ModuleType:
    """Give the two modules that are part of the API when they are first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module 'benchmark' has no attribute '{name}'")
    return importlib.import_module(_MODULES[name])
