"""What must hold on a GPU before a number from one is believed, each with the figure that shows it; the same checks run on a CPU.

A check raises AssertionError, or returns what it found in words.
"""

import copy
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from benchmark.contract import Attention, ImageShape
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.declaring.recipe import Recipe
from benchmark.networks.attention import KERNELS, Attend, set_kernel, visible_keys
from benchmark.networks.attention.choice import Circumstances, refusal
from benchmark.networks.numerics import compile_passes, reproducible
from benchmark.recording.errors import decibel
from benchmark.recording.record import Point
from benchmark.running.processes import Processes
from benchmark.sampling import Request, draw_batches
from benchmark.scoring.psnr import splits, squared_errors
from benchmark.training.checkpoint import weights_digest
from benchmark.training.loop import Hooks, Interrupted, start, train
from benchmark.training.state import Training
from benchmark.training.step import Work, gradient, prepare, take_step
from registry.backbones.dit import DiT

CPU = torch.device("cpu")
WINDOWS = (Attention(window=3), Attention(window=3, border="shifted"), Attention())


@dataclass(frozen=True)
class Where:
    """A device, and a folder for what the checks write."""

    device: torch.device
    folder: Path

    @property
    def large(self) -> bool:
        """Whether the networks are those of the paper's size: on a GPU."""
        return self.device.type == "cuda"

    @property
    def shape(self) -> ImageShape:
        """The images."""
        return ImageShape(3, 32 if self.large else 12)

    @property
    def images(self) -> Tensor:
        """Some of them, the same on every device: uint8 (N, C, R, R)."""
        made = torch.Generator().manual_seed(0)
        size = (24, self.shape.channels, self.shape.resolution, self.shape.resolution)
        return torch.randint(0, 256, size, generator=made, dtype=torch.uint8).to(self.device)

    def network(self) -> nn.Module:
        """A DiT with two kinds of window and a global layer, whose weights all do something."""
        torch.manual_seed(0)
        hidden, heads = (252, 4) if self.large else (32, 2)
        network = DiT(hidden=hidden, depth=3, heads=heads, patch=1).build(self.shape, WINDOWS)
        for weight in network.parameters():
            if weight.requires_grad and not weight.any():
                nn.init.normal_(weight, std=0.1)
        network = network.to(self.device)
        set_kernel(network, "auto")
        return network

    def recipe(self, **changed: object) -> Recipe:
        """A short training."""
        return Recipe(**({"steps": 6, "batch": 12, "learning_rate": 1e-3, "warmup": 2, "ema": 0.9, "trajectory": (6,)} | changed))


def kernels(where: Where) -> str:
    """Every kernel that serves a layer gives masked attention and its gradient in float64, to rounding."""
    names = ("axial_head", "dilated_head", "scattered_3x3_head", "shifted_windows_head")
    patterns = [next(one for one in load(registry.find("layout", name)).config.place(12) if one.local) for name in names]
    cases = [(one, dtype) for one in WINDOWS for dtype in (torch.float32, torch.bfloat16)]
    cases += [(one, torch.bfloat16) for one in patterns]
    worst, count = dict.fromkeys(("float32", "bfloat16"), 0.0), 0
    for attention, dtype in cases:
        side = where.shape.resolution if attention.pattern is None else 12
        given = Circumstances(where.device.type, dtype, trains=True)
        able = [name for name in KERNELS[1:] if refusal(name, attention, side, given) is None]
        for kernel in (name for name in able if attention.local or name != "flex"):  # nothing takes it for a global layer
            found = attention_error(attention, side, dtype, kernel, where.device)
            kind, bound = str(dtype).removeprefix("torch."), 2e-5 if dtype == torch.float32 else 2e-2
            assert found < bound, f"{kernel} on {attention} in {kind} is off by {found:.1e} of the largest value"
            worst[kind], count = max(worst[kind], found), count + 1
    return f"{count} pairs of a kernel and a layer; off by at most {worst['float32']:.0e} (fp32) and {worst['bfloat16']:.0e} (bf16)"


def attention_error(attention: Attention, side: int, dtype: torch.dtype, kernel: str, device: torch.device) -> float:
    """Return the largest error of values and gradients against a float64 softmax on the CPU, relative to the largest of each."""
    made = torch.Generator().manual_seed(1)
    exact = [torch.randn(2, 2, side**2, 32, generator=made).to(dtype).double().requires_grad_() for _ in range(3)]
    scores = exact[0] @ exact[1].mT * 32**-0.5
    wanted = scores.masked_fill(~visible_keys(attention, side), -torch.inf).softmax(dim=3) @ exact[2]
    pull = torch.randn(wanted.shape, generator=made).to(dtype)
    gradients = torch.autograd.grad(wanted, exact, pull.double())
    layer = Attend(attention, side)
    set_kernel(nn.Sequential(layer, nn.Linear(1, 1)).to(device), kernel)  # it asks the weights where they are; attention has none
    inputs = [one.detach().to(device, dtype).requires_grad_() for one in exact]
    out = layer(*inputs)
    found = (out, *torch.autograd.grad(out, inputs, pull.to(device)))
    pairs = zip(found, (wanted.detach(), *gradients), strict=True)
    return max(float((one.detach().double().cpu() - other).abs().max() / other.abs().max()) for one, other in pairs)


def scores(where: Where) -> str:
    """A network has the same PSNR here as in float64 on the CPU."""
    network = where.network().eval()
    sides = splits(where.images[:4], where.images[4:8], 4, 0)
    here = squared_errors(network, sides, steps=5)
    exact = _Double(copy.deepcopy(network).to(CPU).double())
    there = squared_errors(exact, splits(where.images[:4].cpu(), where.images[4:8].cpu(), 4, 0), steps=5)
    off = max(abs(decibel(float(a[0].mean())) - decibel(float(b[0].mean()))) for a, b in zip(here, there, strict=True))
    assert off < 1e-4, f"PSNR is off by {off:.1e} dB"
    return f"PSNR off by {off:.0e} dB"


class _Double(nn.Module):
    """A float64 network for float32 images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        embed = network.t_embedder

        def exactly(t: Tensor) -> Tensor:
            from registry.backbones.timesteps import embed_timesteps

            return embed.mlp(embed_timesteps(t, 256).double())

        embed.forward = exactly

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x.double(), t)


def tf32(where: Where) -> str:
    """Products stay fp32 outside of a step that asks for TF32, also where the environment allows it."""
    program = (
        "import torch; from pathlib import Path; from benchmark.networks import numerics; numerics.set_up(None, Path('x'), strict=False);"
        f"a = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0)); b = a.to('{where.device}');"
        "print(float(((b @ b).double().cpu() - a.double() @ a.double()).abs().max()))"
    )
    allowed = os.environ | {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    said = subprocess.run([sys.executable, "-c", program], env=allowed, cwd=where.folder, capture_output=True, text=True, check=True)
    off = float(said.stdout)
    assert off < 2e-3, f"a product of 1,024 terms is off by {off:.1e}, as with TF32 (about 1e-1)"
    return f"a product of 1,024 terms off by {off:.0e}; TF32 would be off by about 1e-1"


def micro_batches(where: Where) -> str:
    """The gradient of a batch in parts is that of the whole."""
    network, recipe = where.network().train(), where.recipe()
    found = []
    for micro in (None, 5):
        network.zero_grad(set_to_none=True)
        work = Work(recipe, seed=1, micro_batch=micro, warn=lambda said: None)
        prepare(network, work, where.device)
        gradient(network, [], where.images, 3, work, lambda part: None)
        found.append(torch.cat([weight.grad.flatten() for weight in network.parameters() if weight.grad is not None]))
    off = float((found[0] - found[1]).norm() / found[0].norm())
    assert off < 1e-4, f"the gradient in parts is off by {off:.1e}"
    return f"the gradient in parts is off by {off:.0e} of its norm"


def trained(where: Where, name: str, stop_at: int | None = None, processes: Processes | None = None, **changed: object) -> Training:
    """Train the small network in a folder of its own, or on from what is there."""
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == stop_at

    hooks = Hooks(
        report=lambda step, metrics: None,
        measure=lambda ema, step, loss: Point(step=step, loss=loss, psnr_train=2.0, psnr_test=1.0, psnr_gap=1.0),
        warn=lambda said: None,
        stop=stop,
    )
    recipe = where.recipe(**changed)
    work = Work(recipe, 1, *([processes] if processes else []), warn=lambda said: None)
    return train(start(where.network(), recipe), where.images, recipe, seed=1, folder=where.folder / name, hooks=hooks, work=work)


def repeats(where: Where) -> str:
    """Deterministic, a run repeats to the last bit; otherwise to rounding."""
    off = {}
    for precision in ("fp32", "bf16"):
        with reproducible(strict=True):
            runs = [trained(where, f"{precision}-strict{n}", precision=precision) for n in range(2)]
        one, two = (weights_digest(run.ema.state_dict()) for run in runs)
        assert one == two, f"two deterministic runs in {precision} differ by {_difference(runs[0].ema, runs[1].ema):.1e} of the norm"
        with reproducible():
            off[precision] = _difference(*(trained(where, f"{precision}-free{n}", precision=precision).ema for n in range(2)))
    return (
        "two deterministic runs of 6 steps are equal to the last bit; without, they differ by "
        f"{off['fp32']:.0e} (fp32) and {off['bf16']:.0e} (bf16) of the weights' norm"
    )


def resumes(where: Where) -> str:
    """A run that was stopped and resumed is the run that was not."""
    with reproducible(strict=True):
        whole = trained(where, "whole")
        try:
            trained(where, "stopped", stop_at=3)
        except Interrupted:
            pass
        else:
            raise AssertionError("it was not stopped")
        again = trained(where, "stopped")
    assert again.resumed == 1 and weights_digest(again.ema.state_dict()) == weights_digest(whole.ema.state_dict())
    return "stopped at step 3 and resumed: equal to the last bit, deterministic"


class Whole(Processes):
    """One process that takes the whole batch and talks to its group as one of several would."""

    def share(self, count: int) -> slice:
        return slice(0, count)


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """A group of one process, over nccl on a GPU, over gloo on a CPU."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{one.getsockname()[1]}"
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=address, rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def several_processes(where: Where) -> str:
    """The collectives of a run over several processes leave that of one as it is."""
    with reproducible(strict=True):
        alone = trained(where, "alone")
        with group(where.device):
            together = trained(where, "group", processes=Whole(0, 2))
    assert weights_digest(alone.ema.state_dict()) == weights_digest(together.ema.state_dict()), "they changed the weights"
    return f"one process over {'nccl' if where.large else 'gloo'}: equal to the last bit"


def compiled(where: Where) -> str:
    """Compiled blocks, and CUDA graphs of them, train and score as eager ones do; graphs in parts fall back to blocks."""
    said, weights = [], {}
    for how in ("none", "blocks", "graphs"):
        recipe, words = where.recipe(compile=how), list[str]()
        training, work = start(where.network().train(), recipe), Work(recipe, seed=1, warn=words.append)
        prepare(training.network, work, where.device)
        for _ in range(4):
            take_step(training, where.images, work)
            training.step += 1
        assert how == "none" or work.compiled != "none", words
        assert not where.large or work.compiled == how, words
        weights[how] = training.ema
        if how != "none":
            off = _difference(training.ema, weights["none"])
            assert off < 1e-3, f"{how} are off by {off:.1e} of the weights' norm"
            said.append(f"{how} ({work.compiled}) off by {off:.0e}")
    work = Work(where.recipe(compile="graphs"), seed=1, micro_batch=5, warn=lambda note: None)
    prepare(where.network(), work, where.device)
    assert work.compiled == "blocks"
    return f"4 steps: {', '.join(said)} of the weights' norm; graphs in parts are blocks"


def samples(where: Where) -> str:
    """Samples are those of the CPU to a grey level or two, eager and compiled; in bf16 they are near."""
    network, request = where.network().eval(), Request(count=6, sampler="ddim", steps=8)
    plain = draw_batches(copy.deepcopy(network).to(CPU), request, where.shape, 4, lambda done, total, what: None)

    def off(one: nn.Module, precision: str = "fp32") -> float:
        drawn = draw_batches(one, replace(request, precision=precision), where.shape, 4, lambda done, total, what: None)
        return float(abs(drawn.astype(float) - plain).mean())

    eager, half = off(network), off(network, "bf16")
    compile_passes(network, where.recipe(compile="blocks"))
    blocks = off(network)
    assert max(eager, blocks) < 0.05 and half < 8, f"mean grey levels: {eager:.3f} eager, {blocks:.3f} compiled, {half:.2f} in bf16"
    return f"mean difference in grey levels: {eager:.3f} eager, {blocks:.3f} compiled, {half:.2f} in bf16"


def bf16(where: Where) -> str:
    """A bf16 step's gradient points where the fp32 step's does."""
    network, found = where.network().train(), []
    for precision in ("fp32", "bf16"):
        network.zero_grad(set_to_none=True)
        work = Work(where.recipe(precision=precision), seed=1, warn=lambda said: None)
        prepare(network, work, where.device)
        gradient(network, [], where.images, 3, work, lambda part: None)
        found.append(torch.cat([weight.grad.flatten() for weight in network.parameters() if weight.grad is not None]))
    cosine = float(nn.functional.cosine_similarity(*found, dim=0))
    assert cosine > 0.99, f"the cosine of the gradients is {cosine:.4f}"
    return f"the cosine of the gradients in bf16 and fp32 is {cosine:.6f}"


def _difference(one: nn.Module, other: nn.Module) -> float:
    left, right = (torch.cat([weight.flatten().double().cpu() for weight in each.parameters()]) for each in (one, other))
    return float((left - right).norm() / right.norm())


CHECKS: dict[str, Callable[[Where], str]] = {
    "attention kernels agree with float64": kernels,
    "scores are those of float64": scores,
    "TF32 is off": tf32,
    "a batch in parts": micro_batches,
    "steps in bf16": bf16,
    "a run repeats": repeats,
    "a run resumes": resumes,
    "several processes": several_processes,
    "compiled blocks and graphs": compiled,
    "samples": samples,
}
