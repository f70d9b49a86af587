"""`bench evaluate --weights` and `--denoiser`: a network that was trained elsewhere."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.commands.flags import whole
from benchmark.commands.words import typed
from benchmark.errors import BenchError, UsageError

if TYPE_CHECKING:
    from torch import nn

    from benchmark.declaring.spec import Spec
    from benchmark.recording.record import Record
    from benchmark.run import Place
    from benchmark.running.progress import Display


def weights_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of networks from elsewhere."""
    group = parser.add_argument_group("a network from elsewhere, in place of RUN")
    group.add_argument("--weights", type=Path, metavar="FILE", help="a state dict: .safetensors, or a .pt of plain tensors")
    group.add_argument(
        "--format",
        choices=("dit", "unet", "sit", "diversedit"),
        help="whose parameter names it has: the official DiT's, improved-diffusion's, SiT's or DiverseDiT's",
    )
    group.add_argument("--key", metavar="NAME", help="the table of weights in the file, where there are several (ema, model, …)")
    group.add_argument("--label", type=int, metavar="K", help="the class that every image gets, where the weights have classes")
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
        choices=("here", "sit", "repa", "improved_cosine"),
        help="how it takes image and time, where not as its format's release: noisy images of the linear schedule and its steps (here), "
        "the straight path of SiT or of REPA and DiverseDiT, improved-diffusion's cosine schedule",
    )
    group.add_argument("--cosine-steps", type=whole(1, 1_000_000), default=4000, metavar="T", help="of improved_cosine (default: 4000)")
    for axis in ("model", "layout", "dataset"):
        group.add_argument(f"--{axis}", metavar="NAME", help=f"a name from `bench list {axis}s`")
    group.add_argument("--recipe", metavar="NAME", default="paper", help="whose evaluation is taken (default: paper)")
    group.add_argument("--subset", type=int, metavar="N", help="the N it was trained on (default: what the recipe is made for)")
    group.add_argument("--seed", type=int, metavar="K", default=0, help="shuffle and noise (default: 0)")
    group.add_argument("--set", action="append", default=[], metavar="AXIS.FIELD=VALUE", dest="overrides", help="change one field")
    group.add_argument("--publish", metavar="NAME", help="put the row on the leaderboard, marked as trained elsewhere, under this name")


def evaluate_weights(options: argparse.Namespace, spec: "Spec", place: "Place") -> tuple["Record", Path]:
    """Score weights from elsewhere; return the record and where it lies."""
    from benchmark import run as runs
    from benchmark.contract import ClosedForm
    from benchmark.networks import weights
    from benchmark.running.progress import Display

    if options.format is None:
        raise UsageError("--weights needs --format: dit, unet, sit or diversedit, whose parameter names it has.")
    _check_name(options.publish)
    convention = options.convention or ("here" if options.prediction else weights.OFFICIAL[options.format])
    origin = f"{spec.model.name} with weights in format {options.format} from {options.weights.name}"
    named = weights.external(
        spec,
        publish=options.publish,
        origin=origin,
        prediction=options.prediction,
        convention=convention,
        cosine_steps=options.cosine_steps,
    )
    network = runs.build(spec)
    if isinstance(network, ClosedForm):
        raise UsageError(f"The model '{spec.model.name}' is fitted in closed form: it has no weights to load.")
    with Display(words=typed) as display:
        _filled(network, spec, options, display)
        result = runs.score_loaded(named, place, display, network)
    return _kept(result, place, options.publish)


def evaluate_denoiser(options: argparse.Namespace, place: "Place") -> tuple["Record", Path]:
    """Score a Python callable; return the record and where it lies."""
    from benchmark import run as runs
    from benchmark.declaring import registry
    from benchmark.networks import outside
    from benchmark.running.progress import Display

    if wrong := [name for name in ("format", "key", "label", "model", "layout") if getattr(options, name) is not None]:
        raise UsageError(f"--{wrong[0]} belongs to --weights: a callable has its own weights, names and layers.")
    if options.dataset is None:
        raise UsageError("--denoiser needs --dataset: the images that it is scored on (`bench list datasets`).")
    _check_name(options.publish)
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
        search=registry.roots(options.registry),
    )
    with Display(words=typed) as display:
        display.note(f"The code of {options.denoiser} is imported and run here, as it is.")
        result = runs.score_loaded(named, place, display, outside.tried(runs.build(named), named.images, options.denoiser))
    return _kept(result, place, options.publish)


def _filled(network: "nn.Module", spec: "Spec", options: argparse.Namespace, display: "Display") -> None:
    """Load the weights into the network, and say all that was done to them."""
    from benchmark.networks import weights, weights_file

    path = options.weights
    read = weights_file.read(path, options.key)
    labelled = bool(getattr(spec.model.config, "num_classes", 0))
    of_network, said = weights.fitted(weights.denoiser(read.weights, options.format), network.state_dict(), spec.images.channels, path)
    tensors = of_network if labelled else weights.unlabelled(of_network, options.format, options.label, path)
    fixed = weights.fill(network, tensors, path, spec.model.name)
    for note in [*read.said, *said]:
        display.note(f"{note}.")
    if fixed:
        display.note(f"{path} lacks {', '.join(fixed)}: fixed in this model, no weight, and taken as it is built.")


def _check_name(publish: str | None) -> None:
    from benchmark.recording import record

    if publish is not None and not record.NAME.fullmatch(publish):
        raise UsageError(f"--publish {publish!r} must be letters, digits, '_', '.' and '-': it becomes a file name.")


def _kept(result: "Record", place: "Place", publish: str | None) -> tuple["Record", Path]:
    from benchmark.recording import record

    path = place.home / "runs" / f"external-{result.weights_sha256[:12]}-{result.id}" / "record.json"
    record.write(result, path)
    return result, _publish(result, place, publish) if publish else path


def _publish(result: "Record", place: "Place", name: str) -> Path:
    from benchmark.recording import record

    path = record.path_of(place.records, result.row)
    before = record.read(path) if path.exists() else result
    if (before.weights_sha256, before.id) != (result.weights_sha256, result.id):
        raise BenchError(f"{path} is the row of other weights under the name '{name}'. Publish these under another name, or remove it.")
    record.write(result, path)
    return path
