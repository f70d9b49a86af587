"""A network in training, and all that its next step depends on: what a checkpoint holds."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.recording.record import Point
from benchmark.training import checkpoint
from benchmark.training.checkpoint import Checkpoint


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


@dataclass(kw_only=True)
class Training(Trained):
    """A network in training and all that its next step depends on."""

    optimizer: torch.optim.Optimizer
    buffers: list[tuple[Tensor, Tensor]]  # of the EMA and of the network, those that a checkpoint holds
    loss_sum: float = 0.0  # since the last point of the trajectory
    loss_steps: int = 0

    def save(self, folder: Path) -> Path:
        """Write a checkpoint of this moment."""
        state = {
            "optimizer": self.optimizer.state_dict(),
            "loss_sum": self.loss_sum,
            "loss_steps": self.loss_steps,
            "wall_seconds": self.wall_seconds,
            "resumed": self.resumed,
            "notes": self.notes,
            "code": self.code,
            "trajectory": [vars(point).copy() for point in self.trajectory],
        }
        return checkpoint.save(folder, Checkpoint(self.step, self.network.state_dict(), self.ema.state_dict(), state))

    def restore(self, saved: Checkpoint) -> None:
        """Go back to the moment of a checkpoint."""
        self.network.load_state_dict(saved.network)
        self.ema.load_state_dict(saved.ema)
        state: dict[str, Any] = saved.state
        self.optimizer.load_state_dict(state["optimizer"])
        self.trajectory = [Point(**point) for point in state["trajectory"]]
        self.loss_sum, self.loss_steps = state["loss_sum"], state["loss_steps"]
        self.wall_seconds, self.resumed, self.step = state["wall_seconds"], state["resumed"] + 1, saved.step
        self.notes = list(state.get("notes", ()))
