"""`bench pca`: the principal components of a trained network's attention maps, for the PCA attention of another."""

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from benchmark.commands.flags import (
    command,
    json_flag,
    machine_flags,
    records_flag,
    registry_flag,
)
from benchmark.commands.output import near, print_json, print_table, say
from benchmark.commands.place import place_of, run_folder
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from benchmark.analysis.pca import Components
    from benchmark.recording.record import Record
    from benchmark.run import Place
    from benchmark.running.progress import Display

MEMORY = 4 << 30  # bytes that the kept maps of all layers may take unless --rank says otherwise
RANK = 1024  # at most this many of each layer, unless --rank says otherwise


def add(verbs: Any) -> None:
    """Add `bench pca`."""
    parser = command(
        verbs,
        "pca",
        pca,
        "principal components of a trained network's attention maps, for PCA attention",
        "bench pca --run 1a2b3c4d5e6f",
        "bench pca --run 1a2b3c4d5e6f --components 32 --images 64 --rank 256",
    )
    parser.add_argument("--run", metavar="RUN", required=True, help="a finished run: its id, its first digits, or its folder")
    parser.add_argument("--components", type=int, metavar="K", default=8, help="components of each layer (default: 8)")
    parser.add_argument(
        "--images", type=int, metavar="N", default=48, help="training images of the run, at most as many as it has (default: 48)"
    )
    parser.add_argument("--timesteps", type=int, metavar="T", default=10, help="evenly spread diffusion steps (default: 10)")
    parser.add_argument(
        "--rank",
        type=int,
        metavar="R",
        help="directions kept on the way; exact from the number of maps on, N x T x heads (default: 1024, "
        "less where 4 GiB do not hold as many)",
    )
    parser.add_argument("--name", metavar="NAME", help="beginning of the file's name (default: the model's)")
    registry_flag(parser)
    machine_flags(parser)
    records_flag(parser)
    json_flag(parser)


def pca(options: argparse.Namespace) -> int:
    """`bench pca`."""
    from benchmark.networks import artifacts
    from benchmark.recording import record
    from benchmark.running.progress import Display

    _check(options)
    folder = run_folder(options.run)
    if not (folder / "record.json").exists():
        raise UsageError(f"The run {folder.name} is not finished, so it has no attention to analyse yet. `bench run` finishes it.")
    stored, place = record.read(folder / "record.json"), place_of(options)
    with Display(words=typed) as display:
        found, origin = _components(stored, options, place, display)
    tensors = {"mean": found.mean, "components": found.components, "deviations": found.deviations, "explained": found.explained}
    path, digest = artifacts.save(place.home, options.name or f"{stored.row.model}_pca", tensors, origin)
    _print(found, near(path), digest, options)
    return 0


def _components(stored: "Record", options: argparse.Namespace, place: "Place", display: "Display") -> tuple["Components", dict[str, Any]]:
    """Return the components of a finished run's network on its training images, and where they come from."""
    import torch

    from benchmark import run as runs
    from benchmark.analysis.attention import attention_layers
    from benchmark.analysis.pca import attention_components
    from benchmark.declaring import spec as specs
    from benchmark.networks.denoiser import without_labels

    spec = specs.from_record(stored.spec, overrides=stored.overrides, assumed=stored.assumed, search=registry.roots(options.registry))
    subset = runs.load_subset(spec, place, display)
    network = without_labels(runs.trained_network(spec, place, display, subset, stored.weights_sha256), spec)
    if not (layers := len(attention_layers(network))):
        raise UsageError(
            f"The model '{spec.model.name}' of run {stored.id} has no attention layers whose maps can be taken. Name a run of a DiT."
        )
    images = torch.from_numpy(subset.train[: options.images]).to(place.device)
    tokens, heads = _size(network, images)
    maps = len(images) * options.timesteps * heads
    rank = options.rank or max(options.components + 1, min(RANK, MEMORY // (8 * tokens**2 * layers)))
    if options.components > min(maps - 1, rank):
        raise UsageError(
            f"--components {options.components} must be at most {min(maps - 1, rank)}: there are {maps} maps of "
            f"each layer ({len(images)} images x {options.timesteps} steps x {heads} heads), and --rank is {rank}."
        )
    found = attention_components(
        network,
        images,
        seed=spec.seed,
        timesteps=options.timesteps,
        count=options.components,
        rank=rank,
        progress=display.bar("attention maps"),
    )
    return found, _origin(stored, options, len(images), rank, found)


def _origin(stored: "Record", options: argparse.Namespace, images: int, rank: int, found: "Components") -> dict[str, Any]:
    """Return what the components were made from, and the two commands that make them again."""
    row = stored.row
    axes = [word for axis in ("model", "layout", "dataset", "recipe") for word in (f"--{axis}", getattr(row, axis))]
    changes = [word for override in stored.overrides for word in ("--set", override)]
    half = ["--half", stored.half] if stored.half else []
    counts = {"components": options.components, "images": images, "timesteps": options.timesteps, "rank": rank}
    return {
        "kind": "attention-pca-1",
        "run": stored.id,
        "spec": stored.spec,
        "overrides": list(stored.overrides),
        "weights_sha256": stored.weights_sha256,
        "train_sha256": stored.data.train_sha256,
        "maps": found.maps,
        "lost": found.lost,
        **counts,
        "commands": [
            shlex.join(["bench", "run", *axes, "--subset", str(row.subset), "--seed", str(row.seed), *half, *changes]),
            shlex.join(["bench", "pca", "--run", stored.id, *(word for key, n in counts.items() for word in (f"--{key}", str(n)))]),
        ],
    }


def _check(options: argparse.Namespace) -> None:
    for flag in ("components", "images", "timesteps", "rank"):
        value = getattr(options, flag)
        if value is not None and value < 1:
            raise UsageError(f"--{flag} {value} must be at least 1.")
    if options.timesteps > 1000:
        raise UsageError(f"--timesteps {options.timesteps} must be at most 1000, the number of diffusion steps.")
    if options.name is not None and not options.name.replace("_", "").replace("-", "").isalnum():
        raise UsageError(f"--name {options.name} must be letters, digits, '_' and '-': it becomes the name of a file.")


def _size(network: "nn.Module", images: Any) -> tuple[int, int]:
    """Return the tokens and heads of the network's maps, which must be square and the same in every layer."""
    from benchmark.analysis.attention import attention_maps
    from benchmark.networks.diffusion import scaled

    shapes = {tuple(one.shape[1:]) for one in attention_maps(network, scaled(images[:1]), images.new_zeros(1).long())}
    if len(shapes) != 1:
        raise UsageError("The attention layers of this run have maps of several sizes; components are for one size.")
    heads, tokens, _ = shapes.pop()
    return tokens, heads


def _print(found: "Components", path: str, digest: str, options: argparse.Namespace) -> None:
    shares = found.explained.sum(1).tolist()
    if options.json:
        print_json({"file": path, "sha256": digest, "maps": found.maps, "lost": found.lost, "explained": found.explained.tolist()})
        return
    rows = [
        (str(layer), f"{one:.1%}", " ".join(f"{share:.3f}" for share in found.explained[layer].tolist()[:8]))
        for layer, one in enumerate(shares)
    ]
    print_table(
        f"{options.components} components of each layer, from {found.maps:,} maps",
        ("layer", "variance explained", "share of the first ones"),
        rows,
    )
    exact = "exact to rounding" if found.lost < 1e-6 else f"too small by at most {found.lost:.2%}; a larger --rank is more exact"
    say(f"The shares are {exact}.")
    say(f"The file: {path}\nFor the entry: components = '{digest}'")
