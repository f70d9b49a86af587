"""benchmark/training/loop.py: closed forms of the schedule and the average; resumed equals uninterrupted, bit for bit."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark.declaring.recipe import Recipe
from benchmark.errors import BenchError
from benchmark.networks.diffusion import alphas_cumprod, loss, random_key, scaled
from benchmark.networks.numerics import reproducible
from benchmark.recording.record import Point
from benchmark.training.checkpoint import weights_digest
from benchmark.training.loop import Hooks, Interrupted, learning_rate, start, train
from benchmark.training.state import Training

IMAGES = torch.randint(0, 256, (5, 1, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Tiny(nn.Module):
    """Dropout and a running statistic included: what a resume could get wrong."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.norm = nn.BatchNorm2d(1)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(5, 4)
        self.register_buffer("table", torch.ones(3), persistent=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        flat = self.drop(self.norm(x).flatten(1))
        return self.linear(torch.cat([flat, t[:, None] / 1000], dim=1)).view_as(x)


def recipe(**changes: object) -> Recipe:
    return Recipe(
        **({"steps": 20, "batch": 4, "learning_rate": 0.01, "ema": 0.9, "warmup": 3, "clip": 1.0, "trajectory": (5, 20)} | changes)
    )


def hooks(stop_at: int | None = None, network: list[int] | None = None, seconds: float = 1e9) -> Hooks:
    steps = network if network is not None else []

    def stop() -> bool:
        steps.append(1)
        return stop_at is not None and len(steps) == stop_at

    return Hooks(
        report=lambda step, metrics: None,
        warn=pytest.fail,
        stop=stop,
        checkpoint_seconds=seconds,
        measure=lambda ema, step, loss: Point(step=step, loss=loss, psnr_train=2.0, psnr_test=1.0, psnr_gap=1.0),
    )


class Putting(Tiny):
    """With an operation that has no deterministic algorithm on any device."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        zero = torch.zeros(1).put_(torch.tensor([0]), torch.tensor([0.0]))
        return super().forward(x, t) + zero


def test_what_is_not_deterministic_is_refused_or_taken_with_a_warning(tmp_path: Path) -> None:
    with reproducible(strict=True), pytest.raises(BenchError, match=r"put_.*`deterministic=False` computes it"):
        train(start(Putting(), recipe()), IMAGES, recipe(), seed=0, folder=tmp_path, hooks=hooks())
    with reproducible(), pytest.warns(UserWarning, match="put_"):
        made = train(start(Putting(), recipe()), IMAGES, recipe(), seed=0, folder=tmp_path, hooks=hooks())
    assert made.step == 20


def trained(folder: Path, seed: int = 0, plan: Recipe | None = None) -> Training:
    plan = plan or recipe()
    return train(start(Tiny(), plan), IMAGES, plan, seed=seed, folder=folder, hooks=hooks())


def state(training: Training) -> tuple[str, str, str]:
    moments = training.optimizer.state_dict()["state"]
    flat = {f"{i}.{key}": value for i, entry in moments.items() for key, value in entry.items()}
    return weights_digest(training.network.state_dict()), weights_digest(training.ema.state_dict()), weights_digest(flat)


@pytest.mark.parametrize("stop_at", [1, 5, 7, 19])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, stop_at: int) -> None:
    whole = trained(tmp_path / "whole")
    with pytest.raises(Interrupted, match=f"step {stop_at} of 20"):
        train(start(Tiny(), recipe()), IMAGES, recipe(), seed=0, folder=tmp_path / "parts", hooks=hooks(stop_at))
    torch.manual_seed(12345)  # another process has another state
    resumed = trained(tmp_path / "parts")
    assert state(resumed) == state(whole)
    assert resumed.trajectory == whole.trajectory
    assert (whole.resumed, resumed.resumed) == (0, 1)


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    first, again, other = trained(tmp_path / "a"), trained(tmp_path / "b"), trained(tmp_path / "c", seed=1)
    assert state(first) == state(again)
    assert state(first) != state(other)


def test_checkpoints_are_written_on_the_way(tmp_path: Path) -> None:
    train(start(Tiny(), recipe()), IMAGES, recipe(), seed=0, folder=tmp_path, hooks=hooks(seconds=0.0))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [19, 20]


def test_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    class Breaks(Tiny):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            self.calls = getattr(self, "calls", 0) + 1
            return super().forward(x, t) * (math.nan if self.calls > 12 else 1.0)

    plan = recipe(trajectory=(), ema=0.0)
    with pytest.raises(BenchError, match=r"The loss is nan at step 13\..*learning_rate"):
        train(start(Breaks(), plan), IMAGES, plan, seed=0, folder=tmp_path, hooks=hooks(seconds=0.0))
    kept = sorted(int(path.name) for path in tmp_path.iterdir())
    assert kept == [11, 12]


def test_ema_is_the_weighted_sum_of_the_weights(tmp_path: Path) -> None:
    """ema_n = d^n w_0 + (1 - d) sum_k d^(n-k) w_k, against the weights taken after every step."""
    plan, seen = recipe(steps=6, ema=0.7, trajectory=()), []
    training = start(Tiny(), plan)
    first = training.network.linear.weight.detach().double().clone()
    hook = hooks()
    taking = Hooks(
        report=hook.report,
        measure=hook.measure,
        warn=hook.warn,
        stop=lambda: bool(seen.append(training.network.linear.weight.detach().double().clone())),
    )
    train(training, IMAGES, plan, seed=0, folder=tmp_path, hooks=taking)
    want = 0.7**6 * first + 0.3 * sum(0.7 ** (5 - k) * w for k, w in enumerate(seen))
    assert torch.allclose(training.ema.linear.weight.double(), want, atol=1e-6)
    assert torch.equal(training.ema.norm.running_mean, training.network.norm.running_mean)


def test_adamw_takes_the_step_of_its_definition(tmp_path: Path) -> None:
    """The first step of Adam moves every weight by lr * g / (|g| + eps): the sign of its gradient, warm-up included."""
    plan = recipe(steps=1, warmup=0, learning_rate=0.25, clip=None, trajectory=())
    training = start(Tiny(), plan)
    before = training.network.linear.bias.detach().clone()
    train(training, IMAGES, plan, seed=0, folder=tmp_path, hooks=hooks())
    assert torch.allclose((training.network.linear.bias - before).abs(), torch.full((4,), 0.25), rtol=1e-4)


def test_learning_rate_is_the_schedule() -> None:
    constant = Recipe(steps=10, warmup=4, learning_rate=2.0)
    assert [learning_rate(constant, s) for s in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    cosine = Recipe(steps=100, warmup=0, learning_rate=1.0, schedule="cosine", final_learning_rate=0.2)
    assert learning_rate(cosine, 0) == 1.0
    assert learning_rate(cosine, 50) == pytest.approx(0.6)
    assert learning_rate(cosine, 100) == pytest.approx(0.2)


def test_loss_of_a_point_is_the_mean_since_the_point_before(tmp_path: Path) -> None:
    plan, losses = recipe(), {}
    training = start(Tiny(), plan)
    one = hooks()

    def report(step: int, metrics: dict[str, float]) -> None:
        losses[step] = metrics["loss"]

    each = Hooks(report=report, measure=one.measure, warn=one.warn, stop=one.stop, checkpoint_seconds=0.0)  # reports every step
    train(training, IMAGES, plan, seed=0, folder=tmp_path, hooks=each)
    assert training.trajectory[0].loss == pytest.approx(sum(losses[s] for s in range(1, 6)) / 5, rel=1e-12)
    assert training.trajectory[1].loss == pytest.approx(sum(losses[s] for s in range(6, 21)) / 15, rel=1e-12)


def test_a_step_is_the_one_that_the_committed_records_were_made_with(tmp_path: Path) -> None:
    """Bit for bit: the draws in their order, torch's own seed, one backward pass of the whole batch, AdamW, the average."""
    plan = recipe(trajectory=())
    plain, abar = start(Tiny(), plan), alphas_cumprod()
    plain.network.train()
    for step in range(plan.steps):
        torch.manual_seed(random_key("train", 3, step))
        x0 = scaled(IMAGES[torch.randint(len(IMAGES), (plan.batch,))])
        t, noise = torch.randint(1000, (plan.batch,)), torch.randn(x0.shape)
        loss(plain.network, x0, t, noise, abar).backward()
        nn.utils.clip_grad_norm_(plain.network.parameters(), plan.clip)
        plain.optimizer.param_groups[0]["lr"] = learning_rate(plan, step)
        plain.optimizer.step()
        plain.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(list(plain.ema.parameters()), list(plain.network.parameters()), 1 - plan.ema)
            for own, theirs in plain.buffers:
                own.copy_(theirs)
    assert state(trained(tmp_path, seed=3, plan=plan)) == state(plain)
