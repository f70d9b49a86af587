"""A network in training, and all that its next step depends on: what a checkpoint holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from benchmark.contract import Count, FieldError, Positive, Range, checked
from benchmark.declaring.fields import added, from_json, to_json
from benchmark.declaring.recipe import Recipe
from benchmark.networks.attention import kernels_used
from benchmark.networks.cost import peak_memory_bytes
from benchmark.recording.record import Point
from benchmark.training import checkpoint
from benchmark.training.checkpoint import Checkpoint

NonNegative = Annotated[float, Range(least=0)]
Kernels = dict[str, tuple[str, ...]]


@checked
class Sitting:
    """Where the steps of one process, or of several together, are computed."""

    device: str
    threads: Positive
    processes: Positive = 1
    recompute: bool = False
    deterministic: bool | None = None  # None: an older checkpoint does not say


@checked
class Carried:
    """What a checkpoint holds beside weights and moments; what an older one did not hold has a default."""

    loss_sum: NonNegative  # since the last point of the trajectory
    loss_steps: Count
    wall_seconds: NonNegative
    resumed: Count
    trajectory: tuple[Point, ...]
    notes: tuple[str, ...] = added(())
    code: str = added("")
    kernels: Kernels = added({})  # of the steps taken and of the points measured
    sitting: Sitting | None = added(None)  # the last that took a step
    micro_batch: Count = added(0)
    peak_memory_bytes: Count = added(0)
    images: dict[str, str] = added({})  # digests


@dataclass
class Trained:
    """A network and its EMA, and what it took to train them: nothing, where it was fitted in closed form or elsewhere."""

    network: nn.Module
    ema: nn.Module
    step: int = 0
    trajectory: list[Point] = field(default_factory=list)
    wall_seconds: float = 0.0  # spent training, over all sittings
    resumed: int = 0
    micro_batch: int = 0  # images at a time, as memory allowed; 0: all
    code: str = ""  # digest of the code that trains; the one that began it is told by the checkpoint
    notes: list[str] = field(default_factory=list)  # what was done another way than asked
    sitting: Sitting | None = None  # the last that took a step
    peak_memory_bytes: int = 0  # of the sittings before
    earlier_kernels: Kernels = field(default_factory=dict)

    @property
    def kernels(self) -> Kernels:
        """The kernels of the attention layers, over all sittings."""
        return self.earlier_kernels | kernels_used(self.network) | kernels_used(self.ema)


@dataclass(kw_only=True)
class Training(Trained):
    """A network in training and all that its next step depends on."""

    optimizer: torch.optim.Optimizer
    buffers: list[tuple[Tensor, Tensor]]  # of the EMA and of the network, those that a checkpoint holds
    loss_sum: float = 0.0  # since the last point of the trajectory
    loss_steps: int = 0
    here: Sitting | None = None  # this one
    images: dict[str, str] = field(default_factory=dict)  # digests

    @cached_property
    def weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the weights of the EMA and of the network, looked up once: in a small network the search would show in a step."""
        return list(self.ema.parameters()), list(self.network.parameters())

    def point_due(self, recipe: Recipe) -> bool:
        """Tell whether the trajectory lacks the point of this step."""
        return self.step in recipe.trajectory and (not self.trajectory or self.trajectory[-1].step < self.step)

    def save(self, folder: Path) -> Path:
        """Write a checkpoint of this moment."""
        device = next(self.network.parameters()).device
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak_memory_bytes(device))
        carried = Carried(
            loss_sum=self.loss_sum,
            loss_steps=self.loss_steps,
            wall_seconds=self.wall_seconds,
            resumed=self.resumed,
            trajectory=tuple(self.trajectory),
            notes=tuple(self.notes),
            code=self.code,
            kernels=self.kernels,
            sitting=self.sitting,
            micro_batch=self.micro_batch,
            peak_memory_bytes=self.peak_memory_bytes,
            images=self.images,
        )
        state = {"optimizer": self.optimizer.state_dict(), **to_json(carried)}
        return checkpoint.save(folder, Checkpoint(self.step, self.network.state_dict(), self.ema.state_dict(), state))

    def restore(self, saved: Checkpoint) -> None:
        """Go back to the moment of a checkpoint, which `unfit` has nothing against."""
        self.network.load_state_dict(saved.network)
        self.ema.load_state_dict(saved.ema)
        self.optimizer.load_state_dict(saved.state["optimizer"])
        carried = _carried(saved)
        self.trajectory, self.notes = list(carried.trajectory), list(carried.notes)
        self.loss_sum, self.loss_steps = carried.loss_sum, carried.loss_steps
        self.wall_seconds, self.resumed, self.step = carried.wall_seconds, carried.resumed + 1, saved.step
        self.earlier_kernels, self.sitting, self.micro_batch = dict(carried.kernels), carried.sitting, carried.micro_batch
        self.peak_memory_bytes = carried.peak_memory_bytes

    def unfit(self, saved: Checkpoint, recipe: Recipe) -> str | None:
        """Say why a checkpoint is none of this training, whatever was put into it; None where it is one."""
        if not 1 <= saved.step <= recipe.steps:
            return f"its step {saved.step} is none of {recipe.steps:,}"
        for what, mine, theirs in (("network", self.network, saved.network), ("EMA", self.ema, saved.ema)):
            if _shapes(mine.state_dict()) != _shapes(theirs):
                return f"its {what} is another one"
        if "optimizer" not in saved.state:
            return "it holds no optimizer"
        if not self._moments_fit(saved.state["optimizer"]):
            return "its optimizer is another one"
        try:
            carried = _carried(saved)
        except FieldError as problem:
            return str(problem)
        taken = [point.step for point in carried.trajectory]
        due = [step for step in recipe.trajectory if step <= saved.step]
        pending = due[-1:] == [saved.step] and carried.loss_steps > 0 and taken == due[:-1]
        return None if taken == due or pending else f"its trajectory has the points {taken}, {due} are due"

    def _moments_fit(self, theirs: Any) -> bool:
        """Tell whether the state of an optimizer has the moments of these weights, and nothing else."""
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        if _settings(theirs["param_groups"]) != _settings(self.optimizer.state_dict()["param_groups"]) or not theirs["state"]:
            return False
        return all(
            0 <= index < len(weights)
            and one["step"].numel() == 1
            and all(one[name].shape == weights[index].shape and one[name].is_floating_point() for name in ("exp_avg", "exp_avg_sq"))
            for index, one in theirs["state"].items()
        )


def _settings(groups: Any) -> list[tuple[Any, ...]]:
    return [(group["params"], tuple(group["betas"]), group["weight_decay"]) for group in groups]


def _carried(saved: Checkpoint) -> Carried:
    return from_json(Carried, {name: value for name, value in saved.state.items() if name != "optimizer"}, "its state")


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in weights.items()}
