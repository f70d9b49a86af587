"""Weights from elsewhere: a checkpoint of an official release to a network here, scored and told apart from a run.

The networks here have the parameter names of the official code (DiT, improved-diffusion's unet.py, and the skip_norms
and skip_linears of DiverseDiT's), so that no name is changed. DiverseDiT's files may hold heads that only its training
uses; they are left out. Only networks that estimate the noise under the linear schedule can be scored: its released SiT
weights estimate a velocity, and nothing in a file says so.
"""

import argparse
import dataclasses
import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmark.declaring import registry
from benchmark.declaring.kinds import kind_of
from benchmark.declaring.recipe import External
from benchmark.declaring.spec import Entry, Spec
from benchmark.errors import BenchError, UsageError

Format = Literal["dit", "unet", "diversedit"]
# Where training scripts keep the weights, the averaged ones first.
NESTED = ("ema", "model_ema", "ema_state_dict", "params_ema", "model", "model_state_dict", "state_dict", "params")
# What torch.compile, data parallelism, sharding and recomputation put between the parts of a name.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
TRAINING_ONLY = ("projectors.", "multiple_projectors.", "multiple_diff_projectors.", "ap_head.", "teacher_head.")
LABELS = {
    "dit": ("y_embedder.embedding_table.weight", "t_embedder.mlp.2.bias"),
    "diversedit": ("y_embedder.embedding_table.weight", "t_embedder.mlp.2.bias"),
    "unet": ("label_emb.weight", "time_embed.2.bias"),
}  # the table, and the bias that its row is added to
LAST = ("final_layer.linear.weight", "out.2.weight")


def external(spec: Spec, *, publish: str | None, file: Path, form: Format) -> Spec:
    """Return the spec of a network trained elsewhere: the recipe's evaluation without its training, under its own name.

    Raise UsageError where the name to publish is one that the project's own rows have.
    """
    if publish is not None:
        if publish in registry.entries("model"):
            raise UsageError(f"`publish={publish!r}`: the project's own model has this name. Give the row a name of its own.")
        if other := [word for word in spec.overrides if not word.startswith("model.")]:
            raise UsageError(
                f"`publish={publish!r}`: `overrides={other[:1]}` changes what the other rows of the table share; only model.FIELD may be."
            )
    recipe = spec.recipe.config
    config = External(psnr_steps=recipe.psnr_steps, psnr_images=recipe.psnr_images, ranked=recipe.ranked)
    said = (
        f"recipe.training: trained elsewhere, by a budget not known here; {spec.model.name} with weights in format {form} from {file.name}"
    )
    kept = tuple(line for line in spec.assumed if not line.startswith("recipe."))
    return dataclasses.replace(
        spec,
        recipe=Entry(f"{spec.recipe.name}_external", kind_of(External), config),
        model=dataclasses.replace(spec.model, name=publish or spec.model.name),
        assumed=(*kept, said),
    )


def read(path: Path) -> dict[str, Tensor]:
    """Read a file of plain tensors (safetensors, or what torch.save wrote); run no code from it.

    A table of weights may lie under one of NESTED; what wrappers of a network put into its names is taken off.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):  # DiT's training script saves its flags: plain values
                content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except pickle.UnpicklingError as problem:
        named = re.search(r"GLOBAL ([\w.]+)", str(problem))  # that alone: the rest is torch's advice to allow the code
        reason = f"it names {named[1]}" if named else "torch cannot read it as such"
        raise BenchError(
            f"{path} is a pickle that is not plain tensors, and loading it could run code: refused ({reason}). "
            "Where it was trained, save its state_dict() alone, or as safetensors."
        ) from None
    except (OSError, RuntimeError, SafetensorError, EOFError, ValueError, KeyError, AttributeError) as problem:
        raise BenchError(f"{path} cannot be read as weights: {' '.join(str(problem).split())[:300]}") from None
    while isinstance(content, Mapping) and (inner := next((content[k] for k in NESTED if isinstance(content.get(k), Mapping)), None)):
        content = inner
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise BenchError(f"{path} holds no table of weights, neither at its top nor under {', '.join(NESTED)}.")
    return _unwrapped(content, path)


def _unwrapped(content: Mapping[Any, Tensor], path: Path) -> dict[str, Tensor]:
    """Return weights under the names that they had before the network was wrapped."""
    found: dict[str, Tensor] = {}
    for whole, tensor in content.items():
        parts = [part for part in str(whole).split(".") if part not in WRAPPERS]
        while parts and parts[0] == "module":
            del parts[0]
        if (name := ".".join(parts)) in found:
            raise BenchError(f"{path} holds '{name}' twice, wrapped in two ways. Save one of the two alone.")
        found[name] = tensor
    return found


def denoiser(weights: Mapping[str, Tensor], form: Format) -> dict[str, Tensor]:
    """Return the weights that the estimate of the noise depends on."""
    if form != "diversedit":
        return dict(weights)
    return {name: tensor for name, tensor in weights.items() if not name.startswith(TRAINING_ONLY)}


def unlabelled(weights: Mapping[str, Tensor], form: Format, label: int | None, path: Path) -> dict[str, Tensor]:
    """Return weights without a label table: the row of `label` is added to the bias of the step's embedding.

    Step and label enter as the sum of two embeddings, so that this is the same network given that label always.
    """
    table, bias = LABELS[form]
    if table not in weights:
        if label is not None:
            raise UsageError(f"`label={label}`: {path} has no class labels.")
        return dict(weights)
    rows = len(weights[table])
    if label is None or not 0 <= label < rows:
        raise UsageError(
            f"{path} is conditioned on class labels, and no dataset here has any. Say with `label=...` which row of its "
            f"table, 0 to {rows - 1}, every image gets; official DiT training keeps 'no class' in the last, `label={rows - 1}`."
        )
    if bias not in weights or weights[bias].shape != weights[table][label].shape:
        raise BenchError(f"{path} has class labels, but no bias {bias} of their width to add one to.")
    return {name: tensor + weights[table][label] if name == bias else tensor for name, tensor in weights.items() if name != table}


def fill(network: nn.Module, weights: Mapping[str, Tensor], path: Path, model: str) -> list[str]:
    """Load weights into a network, all of them and nothing else; raise BenchError naming what does not match.

    Tables that are fixed in the network (sine-cosine positions) may be missing: they stay as built, and are returned.
    """
    wanted = network.state_dict()
    learned = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    fixed = [name for name in wanted if name not in weights and name not in learned]
    shapes = [
        f"{name} is {_shape(weights[name])}, {_shape(wanted[name])} is wanted"
        for name in wanted
        if name in weights and weights[name].shape != wanted[name].shape
    ]
    kinds = {
        "missing": [n for n in wanted if n not in weights and n not in fixed],
        "unexpected": [n for n in weights if n not in wanted],
        "of another shape": shapes,
    }
    if any(kinds.values()):
        said = "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}" for kind, names in kinds.items() if names
        )
        raise BenchError(f"The weights {path} do not match the model '{model}'. {said}.{_hint(weights, wanted)}")
    if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise BenchError(f"The weights {path} are not finite: {', '.join(broken[:4])}.")
    given = {name: tensor.to(wanted[name].dtype) for name, tensor in weights.items()}
    network.load_state_dict(given | {name: wanted[name] for name in fixed})
    return fixed


def _hint(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Say which overrides would make the model match, as far as the shapes tell."""
    for name in LAST:
        if name in weights and name in wanted and len(weights[name]) == 2 * len(wanted[name]):
            return " Its last layer is twice as wide, for a learned variance: `overrides=['model.learned_variance=True']`."
    first = "x_embedder.proj.weight"
    if first in weights and first in wanted and weights[first].dim() == 4 and weights[first].shape != wanted[first].shape:
        width, channels, patch, _ = weights[first].shape
        depth = 1 + max(
            (int(name.split(".")[1]) for name in weights if name.startswith("blocks.") and name.split(".")[1].isdigit()), default=0
        )
        return (
            f" They are of a DiT with hidden {width}, depth {depth}, patch {patch}, for images of {channels} channels: "
            f"`overrides=['model.hidden={width}', 'model.depth={depth}', 'model.patch={patch}']`, and a dataset of {channels} channels."
        )
    if "pos_embed" in weights and "pos_embed" in wanted and weights["pos_embed"].shape != wanted["pos_embed"].shape:
        return f" They are for images of {math.isqrt(weights['pos_embed'].shape[1])} tokens a side."
    return ""


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"
