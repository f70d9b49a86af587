"""The contract of a backbone, rule by rule, on images of a few pixels: what training and scoring rely on."""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmark.contract import ArtifactMissing, Backbone, OwnLoss
from benchmark.contributing.trial import STEPS, Trial, Watched, largest, passed, trial
from benchmark.errors import BenchError, NotRun
from benchmark.networks import cost

TOLERANCE = 1e-4  # relative; another batch size or a fused kernel sums in another order


def rules(config: Backbone, *, light: bool = False, compiled: bool = False) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield every rule by name with the function that holds the backbone to it.

    A function returns what it found, and raises NotRun, or any other exception where the rule is broken. `light`
    rules run on meta alone. torch.compile is tried only if `compiled`.
    """
    cache: list[Trial] = []

    def builds() -> str:
        cache.append(trial(config))
        images = cache[0].images
        return f"on meta, for images of {images.channels}x{images.resolution}x{images.resolution}"

    def after_building(rule: Callable[[Trial], str]) -> Callable[[], str]:
        def held() -> str:
            if not cache:
                raise NotRun("it does not build")
            return rule(cache[0])

        return held

    torch.set_num_threads(1)  # the images are of a few pixels: threads would only wait for each other
    yield "builds", builds
    for name, rule in {"shape and type": shape_and_type, "cost": costs}.items():
        yield name, after_building(rule)
    heavy = {
        "gradient": gradient,
        "seed": seed,
        "batch": batch,
        "timesteps": timesteps,
        "input": untouched,
        "own loss": own_loss,
        "checkpoint": round_trip,
        "bf16": autocast,
        "torch.compile": compiles,
    }
    for name, rule in {} if light else heavy.items():
        skipped = name == "torch.compile" and not compiled
        yield name, after_building(_not_asked if skipped else rule)


def shape_and_type(trial: Trial) -> str:
    """The estimate has the shape and the type of the input."""
    x, out = trial.inputs(2, "meta")[0], trial.traced.estimate
    _like(out, x)
    return f"{tuple(out.shape)} {out.dtype}"


def costs(trial: Trial) -> str:
    """FLOPs and memory can be counted without running anything; in training too the estimate is like the input."""
    total, trainable, _, flops = trial.traced
    if trainable and not flops:
        raise BenchError("torch's counter finds no FLOP in it: use torch's own matrix products, convolutions and attention.")
    counted = f"{total:,} parameters, {trainable:,} trainable; {flops / 1e6:.2f} MFLOP an image of two"
    watched = Watched(trial.config)
    try:
        kept = cost.saved_bytes(watched, trial.images, trial.attention) if trainable else 0
    except ArtifactMissing:
        return f"{counted}; memory is counted once its file is here"
    for out in watched.estimates:
        _like(out, trial.inputs(1)[0], " in training")
    return f"{counted}, {kept / 2**20:.2f} MiB kept for backward of one"


def gradient(trial: Trial) -> str:
    """In training, the loss has a gradient in every trainable parameter. (In evaluation small gains can take it below all numbers.)"""
    trainable = {name: p for name, p in trial.network.named_parameters() if p.requires_grad}
    if not trainable:
        raise NotRun("it has no trainable parameter")
    x, t, y = trial.inputs(2)
    with _training(trial.network) as network:
        reached = _backward(network, network(x, t, y).square().mean())
    without = [name for name in trainable if name not in reached]
    broken = [name for name in trainable if reached.get(name) == "not finite"]
    if without:
        raise BenchError(f"no gradient reaches {_some(without)}: use it in forward, make it a buffer, or set requires_grad = False.")
    if broken:
        raise BenchError(f"the gradient of {_some(broken)} is not finite.")
    return f"reaches all {len(trainable)} trainable tensors"


def seed(trial: Trial) -> str:
    """The seed decides the initial weights, and nothing random is left in evaluation."""
    if differ := trial.unseeded:
        raise BenchError(f"two builds under one seed differ in {_some(differ)}: draw from torch's global generator.")
    first = trial.pair.estimate
    torch.manual_seed(5)
    if not torch.equal(first, passed(trial.network, trial.inputs(2)).estimate):
        raise BenchError("forward gives two results for one input in evaluation mode: only training mode may be random.")
    return "same weights and same estimate"


@torch.no_grad()
def batch(trial: Trial) -> str:
    """One image's estimate does not depend on its batch mates."""
    x, t, y = trial.inputs(len(STEPS))
    together, alone = trial.every_step.estimate[1:2], trial.network(x[1:2], t[1:2], None if y is None else y[1:2])
    _like(alone, x[1:2])
    return f"an image alone and among others differ by {_close(together, alone, 'an image depends on its batch mates'):.1e}"


def timesteps(trial: Trial) -> str:
    """The estimate is finite at every diffusion step."""
    steps = trial.inputs(len(STEPS))[1].tolist()
    wrong = sorted(step for step, image in zip(steps, trial.every_step.estimate, strict=True) if not image.isfinite().all())
    if wrong:
        raise BenchError(f"the estimate is not finite at t = {', '.join(map(str, wrong))}.")
    return f"finite at t = {', '.join(map(str, STEPS))}"


def untouched(trial: Trial) -> str:
    """The network leaves what it is given as it was: scoring uses it again."""
    if not (trial.pair.untouched and trial.every_step.untouched):
        raise BenchError("forward changes its input in place.")
    return "left as it was"


def own_loss(trial: Trial) -> str:
    """`estimate_with_loss`, where there is one, gives forward's estimate and a finite scalar."""
    if not isinstance(trial.network, OwnLoss):
        raise NotRun("it has none")
    x, t, y = trial.inputs(2)
    estimate, loss = trial.network.estimate_with_loss(x, t, y)
    _close(estimate.detach(), trial.pair.estimate, "estimate_with_loss and forward disagree")
    if loss.shape != () or not loss.isfinite():
        raise BenchError(f"the loss of its own is {loss.detach().tolist()}; one finite number is needed.")
    return f"{loss.item():.2e} here"


@torch.no_grad()
def round_trip(trial: Trial) -> str:
    """A checkpoint, written and loaded into a network of another seed, gives the same estimate bit for bit."""
    wanted, again = trial.pair.estimate, trial.fresh(3)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        count = _saved(trial.network, file)
        trial.continue_with(again)  # before the file is read: it is as large again
        again.load_state_dict(load_file(file))
    if not torch.equal(wanted, again(*trial.inputs(2))):
        raise BenchError("a network that loads the checkpoint gives another estimate: some state is in no parameter and no buffer.")
    return f"{count} tensors through safetensors, same estimate"


def autocast(trial: Trial) -> str:
    """Forward, and backward where there is something to train, work under bf16 autocast."""
    x, t, y = trial.inputs(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = trial.network(x, t, y)
    if out.shape != x.shape or not out.isfinite().all():
        raise BenchError("under bf16 autocast the estimate has another shape or is not finite.")
    if out.requires_grad:
        _backward(trial.network, out.float().square().mean())
    return "forward and backward" if out.requires_grad else "forward"


@torch.no_grad()
def compiles(trial: Trial) -> str:
    """torch.compile gives the same estimate."""
    x, t, y = trial.inputs(2)
    compiled = torch.compile(trial.network)(x, t, y)
    return f"differs from eager by {_close(compiled, trial.network(x, t, y), 'torch.compile changes the estimate'):.1e}"


@contextmanager
def _training(network: nn.Module) -> Iterator[nn.Module]:
    """Give the network as it is while it is trained; afterwards it is in evaluation, its buffers as before."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    torch.manual_seed(6)
    network.train()
    try:
        yield network
    finally:
        network.eval()
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(before[name])


def _backward(network: nn.Module, loss: Tensor) -> dict[str, str]:
    """Say of each parameter that a gradient other than 0 reaches whether it is finite; none is kept: they are as large as the network."""
    reached: dict[str, str] = {}

    def look(name: str, parameter: Tensor) -> None:
        if parameter.grad is not None and (most := largest(parameter.grad)):
            reached[name] = "finite" if math.isfinite(most) else "not finite"
        parameter.grad = None

    hooks = [
        parameter.register_post_accumulate_grad_hook(partial(look, name))
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    ]
    loss.backward()
    for hook in hooks:
        hook.remove()
    return reached


def _saved(network: nn.Module, file: Path) -> int:
    """Write what a checkpoint of a network holds; return the number of its tensors. Those that share memory are written each."""
    found: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in network.state_dict().items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = (tensor.detach().clone() if place in taken else tensor.detach()).contiguous()
        taken.add(place)
    save_file(found, file)
    return len(found)


def _like(out: Tensor, x: Tensor, where: str = "") -> None:
    if out.shape != x.shape or out.dtype != x.dtype:
        raise BenchError(f"forward returns {tuple(out.shape)} {out.dtype}{where} for {tuple(x.shape)} {x.dtype}; both must be equal.")


def _not_asked(trial: Trial) -> str:
    raise NotRun("`compiled=True` tries it; it needs a C++ compiler and takes a minute")


def _close(one: Tensor, other: Tensor, complaint: str) -> float:
    apart, scale = (one - other).abs().max().item(), max(1.0, other.abs().max().item())
    if not apart <= TOLERANCE * scale:
        raise BenchError(f"{complaint}: by {apart:.2e}, with values up to {scale:.2e}.")
    return apart


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
