"""What is said of a spec before it trains."""

import torch

from benchmark.contract import ClosedForm
from benchmark.declaring.recipe import Recipe
from benchmark.declaring.spec import Spec
from benchmark.errors import UsageError
from benchmark.networks.cost import on_meta


def check_trainable(spec: Spec) -> None:
    """Raise UsageError where a model wants other class labels than its dataset has, or cannot be scored along its noise schedule."""
    check_labels(spec)
    recipe = spec.recipe.config
    if isinstance(recipe, Recipe) and recipe.noise_schedule != "linear":
        _check_real_steps(spec, recipe.noise_schedule)


def check_labels(spec: Spec) -> None:
    """Raise UsageError where a model takes labels of other classes than those of its dataset."""
    wanted, there = spec.classes, getattr(spec.dataset.config, "classes", 0)
    if wanted and not there:
        raise UsageError(
            f"The model '{spec.model.name}' takes class labels (num_classes = {wanted}), and the images of '{spec.dataset.name}' have "
            "none. Take a dataset that has them, or train it without: `overrides=['model.num_classes=0']`. Weights trained elsewhere "
            "with labels are scored with one of them: `benchmark.networks.weights.unlabelled(..., path=FILE, form='dit', label=K)`."
        )
    if wanted and wanted != there:
        raise UsageError(
            f"The model '{spec.model.name}' takes labels of {wanted:,} classes, and those of '{spec.dataset.name}' tell {there:,} apart. "
            f"Take `overrides=['model.num_classes={there}']`."
        )


def _check_real_steps(spec: Spec, schedule: str) -> None:
    """Raise UsageError where a network looks its steps up in a table: another schedule has the levels of the linear one between steps."""
    network, images = on_meta(spec), spec.images
    if isinstance(network, ClosedForm):
        return
    try:
        with torch.no_grad():
            shape = (1, images.channels, images.resolution, images.resolution)
            given = torch.zeros(shape, device="meta"), torch.full((1,), 0.5, device="meta")
            network.eval()(*given, *([torch.zeros(1, dtype=torch.long, device="meta")] if spec.classes else []))
    except Exception as problem:  # an entry is foreign code
        said = " ".join(str(problem).split())
        raise UsageError(
            f"The model '{spec.model.name}' takes whole diffusion steps alone ({type(problem).__name__}: {said}), and along the noise "
            f"schedule '{schedule}' it is scored between them. Take a recipe with `overrides=['recipe.noise_schedule=linear']`."
        ) from None


def short_of_memory(spec: Spec) -> str | None:
    """Say where the EMA, which is what is scored, remembers longer than the run lasts: much of it is still the initial weights."""
    recipe = spec.recipe.config
    if not isinstance(recipe, Recipe) or recipe.steps >= 1 / (1 - recipe.ema):
        return None
    return (
        f"The EMA remembers about {1 / (1 - recipe.ema):,.0f} steps, and the run has {recipe.steps:,}: the averaged network, which is "
        f"scored, still holds {100 * recipe.ema**recipe.steps:.0f}% of the initial weights. Train longer, or take a smaller ema than "
        f"{recipe.ema:g}."
    )
