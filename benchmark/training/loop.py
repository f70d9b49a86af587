"""Network and images to a trained checkpoint: resumable at any step, bit for bit, because nothing depends on the past.

The data order and the noise of a step are functions of (seed, step); what must be carried over (weights, optimiser,
EMA, trajectory) is in the checkpoint.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.declaring.recipe import Recipe
from benchmark.errors import BenchError
from benchmark.networks.memory import out_of_memory
from benchmark.networks.numerics import compile_passes, not_deterministic
from benchmark.recording.record import Point
from benchmark.running.environment import synchronize
from benchmark.training import checkpoint
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.state import Training
from benchmark.training.step import Work, learning_rate, prepare, take_step

REPORT_EVERY = 50  # steps, or a second, whichever comes first: how often the host looks at the device


class Interrupted(BenchError):
    """The run was asked to stop; its checkpoint is written."""

    exit_code = 130


@dataclass(frozen=True)
class Hooks:
    """What the surroundings of a training want to know or decide."""

    report: Callable[[int, dict[str, float]], None]  # step, metrics
    measure: Callable[[nn.Module, int, float], Point]  # EMA network, step, mean loss since the last point
    warn: Callable[[str], None]
    stop: Callable[[], bool]  # asked after every step
    resumes: Callable[[Checkpoint], None] = lambda saved: None  # told the checkpoint that it goes on from
    checkpoint_seconds: float = 60.0


def start(network: nn.Module, recipe: Recipe) -> Training:
    """Wrap a freshly built network for training: its EMA copy and AdamW."""
    ema = copy.deepcopy(network).eval().requires_grad_(False)
    trainable = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True)
    weights, saved = dict(network.named_parameters()), network.state_dict()
    theirs = dict(network.named_buffers())  # masks and tables that can be rebuilt are no part of a checkpoint
    buffers = [(own, theirs[name]) for name, own in ema.named_buffers() if name in saved and name not in weights]
    return Training(network, ema, optimizer=optimizer, buffers=buffers)


def train(
    training: Training, images: Tensor, recipe: Recipe, *, seed: int, folder: Path, hooks: Hooks, work: Work | None = None
) -> Training:
    """Train to the end of the recipe from the last intact checkpoint in `folder`. images: (N, C, R, R) uint8 on the device.

    `work` says how a step is computed, where not in one process, eagerly and all at once. Raises BenchError at the first
    loss that is not finite (no checkpoint after it is written) and where memory does not suffice, Interrupted when
    `hooks.stop` says so, after writing a checkpoint.
    """
    work = work or Work(recipe, seed, warn=hooks.warn)
    processes, device = work.processes, images.device
    if saved := processes.ask_first(lambda: checkpoint.last(folder, hooks.warn, lambda found: training.unfit(found, recipe))):
        training.restore(saved)
        hooks.resumes(saved)
    training.network.train()
    processes.spread((training.network, training.ema))
    work.notes = training.notes
    prepare(training.network, work, device)
    compile_passes(training.ema, recipe)
    losses: list[Tensor] = []  # on the device: the host looks at them only when it reports
    sitting, reported, saved_at = time.monotonic() - training.wall_seconds, time.monotonic(), time.monotonic()

    def save() -> float:
        synchronize(device)
        training.wall_seconds = time.monotonic() - sitting
        processes.ask_first(lambda: training.save(folder))
        return time.monotonic()

    def measure() -> float:
        began = time.monotonic()
        training.trajectory.append(hooks.measure(training.ema, training.step, training.loss_sum / training.loss_steps))
        training.loss_sum, training.loss_steps = 0.0, 0
        return time.monotonic() - began

    if training.point_due(recipe):  # a kill came while it was measured
        sitting, reported = sitting + measure(), time.monotonic()
        if training.step == recipe.steps:
            save()
    while training.step < recipe.steps:
        losses.append(_step(training, images, work))
        training.step += 1
        training.sitting, training.micro_batch = training.here, work.micro_batch or 0
        now, last_step, point_due = time.monotonic(), training.step == recipe.steps, training.point_due(recipe)
        stopping, save_due, report_due = processes.any(  # the first process looks at the clock; anyone may be asked to stop
            hooks.stop(),
            processes.first and now - saved_at >= hooks.checkpoint_seconds,
            processes.first and (len(losses) >= REPORT_EVERY or now - reported >= 1),
        )
        save_due = save_due or last_step or stopping
        if point_due or save_due or report_due:
            rate = len(losses) / max(now - reported, 1e-9)
            metrics = _collect(training, losses, work) | {"learning_rate": learning_rate(recipe, training.step - 1)}
            hooks.report(training.step, metrics | {"steps_per_second": rate})
            losses, reported = [], now
        if point_due or save_due:  # before a point is measured, which may take longer than this process lives
            saved_at = save()
        if stopping and not last_step:
            raise Interrupted(f"Stopped at step {training.step} of {recipe.steps}; the checkpoint is written. The same command resumes.")
        if point_due:
            sitting, reported = sitting + measure(), time.monotonic()
            if last_step:
                save()
    return training


def _step(training: Training, images: Tensor, work: Work) -> Tensor:
    try:
        return take_step(training, images, work)
    except (RuntimeError, MemoryError) as problem:  # outside the gradient, which deals with it: the optimizer, the EMA
        if not_deterministic(problem):
            reason = str(problem).strip().split("\n")[0][:300]
            raise BenchError(
                f"This network cannot be computed deterministically on {images.device}: {reason} `deterministic=False` computes it "
                "all the same; the record says so."
            ) from None
        if not out_of_memory(problem):
            raise
        reason = str(problem).strip().split("\n")[0]
    raise BenchError(
        f"Out of memory on {images.device} beside the gradient, where a smaller micro-batch does not help: {reason}. "
        "Take a smaller model or a device with more memory."
    )


def _collect(training: Training, losses: list[Tensor], work: Work) -> dict[str, float]:
    """Bring the losses of the last steps to the host; raise BenchError at the first that is not finite."""
    values = work.processes.total(torch.stack(losses).double()).cpu()
    if (bad := (~values.isfinite()).nonzero()).numel():
        step = training.step - len(losses) + int(bad[0]) + 1
        raise BenchError(
            f"The loss is {values[bad[0]].item()} at step {step}. The last checkpoint before it is kept; "
            "lower the learning rate (`overrides=['recipe.learning_rate=…']`) or clip gradients (`overrides=['recipe.clip=1.0']`)."
        )
    training.loss_sum = math.fsum([training.loss_sum, *values.tolist()])
    training.loss_steps += len(losses)
    return {"loss": values.mean().item()}
