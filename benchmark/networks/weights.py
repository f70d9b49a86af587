"""Weights from elsewhere: a checkpoint of an official release to a network here, scored and told apart from a run.

The networks here have the parameter names of the official code (DiT, improved-diffusion's unet.py, the skip_norms and
skip_linears of DiverseDiT's, the bias-free networks of Kadkhodaie et al. 2024), so that no name is changed. DiverseDiT's files
may hold heads that only its training uses; they are left out. What a network estimates, of which noisy image and at which time
nothing in a file says: the format tells it, unless a convention is named. Of a learned variance nothing is taken: it is no part
of the estimate.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from benchmark.declaring import registry
from benchmark.declaring.kinds import kind_of
from benchmark.declaring.recipe import Convention, External, Prediction, Recipe
from benchmark.declaring.spec import Entry, Spec
from benchmark.errors import BenchError, UsageError
from benchmark.networks.weights_file import Read

Format = Literal["dit", "unet", "sit", "diversedit", "bias_free"]
OFFICIAL: dict[Format, Convention] = {  # of the released weights
    "dit": "here",
    "unet": "here",
    "sit": "sit",
    "diversedit": "repa",
    "bias_free": "residual",
}
HEADS = ("module", "model")  # what may hold a whole network
TRAINING_ONLY = ("projectors.", "multiple_projectors.", "multiple_diff_projectors.", "ap_head.", "teacher_head.", "factorization_head.")
LABELS = {
    "dit": ("y_embedder.embedding_table.weight", "t_embedder.mlp.2.bias"),
    "sit": ("y_embedder.embedding_table.weight", "t_embedder.mlp.2.bias"),
    "diversedit": ("y_embedder.embedding_table.weight", "t_embedder.mlp.2.bias"),
    "unet": ("label_emb.weight", "time_embed.2.bias"),
}  # the table, and the bias that its row is added to
LAST = ("final_layer.linear", "out.2")


def external(
    spec: Spec,
    *,
    publish: str | None,
    origin: str,
    prediction: Prediction | None = None,
    convention: Convention = "here",
    cosine_steps: int = 4000,
    sigma_data: float = 0.5,
) -> Spec:
    """Return the spec of a network trained elsewhere: the recipe's evaluation without its training, under its own name.

    `origin` says where it is from. Without a `prediction` the network estimates what one of the recipe does. Raise UsageError
    where the name to publish is one that the project's own rows have.
    """
    if publish is not None:
        if publish in registry.entries("model"):
            raise UsageError(f"`publish={publish!r}`: the project's own model has this name. Give the row a name of its own.")
        if other := [word for word in spec.overrides if not word.startswith("model.")]:
            raise UsageError(
                f"`publish={publish!r}`: `overrides={other[:1]}` changes what the other rows of the table share; only model.FIELD may be."
            )
    recipe = spec.recipe.config
    config = _evaluation(recipe, prediction, convention, cosine_steps, sigma_data)
    said = f"recipe.training: trained elsewhere, by a budget not known here; {origin}"
    kept = tuple(line for line in spec.assumed if not line.startswith("recipe."))
    return dataclasses.replace(
        spec,
        recipe=Entry(f"{spec.recipe.name}_external", kind_of(External), config),
        model=dataclasses.replace(spec.model, name=publish or spec.model.name),
        assumed=(*kept, said),
    )


def _evaluation(recipe: Recipe, prediction: Prediction | None, convention: Convention, cosine_steps: int, sigma_data: float) -> External:
    """Return the evaluation of a recipe for a network of this convention."""
    official = convention != "here"
    if official and prediction is not None:
        raise UsageError(f"`prediction={prediction!r}`: the convention '{convention}' says what is estimated. Leave one of the two out.")
    return External(
        psnr_steps=recipe.psnr_steps,
        psnr_images=recipe.psnr_images,
        ranked=recipe.ranked,
        prediction="noise" if official else prediction or recipe.prediction,
        noise_schedule="linear" if official else recipe.noise_schedule,
        convention=convention,
        cosine_steps=cosine_steps if convention == "improved_cosine" else 4000,
        sigma_data=sigma_data if convention == "edm" else 0.5,
        peers=recipe.peers,
        peer_images=recipe.peer_images,
    )


def fitted(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], channels: int, path: Path) -> Read:
    """Return weights under the names that a network has, without what holds it whole (module., model.) and without a learned variance."""
    found: dict[str, Tensor] = {}
    taken_off: dict[str, None] = {}
    for whole, tensor in weights.items():
        name = whole
        while name not in wanted and name.partition(".")[0] in HEADS and "." in name:
            head, _, name = name.partition(".")
            taken_off[f"{head}."] = None
        if name in found:
            raise BenchError(f"{path} holds '{name}' twice, wrapped in two ways. Save one of the two alone.")
        found[name] = tensor
    said = [f"taken off the names of its weights: {', '.join(taken_off)}"] if taken_off else []
    for layer in LAST:
        parts = [name for name in (f"{layer}.weight", f"{layer}.bias") if name in found and name in wanted]
        if parts and all(len(found[name]) == 2 * len(wanted[name]) for name in parts):
            found |= {name: found[name].unflatten(0, (-1, 2 * channels))[:, :channels].flatten(0, 1) for name in parts}
            said.append(f"{path.name} has a learned variance, which is ignored: the second half of the channels of {layer}")
    return Read(found, said)


def denoiser(weights: Mapping[str, Tensor], form: Format) -> dict[str, Tensor]:
    """Return the weights that the estimate of the noise depends on."""
    if form != "diversedit":
        return dict(weights)
    return {name: tensor for name, tensor in weights.items() if not name.startswith(TRAINING_ONLY)}


def unlabelled(weights: Mapping[str, Tensor], form: Format, label: int | None, path: Path) -> dict[str, Tensor]:
    """Return weights without a label table: the row of `label` is added to the bias of the step's embedding.

    Step and label enter as the sum of two embeddings, so that this is the same network given that label always.
    """
    table, bias = LABELS.get(form, ("", ""))
    if table not in weights:
        if label is not None:
            raise UsageError(f"`label={label}`: {path} has no class labels.")
        return dict(weights)
    rows = len(weights[table])
    if label is None or not 0 <= label < rows:
        raise UsageError(
            f"{path} is conditioned on class labels, and this model takes none. Say with `label=...` which row of its "
            f"table, 0 to {rows - 1}, every image gets; official DiT training keeps 'no class' in the last, `label={rows - 1}`. Or score "
            f"every image with its own: `overrides=['model.num_classes={rows - 1}']`, on a dataset of as many classes."
        )
    if bias not in weights or weights[bias].shape != weights[table][label].shape:
        raise BenchError(f"{path} has class labels, but no bias {bias} of their width to add one to.")
    return {name: tensor + weights[table][label] if name == bias else tensor for name, tensor in weights.items() if name != table}


def fill(network: nn.Module, weights: Mapping[str, Tensor], path: Path, model: str) -> list[str]:
    """Load weights into a network, all of them and nothing else; raise BenchError naming what does not match.

    Parameters that are fixed in the network (sine-cosine positions) may be missing: they stay as built, and are returned. A
    buffer may not: what is kept with the weights was measured in training, as the deviations of a norm.
    """
    wanted = network.state_dict()
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    fixed = [name for name in wanted if name not in weights and name in frozen]
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
    for name in (f"{layer}.weight" for layer in LAST):
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
