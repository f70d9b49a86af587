"""`bench evaluate --weights` and `--denoiser`: a network that was trained elsewhere."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmark.commands.flags import above_zero, whole
from benchmark.commands.quality import wanted
from benchmark.errors import BenchError, UsageError

if TYPE_CHECKING:
    from torch import nn

    from benchmark.declaring.spec import Spec
    from benchmark.recording.record import Record
    from benchmark.run import Place
    from benchmark.running.progress import Display

# Of networks.weights.Format and declaring.recipe.Convention, which import more than a list of flags should.
FORMATS = ("dit", "unet", "sit", "diversedit", "bias_free")
CONVENTIONS = ("here", "sit", "repa", "improved_cosine", "edm", "sigma", "residual")


def weights_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of networks from elsewhere."""
    group = parser.add_argument_group("a network from elsewhere, in place of RUN")
    group.add_argument("--weights", type=Path, metavar="FILE", help="a state dict: .safetensors, or a .pt of plain tensors")
    group.add_argument(
        "--format",
        choices=FORMATS,
        help="whose parameter names it has: the official DiT's, improved-diffusion's, SiT's, DiverseDiT's, or those of the bias-free "
        "denoisers of Kadkhodaie et al. 2024",
    )
    group.add_argument("--key", metavar="NAME", help="the table of weights in the file, where there are several (ema, model, …)")
    group.add_argument(
        "--label", type=int, metavar="K", help="the class that every image gets, where the weights have classes and the model takes none"
    )
    group.add_argument(
        "--denoiser",
        metavar="PACKAGE.MODULE:NAME",
        help="a Python function or module called with (x, t), found from the current folder; its code is imported and RUN: trust it first",
    )
    group.add_argument(
        "--prediction",
        choices=("noise", "data", "velocity", "flow"),
        help="what it estimates (default: what the recipe trains, the noise under most)",
    )
    group.add_argument(
        "--convention",
        choices=CONVENTIONS,
        help="how it takes image and time, where not as its format's release: noisy images of the linear schedule and its steps (here), "
        "the straight path of SiT or of REPA and DiverseDiT, improved-diffusion's cosine schedule, within EDM's preconditioning; as a "
        "denoiser that is told sigma and returns the image, or the residual of images in [0, 1]",
    )
    group.add_argument("--cosine-steps", type=whole(1, 1_000_000), default=4000, metavar="T", help="of improved_cosine (default: 4000)")
    group.add_argument("--sigma-data", type=above_zero, default=0.5, metavar="S", help="of edm, for images in [-1, 1] (default: 0.5)")
    for axis in ("model", "layout", "dataset"):
        group.add_argument(f"--{axis}", metavar="NAME", help=f"a name from `bench list {axis}s`")
    group.add_argument("--recipe", metavar="NAME", default="paper", help="whose evaluation is taken (default: paper)")
    group.add_argument("--subset", type=int, metavar="N", help="the N it was trained on (default: what the recipe is made for)")
    group.add_argument("--seed", type=int, metavar="K", default=0, help="shuffle and noise (default: 0)")
    group.add_argument("--set", action="append", default=[], metavar="AXIS.FIELD=VALUE", dest="overrides", help="change one field")
    group.add_argument("--publish", metavar="NAME", help="put the row on the leaderboard, marked as trained elsewhere, under this name")


class Loaded(NamedTuple):
    """A network from elsewhere, and the spec of its row."""

    spec: "Spec"
    network: "nn.Module"


def loaded_weights(options: argparse.Namespace, spec: "Spec", display: "Display") -> Loaded:
    """Return the network of a spec with weights from elsewhere, and the spec of their row."""
    from benchmark import run as runs
    from benchmark.contract import ClosedForm
    from benchmark.networks import weights

    if options.format is None:
        raise UsageError(f"--weights needs --format, whose parameter names it has: {', '.join(FORMATS)}.")
    convention = options.convention or ("here" if options.prediction else weights.OFFICIAL[options.format])
    named = weights.external(
        spec,
        publish=options.publish,
        origin=f"{spec.model.name} with weights in format {options.format} from {options.weights.name}",
        prediction=options.prediction,
        convention=convention,
        cosine_steps=options.cosine_steps,
        sigma_data=options.sigma_data,
    )
    network = runs.build(spec)
    if isinstance(network, ClosedForm):
        raise UsageError(f"The model '{spec.model.name}' is fitted in closed form: it has no weights to load.")
    _filled(network, spec, options, display)
    return Loaded(named, network)


def loaded_denoiser(options: argparse.Namespace, display: "Display") -> Loaded:
    """Return a Python callable as a network, and the spec of its row."""
    from benchmark import run as runs
    from benchmark.declaring import registry
    from benchmark.networks import outside

    if wrong := [name for name in ("format", "key", "label", "model", "layout") if getattr(options, name) is not None]:
        raise UsageError(f"--{wrong[0]} belongs to --weights: a callable has its own weights, names and layers.")
    if options.dataset is None:
        raise UsageError("--denoiser needs --dataset: the images that it is scored on (`bench list datasets`).")
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: the module may lie where the command is typed
    named = outside.spec_of(
        options.denoiser,
        dataset=options.dataset,
        recipe=options.recipe,
        subset=options.subset,
        seed=options.seed,
        overrides=options.overrides,
        publish=options.publish,
        prediction=options.prediction,
        convention=options.convention or "here",
        cosine_steps=options.cosine_steps,
        sigma_data=options.sigma_data,
        search=registry.roots(options.registry),
    )
    display.note(f"The code of {options.denoiser} is imported and run here, as it is.")
    return Loaded(named, outside.tried(runs.build(named), named, options.denoiser))


def score_loaded(
    given: Loaded, place: "Place", display: "Display", search: tuple[Path, ...], options: argparse.Namespace
) -> tuple["Record", Path]:
    """Score a network from elsewhere by the metrics that were asked for; return its record and where it lies.

    A record begins with PSNR: it is measured where there is none yet. What the record has of other metrics stays.
    """
    from benchmark import run as runs
    from benchmark.quality import evaluation
    from benchmark.recording import record
    from benchmark.training.checkpoint import weights_digest

    rescore, metrics, request = wanted(options)
    if metrics and request:
        evaluation.check(given.spec, metrics, request, place, display, search)
    folder = place.home / "runs" / f"external-{weights_digest(given.network.state_dict())[:12]}-{given.spec.id}"
    path = folder / "record.json"
    before = record.read(path) if path.exists() else None
    result = before
    if result is None or rescore:
        result = runs.score_loaded(given.spec, place, display, given.network)
        result = replace(result, scores=before.scores) if before else result
        record.write(result, path)
    if metrics and request:
        result = evaluation.evaluate_loaded(folder, *given, metrics, request, place, display, search, options.batch)
    return (result, _publish(result, place, options.publish)) if options.publish else (result, path)


def check_name(publish: str | None) -> None:
    """Raise UsageError where a name to publish under could not be a file's."""
    from benchmark.recording import record

    if publish is not None and not record.NAME.fullmatch(publish):
        raise UsageError(f"--publish {publish!r} must be letters, digits, '_', '.' and '-': it becomes a file name.")


def _filled(network: "nn.Module", spec: "Spec", options: argparse.Namespace, display: "Display") -> None:
    """Load the weights into the network, and say all that was done to them."""
    from benchmark.networks import weights, weights_file

    path = options.weights
    read = weights_file.read(path, options.key)
    labelled = spec.classes > 0
    if labelled and options.label is not None:
        raise UsageError(
            f"--label {options.label}: the model '{spec.model.name}' takes labels (num_classes = {spec.classes}), and every image gets its "
            "own. Leave --label out, or give every image one label with --set model.num_classes=0."
        )
    of_network, said = weights.fitted(weights.denoiser(read.weights, options.format), network.state_dict(), spec.images.channels, path)
    tensors = of_network if labelled else weights.unlabelled(of_network, options.format, options.label, path)
    fixed = weights.fill(network, tensors, path, spec.model.name)
    for note in [*read.said, *said]:
        display.note(f"{note}.")
    if fixed:
        display.note(f"{path} lacks {', '.join(fixed)}: fixed in this model, no weight, and taken as it is built.")


def _publish(result: "Record", place: "Place", name: str) -> Path:
    from benchmark.recording import record

    path = record.path_of(place.records, result.row)
    before = record.read(path) if path.exists() else result
    if (before.weights_sha256, before.id) != (result.weights_sha256, result.id):
        raise BenchError(f"{path} is the row of other weights under the name '{name}'. Publish these under another name, or remove it.")
    record.write(replace(result, scores=before.scores | result.scores), path)
    return path
