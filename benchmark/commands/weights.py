"""`bench evaluate --weights`: a network that was trained elsewhere."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.commands.words import typed
from benchmark.errors import BenchError, UsageError

if TYPE_CHECKING:
    from benchmark.declaring.spec import Spec
    from benchmark.recording.record import Record
    from benchmark.run import Place


def weights_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of weights from elsewhere."""
    group = parser.add_argument_group("weights from elsewhere, in place of RUN")
    group.add_argument("--weights", type=Path, metavar="FILE", help="a state dict: .safetensors, or a .pt of plain tensors")
    group.add_argument(
        "--format",
        choices=("dit", "unet", "diversedit"),
        help="whose parameter names it has: the official DiT's, improved-diffusion's or DiverseDiT's (it must estimate the noise)",
    )
    group.add_argument("--label", type=int, metavar="K", help="the class that every image gets, where the weights have classes")
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
    from benchmark.recording import record
    from benchmark.running.progress import Display

    if options.format is None:
        raise UsageError("--weights needs --format: dit, unet or diversedit, whose parameter names it has.")
    if options.publish is not None and not record.NAME.fullmatch(options.publish):
        raise UsageError(f"--publish {options.publish!r} must be letters, digits, '_', '.' and '-': it becomes a file name.")
    named = weights.external(spec, publish=options.publish, file=options.weights, form=options.format)
    network = runs.build(spec)
    if isinstance(network, ClosedForm):
        raise UsageError(f"The model '{spec.model.name}' is fitted in closed form: it has no weights to load.")
    tensors = weights.denoiser(weights.read(options.weights), options.format)
    if not getattr(spec.model.config, "num_classes", 0):
        tensors = weights.unlabelled(tensors, options.format, options.label, options.weights)
    fixed = weights.fill(network, tensors, options.weights, spec.model.name)
    with Display(words=typed) as display:
        if fixed:
            display.note(f"{options.weights} lacks {', '.join(fixed)}: fixed in this model, no weight, and taken as it is built.")
        result = runs.score_loaded(named, place, display, network)
    path = place.home / "runs" / f"external-{result.weights_sha256[:12]}-{result.id}" / "record.json"
    record.write(result, path)
    return result, _publish(result, place, options.publish) if options.publish else path


def _publish(result: "Record", place: "Place", name: str) -> Path:
    from benchmark.recording import record

    path = record.path_of(place.records, result.row)
    if path.exists() and record.read(path).weights_sha256 != result.weights_sha256:
        raise BenchError(f"{path} is the row of other weights under the name '{name}'. Publish these under another name, or remove it.")
    record.write(result, path)
    return path
