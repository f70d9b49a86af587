"""A denoiser of anybody's: a Python function or module, named by where it is imported from, that is scored and never trained.

Its code runs in this process with all that the process may do. It is trusted by whoever names it.
"""

import hashlib
import importlib
import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.contract import Attention, Entry, FieldError, ImageShape, entry
from benchmark.declaring import registry
from benchmark.declaring.kinds import kind_of
from benchmark.declaring.recipe import Convention, Prediction
from benchmark.declaring.spec import Spec, resolve
from benchmark.errors import UsageError
from benchmark.networks.denoiser import as_network, noise_estimate
from benchmark.networks.weights import external

NOTHING_TO_LAY_OUT = {"model": "empirical_optimal", "layout": "global"}  # a row without attention, whose model the callable becomes


@entry(kind="outside_denoiser")
class OutsideDenoiser:
    """What `function`, 'package.module:name', names: called with (x, t), it returns an estimate of the shape of x.

    `code` is the sha256 of the file that it is defined in, so that other code is another row.
    """

    function: str
    code: str

    attention_layers = 0

    def build(self, images: ImageShape, attention: tuple[Attention, ...]) -> nn.Module:
        """Return the callable as a network; on torch's meta device, where costs are counted, one that costs nothing."""
        if torch.empty(0).is_meta:
            return _Unknown()
        found = imported(self.function)
        if code_of(found) != self.code:
            raise FieldError(f"function = {self.function!r} is other code than was scored ({self.code[:12]})")
        return as_network(found)


class _Unknown(nn.Module):
    """What a callable costs is not known: it may be no torch at all."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x


def imported(function: str) -> Any:
    """Import 'package.module:name' and return what it names; raise UsageError where it is not there, or raises."""
    module, colon, name = function.partition(":")
    if not colon or not module or not name:
        raise UsageError(f"`function={function!r}` must be package.module:name, as in my_code.denoisers:best.")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as problem:  # it is foreign code: whatever it raises is said with its name
        raise UsageError(f"`function={function!r}` cannot be imported: {type(problem).__name__}: {problem}") from None
    return found


def tried(network: nn.Module, spec: Spec, function: str) -> nn.Module:
    """Call a callable once as it will be scored, by the convention of its spec; raise UsageError where it does not take such images."""
    shape = (2, spec.images.channels, spec.images.resolution, spec.images.resolution)
    try:
        with torch.no_grad():
            noise_estimate(network, spec.recipe.config)(torch.zeros(shape), torch.tensor([0, 999]))
    except UsageError:
        raise
    except Exception as problem:  # foreign code
        said = " ".join(str(problem).split())
        raise UsageError(f"`function={function!r}`, called with x {shape} and t (2,), raised {type(problem).__name__}: {said}") from None
    return network


def code_of(found: Any) -> str:
    """Return the sha256 of the file that a callable is defined in; '' where it has none (built in, or typed at a prompt)."""
    defined = found if inspect.isroutine(found) or inspect.isclass(found) else type(found)
    try:
        path = inspect.getsourcefile(defined)
    except TypeError:
        return ""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path and Path(path).is_file() else ""


def spec_of(
    function: str,
    *,
    dataset: str,
    recipe: str,
    subset: int | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
    publish: str | None = None,
    prediction: Prediction | None = None,
    convention: Convention = "here",
    cosine_steps: int = 4000,
    sigma_data: float = 0.5,
    search: tuple[Path, ...] = (registry.STOCK,),
) -> Spec:
    """Return the spec of a callable's row: the evaluation of a recipe on the images of a dataset."""
    found = as_network(imported(function)).estimate
    if changed := [word for word in overrides if word.startswith("model.")]:
        raise UsageError(f"`overrides={changed[:1]}`: a callable has no fields. Change its code.")
    spec = resolve(
        NOTHING_TO_LAY_OUT | {"dataset": dataset, "recipe": recipe}, subset=subset, seed=seed, overrides=overrides, search=search
    )
    config = OutsideDenoiser(function=function, code=code_of(found))
    spec = replace(spec, model=Entry(function.replace(":", "."), kind_of(OutsideDenoiser), config))
    return external(
        spec,
        publish=publish,
        origin=f"the callable {function}",
        prediction=prediction,
        convention=convention,
        cosine_steps=cosine_steps,
        sigma_data=sigma_data,
    )
