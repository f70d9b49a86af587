"""A training that is resumed: what travels with the checkpoint, points that outlast a life, and what is none of its checkpoints."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.contract import Attention
from benchmark.networks.attention import Attend
from benchmark.recording.record import Point
from benchmark.training import checkpoint
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.loop import Hooks, start, train
from benchmark.training.state import Sitting, Training
from tests.training.test_loop import IMAGES, Tiny, hooks, recipe, state, trained


class Killed(BaseException):
    """A process that is gone in the middle."""


def measuring(measure: Callable[[int], None]) -> Hooks:
    def point(ema: torch.nn.Module, step: int, loss: float) -> Point:
        measure(step)
        return Point(step=step, loss=loss, psnr_train=2.0, psnr_test=1.0, psnr_gap=1.0)

    return Hooks(report=lambda step, metrics: None, warn=pytest.fail, stop=lambda: False, checkpoint_seconds=1e9, measure=point)


@pytest.mark.parametrize("fatal", [5, 20])
def test_a_life_that_ends_while_a_point_is_measured_goes_on_at_that_point(tmp_path: Path, fatal: int) -> None:
    """No checkpoint but those that stand before a measurement: a second life begins at that step and takes none anew."""
    whole = trained(tmp_path / "whole")
    lives, taken = [], []

    def measure(step: int) -> None:
        lives.append(step)
        if step == fatal and lives.count(step) < 3:
            raise Killed

    def live() -> Training:
        training = start(Tiny(), recipe())
        training.network.register_forward_pre_hook(lambda module, given: taken.append(training.step))
        return train(training, IMAGES, recipe(), seed=0, folder=tmp_path / "parts", hooks=measuring(measure))

    for _ in range(2):
        with pytest.raises(Killed):
            live()
    resumed = live()
    assert sorted(taken) == list(range(20))  # every step once
    assert lives == ([5, 5, 5, 20] if fatal == 5 else [5, 20, 20, 20])
    assert state(resumed) == state(whole)
    assert resumed.trajectory == whole.trajectory


class Attending(Tiny):
    """Tiny, with a layer that says which kernel computes it."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = Attend(Attention(), 2)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        tokens = torch.zeros(len(x), 1, 4, 2)
        return super().forward(x, t) + self.attend(tokens, tokens, tokens).sum()


def test_what_the_record_says_of_the_training_travels_with_the_checkpoint(tmp_path: Path) -> None:
    """After a kill behind the last checkpoint no step is left to take: the record still says how they were computed."""

    def attending(here: Sitting, bf16: bool) -> Training:
        training = start(Attending(), recipe())
        training.here = here
        if bf16:
            training.network.register_forward_pre_hook(lambda module, given: setattr(training.network.attend.used, "cpu bfloat16", "bands"))
        return train(training, IMAGES, recipe(), seed=0, folder=tmp_path, hooks=hooks())

    first = attending(Sitting(device="a big one", threads=7, processes=4, recompute=True), bf16=True)
    again = attending(Sitting(device="a small one", threads=1), bf16=False)
    assert first.kernels["cpu bfloat16"] == ("bands",)
    assert (again.resumed, again.kernels, again.sitting) == (1, first.kernels, first.sitting)
    assert again.sitting is not None and again.sitting.device == "a big one"
    assert again.peak_memory_bytes >= first.peak_memory_bytes > 0


def without(name: str) -> Callable[[Checkpoint], Checkpoint]:
    return lambda saved: saved._replace(state={key: value for key, value in saved.state.items() if key != name})


def other(**changed: Any) -> Callable[[Checkpoint], Checkpoint]:
    return lambda saved: saved._replace(state=saved.state | changed)


def shrunk(saved: Checkpoint) -> Checkpoint:
    moments = {
        **saved.state["optimizer"],
        "state": {i: {**one, "exp_avg": torch.zeros(1)} for i, one in saved.state["optimizer"]["state"].items()},
    }
    return saved._replace(state=saved.state | {"optimizer": moments})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("optimizer"), "no optimizer"),
        (other(optimizer={"state": {}, "param_groups": []}), "its optimizer is another one"),
        (other(optimizer=7), "TypeError"),
        (shrunk, "its optimizer is another one"),
        (without("trajectory"), "lacks the field 'trajectory'"),
        (other(trajectory=[]), r"points \[\], \[5, 20\] are due"),
        (other(loss_sum=float("nan")), "loss_sum"),
        (other(wall_seconds="long"), "wall_seconds"),
        (other(evil=1), "no field 'evil'"),
        (lambda saved: saved._replace(step=0), "its step 0"),
        (lambda saved: saved._replace(step=10**9), "its step 1000000000"),
        (lambda saved: saved._replace(network={}), "its network is another one"),
        (lambda saved: saved._replace(ema={name: tensor.double() for name, tensor in saved.ema.items()}), "its EMA is another one"),
    ],
)
def test_a_checkpoint_of_another_training_is_passed_over_and_said(
    tmp_path: Path, change: Callable[[Checkpoint], Checkpoint], said: str
) -> None:
    train(start(Tiny(), recipe()), IMAGES, recipe(), seed=0, folder=tmp_path, hooks=hooks(seconds=0.0))
    good = checkpoint.last(tmp_path, pytest.fail)
    assert good is not None
    path = checkpoint.save(tmp_path, change(good))
    words: list[str] = []
    training = start(Tiny(), recipe())
    got = checkpoint.last(tmp_path, words.append, lambda found: training.unfit(found, recipe()))
    assert len(words) == 1 and str(path) in words[0] and re.search(said, words[0])
    assert got is None or got.step in (19, 20) and f"{got.step:09d}" != path.name


def test_a_checkpoint_from_before_these_facts_were_kept_is_still_gone_on_from(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    with pytest.raises(Exception, match="Stopped at step 7"):
        train(start(Tiny(), recipe()), IMAGES, recipe(), seed=0, folder=tmp_path / "old", hooks=hooks(7))
    saved = checkpoint.last(tmp_path / "old", pytest.fail)
    assert saved is not None
    older = {name: saved.state[name] for name in ("optimizer", "loss_sum", "loss_steps", "wall_seconds", "resumed", "trajectory")}
    checkpoint.save(tmp_path / "old", saved._replace(state=older))
    assert state(trained(tmp_path / "old")) == state(whole)
