"""One optimiser step: the batch and its noise, the gradient in as many parts as memory asks for, AdamW, EMA."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from benchmark.declaring.recipe import Recipe
from benchmark.errors import BenchError, UsageError
from benchmark.networks import diffusion, numerics
from benchmark.networks.memory import out_of_memory, release
from benchmark.networks.objective import Objective, objective_of
from benchmark.running.processes import ALONE, Processes

if TYPE_CHECKING:
    from benchmark.training.state import Training

Mark = Callable[[str], None]  # told after each part of a step: data, forward, backward, optimizer, ema


class Labels(NamedTuple):
    """The class of every training image, and the label of no class that takes its place in a share of the draws."""

    classes: Tensor  # (N,) int64, on the device of the images
    no_class: int | None
    dropout: float


class Batch(NamedTuple):
    """This process's share of a batch: images in [-1, 1] and noise (n, C, R, R), steps and labels (n,), its first place in it."""

    x0: Tensor
    t: Tensor
    noise: Tensor
    y: Tensor | None
    first: int


@dataclass
class Work:
    """How the steps of a training are computed; what it does without, it says once through `warn` and keeps in `notes`."""

    recipe: Recipe
    seed: int
    processes: Processes = ALONE
    micro_batch: int | None = None  # images at a time in each process, None: all; halved when memory runs out
    compiled: str = "none"
    labels: Labels | None = None  # where the network takes them
    warn: Callable[[str], None] = print
    notes: list[str] = field(default_factory=list)
    abar: Tensor = field(init=False)
    objective: Objective = field(init=False)

    def __post_init__(self) -> None:
        self.abar, self.objective = diffusion.abar_along(self.recipe.noise_schedule), objective_of(self.recipe)

    def say(self, note: str) -> None:
        """Say that something is done another way than asked."""
        if note not in self.notes:  # by the sitting before
            self.notes.append(note)
        self.warn(note)


def prepare(network: nn.Module, work: Work, device: torch.device) -> None:
    """Compile the blocks if the recipe asks for it, and refuse what this network cannot be split into."""
    recipe, processes = work.recipe, work.processes
    if processes.size > recipe.batch:
        raise UsageError(f"{processes.size} processes are more than recipe.batch = {recipe.batch} images. Start fewer.")
    if recipe.tf32 and device.type != "cuda":
        work.say(numerics.TF32_SAID)
    split = processes.size > 1 or (work.micro_batch or recipe.batch) < recipe.batch
    if split and (why := numerics.whole_batch_only(network)):
        raise UsageError(f"The batch of this network cannot be split: {why}. Run it in one process, without `micro_batch=...`.")
    in_parts = (work.micro_batch or recipe.batch) < -(-recipe.batch // processes.size)
    if refused := numerics.compile_blocks(network, recipe.compile, device, in_parts):
        work.say(refused)
    work.compiled = "blocks" if refused else recipe.compile
    work.abar = work.abar.to(device)


def take_step(training: "Training", images: Tensor, work: Work, mark: Mark = lambda part: None) -> Tensor:
    """Take one optimiser step and return this process's part of its loss, without waiting for the device."""
    network, optimizer, compiled = training.network, training.optimizer, work.compiled
    loss = gradient(network, [theirs for _, theirs in training.buffers], images, training.step, work, mark)
    if work.compiled == "none" != compiled:  # the compiler failed: the EMA need not try it
        numerics.uncompile(training.ema)
    work.processes.total_gradients(network)
    if work.recipe.clip is not None:
        nn.utils.clip_grad_norm_(network.parameters(), work.recipe.clip)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(work.recipe, training.step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    mark("optimizer")
    average(training, work.recipe.ema)
    mark("ema")
    return loss


def gradient(network: nn.Module, statistics: list[Tensor], images: Tensor, step: int, work: Work, mark: Mark) -> Tensor:
    """Leave this process's part of the batch's gradient in the weights and return its part of the loss.

    Out of memory, or without a compiler that works, all processes begin the same step anew in another way.
    """
    while True:
        before = [tensor.clone() for tensor in statistics]  # running statistics, if there are any: rare
        loss, problem = None, ""
        short = uncompiled = False
        try:
            loss = _accumulated(network, images, step, work, mark)
        except (RuntimeError, MemoryError) as raised:
            short = out_of_memory(raised)
            uncompiled = not short and work.compiled != "none" and numerics.compile_failed(raised)
            problem = numerics.failure_said(raised) if uncompiled else str(raised).strip().split("\n")[0]
            if not short and not uncompiled:
                raise
        short, uncompiled = work.processes.any(short, uncompiled)
        if loss is not None and not short and not uncompiled:
            return loss
        loss = None
        network.zero_grad(set_to_none=True)
        for tensor, value in zip(statistics, before, strict=True):
            tensor.copy_(value)
        if uncompiled:
            numerics.uncompile(network)
            work.compiled = "none"
            work.say(problem or "torch.compile failed in another process, so the blocks are not compiled.")
        else:
            _halve(network, work, images.device, problem or "in another process")


def _halve(network: nn.Module, work: Work, device: torch.device, problem: str) -> None:
    """Go on with half as many images at a time; raise BenchError where one is too many."""
    largest = -(-work.recipe.batch // work.processes.size)
    now = min(work.micro_batch or largest, largest)
    if now == 1:
        raise BenchError(
            f"Out of memory with one image at a time on {device} ({problem}). Take `recompute=True`, which keeps fewer "
            "activations, take a smaller model, or a device with more memory."
        )
    if why := numerics.whole_batch_only(network):
        raise BenchError(
            f"Out of memory with the batch of {now} images on {device} ({problem}), and the batch of this network "
            f"cannot be split: {why}. Take `recompute=True`, which keeps fewer activations, or take a device with "
            "more memory."
        )
    work.micro_batch = (now + 1) // 2
    if work.compiled == "graphs" and (said := numerics.compile_blocks(network, "graphs", device, split=True)):
        work.compiled = "blocks"
        work.say(said)
    release(device)
    work.warn(
        f"Out of memory with {now} images at a time; going on with {work.micro_batch}. The gradient is still that of the "
        f"whole batch of {work.recipe.batch}."
    )


def _accumulated(network: nn.Module, images: Tensor, step: int, work: Work, mark: Mark) -> Tensor:
    batch, whole = draw(images, step, work), work.recipe.batch
    mark("data")
    total: Tensor | None = None
    count = len(batch.t)
    size = min(work.micro_batch or count, count)
    with numerics.tf32(work.recipe.tf32):
        for first in range(0, count, size):
            part = slice(first, first + size)
            place = batch.first + first
            if place:  # any dropout: not the masks of the part before
                _seed(images.device, diffusion.random_key("train", work.seed, step, "from", place))
            numerics.new_step(work.compiled)
            with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=work.recipe.precision == "bf16"):
                y = None if batch.y is None else batch.y[part]
                loss = diffusion.loss(network, batch.x0[part], batch.t[part], batch.noise[part], work.abar, work.objective, y)
            if (weight := len(batch.t[part]) / whole) != 1:
                loss = loss * weight
            mark("forward")
            loss.backward()
            mark("backward")
            total = loss.detach() if total is None else total + loss.detach()
    return total  # type: ignore[return-value]  # a share is never empty


def draw(images: Tensor, step: int, work: Work) -> Batch:
    """Return this process's share of the batch of a step: a function of (seed, step), drawn whole by every process."""
    _seed(images.device, diffusion.random_key("train", work.seed, step))  # the batch, the noise and any dropout
    size, device, share = work.recipe.batch, images.device, work.processes.share(work.recipe.batch)
    index = torch.randint(len(images), (size,), device=device)
    t = torch.randint(diffusion.STEPS, (size,), device=device)
    noise = torch.randn((size, *images.shape[1:]), device=device)
    drawn = images[index[share]]
    if work.recipe.flips:  # drawn last: the images, steps and noise are those of the same step without flips
        turned = torch.rand(size, device=device)[share] < 0.5
        drawn = torch.where(turned[:, None, None, None], drawn.flip(3), drawn)
    y = _labels(index, work.labels)  # after them, for the same reason
    return Batch(diffusion.scaled(drawn), t[share], noise[share], None if y is None else y[share], share.start)


def _labels(index: Tensor, labels: Labels | None) -> Tensor | None:
    """Return the labels (batch,) of the images drawn, a share of them dropped."""
    if labels is None or labels.no_class is None:
        return None if labels is None else labels.classes[index]
    dropped = torch.rand(len(index), device=index.device) < labels.dropout
    return labels.classes[index].masked_fill(dropped, labels.no_class)


def _seed(device: torch.device, key: int) -> None:
    """Seed torch's generators; the CPU's alone costs 3 us, torch.manual_seed 150 where it remembers who asked, for a GPU to come."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(key)
    else:
        torch.manual_seed(key)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step (0 is the first): linear warm-up, then constant or a cosine to its final fraction."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    way = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    final = recipe.final_learning_rate
    return recipe.learning_rate * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * way)))


@torch.no_grad()
def average(training: "Training", decay: float) -> None:
    """Move the EMA weights towards the network's, and copy what is saved but is no weight (running statistics)."""
    torch._foreach_lerp_(*training.weights, 1 - decay)
    for own, theirs in training.buffers:
        own.copy_(theirs)
