"""benchmark/training/step.py and numerics.py: a gradient in parts is the gradient of the whole; memory and compilers that fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.contract import Attention, ImageShape
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.declaring.recipe import Recipe
from benchmark.declaring.spec import resolve
from benchmark.errors import BenchError, UsageError
from benchmark.networks import diffusion, numerics
from benchmark.recording.record import read
from benchmark.running.processes import Processes
from benchmark.training.loop import start
from benchmark.training.step import Work, _halve, draw, gradient, prepare, take_step
from registry.backbones.dit import DiT
from tests.conftest import TINY

IMAGES = torch.randint(0, 256, (9, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
CPU = torch.device("cpu")


def dit() -> nn.Module:
    torch.manual_seed(3)
    network = DiT(hidden=16, depth=2, heads=2, patch=2).build(ImageShape(3, 8), (Attention(), Attention()))
    for weight in network.parameters():
        if weight.requires_grad:
            nn.init.normal_(weight, std=0.2)  # adaLN-Zero starts as the identity, whose gradients are mostly zero
    return network.train()


def work(**changes: object) -> Work:
    settings = {name: changes.pop(name) for name in ("processes", "micro_batch", "warn") if name in changes}
    return Work(Recipe(**({"steps": 10, "batch": 7} | changes)), seed=5, **({"warn": pytest.fail} | settings))


def gradients(network: nn.Module, at_work: Work, step: int = 4) -> dict[str, Tensor]:
    network.zero_grad(set_to_none=True)
    gradient(network, [], IMAGES, step, at_work, lambda part: None)
    return {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}


def test_gradient_is_that_of_the_loss_written_out_in_float64() -> None:
    """One image after the other in float64, from the definition of the loss: whole, in parts and over processes."""
    network, batch = dit(), draw(IMAGES, 4, work())
    wide = dit().double()
    wide.t_embedder.forward = lambda t: wide.t_embedder.mlp(_sinusoids(t))
    for i in range(7):
        abar = 1.0
        for s in range(int(batch.t[i]) + 1):
            abar *= 1 - (1e-4 + (0.02 - 1e-4) * s / 999)
        x0, noise = batch.x0[i : i + 1].double(), batch.noise[i : i + 1].double()
        estimate = wide(abar**0.5 * x0 + (1 - abar) ** 0.5 * noise, batch.t[i : i + 1])
        ((estimate - noise).square().sum() / (7 * noise.numel())).backward()
    want = {name: weight.grad for name, weight in wide.named_parameters() if weight.grad is not None}
    found = {micro: gradients(network, work(micro_batch=micro)) for micro in (None, 1, 2, 3, 7, 100)}
    parts = [_of_rank(network, rank) for rank in range(3)]
    found[-3] = {name: sum(part[name] for part in parts) for name in want}
    for how, got in found.items():
        assert got.keys() == want.keys()
        for name, value in got.items():
            assert float((value.double() - want[name]).norm() / want[name].norm()) < 2e-5, (how, name)
    assert all(torch.equal(found[None][name], found[100][name]) for name in want)


def _sinusoids(t: Tensor) -> Tensor:
    from registry.backbones.timesteps import embed_timesteps

    return embed_timesteps(t, 256).double()


def _of_rank(network: nn.Module, rank: int) -> dict[str, Tensor]:
    """The gradient of one of three processes, before they are summed."""

    class Deaf(Processes):
        def any(self, *flags: bool) -> tuple[bool, ...]:
            return flags

    return gradients(network, work(processes=Deaf(rank, 3), micro_batch=2))


def test_flips_mirror_half_of_the_images_and_change_nothing_else() -> None:
    plain, flipped = ([draw(IMAGES, step, work(flips=flips)) for step in range(200)] for flips in (False, True))
    mirrored = 0
    for one, two in zip(plain, flipped, strict=True):
        assert torch.equal(one.t, two.t) and torch.equal(one.noise, two.noise)
        for image, other in zip(one.x0, two.x0, strict=True):
            assert torch.equal(other, image) or [row[::-1] for row in image.flatten(0, 1).tolist()] == other.flatten(0, 1).tolist()
            mirrored += not torch.equal(other, image)
    assert 630 < mirrored < 770  # of 1,400: 3.7 standard deviations
    for rank in range(2):
        part = draw(IMAGES, 7, work(flips=True, processes=Processes(rank, 2)))
        assert torch.equal(part.x0, flipped[7].x0[part.first : part.first + len(part.t)])


def test_a_recipe_without_flips_is_the_one_that_it_was() -> None:
    names = {"model": "dit_mini", "layout": "global", "dataset": "dead_leaves8", "recipe": "mini"}
    off = resolve(names, subset=16, seed=0)
    on = resolve(names, subset=16, seed=0, overrides=["recipe.flips=True"])
    assert "flips" not in off.to_json()["recipe"]["config"] and on.to_json()["recipe"]["config"]["flips"] is True
    assert off.id == resolve(names, subset=16, seed=0, overrides=["recipe.flips=False"]).id != on.id


def test_shares_of_a_batch_are_the_batch() -> None:
    whole = draw(IMAGES, 2, work())
    parts = [draw(IMAGES, 2, work(processes=Processes(rank, 3))) for rank in range(3)]
    for name in ("x0", "t", "noise"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    assert [part.first for part in parts] == [0, 2, 4]


class Greedy(nn.Module):
    """A network that needs more memory than there is for more than `most` images, and a running statistic to get wrong."""

    def __init__(self, most: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.most, self.calls = most, []
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls.append(len(x))
        self.seen += len(x)
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return self.layer(x)


def test_out_of_memory_halves_and_takes_the_same_step() -> None:
    said: list[str] = []
    whole, small = start(Greedy(99), work().recipe), start(Greedy(2), work().recipe)
    at_work = work(warn=said.append)
    for _ in range(2):
        take_step(whole, IMAGES, work())
        take_step(small, IMAGES, at_work)
        whole.step = small.step = 1
    assert small.network.calls == [7, 4, 2, 2, 2, 1, 2, 2, 2, 1]  # the size is found once
    assert at_work.micro_batch == 2
    assert len(said) == 2
    assert "Out of memory with 7 images at a time; going on with 4" in said[0]
    assert float(small.network.seen) == float(whole.network.seen) == 14  # what failed counts for nothing
    for a, b in zip(small.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-7)


def test_out_of_memory_with_one_image_is_an_error() -> None:
    with pytest.raises(BenchError, match=r"one image at a time on cpu \(CUDA out of memory.*`recompute=True`"):
        take_step(start(Greedy(0), work().recipe), IMAGES, work(warn=lambda text: None))


def test_another_error_of_the_network_stays_what_it_is() -> None:
    class Broken(Greedy):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.layer(x[:, :2])

    with pytest.raises(RuntimeError, match="to have 3 channels"):
        take_step(start(Broken(9), work().recipe), IMAGES, work())


LIMITED = """
import resource, sys
from pathlib import Path
import benchmark.run
from benchmark.cli import main
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 1000 * 2**20,) * 2)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the memory through /proc")
def test_a_machine_that_is_too_small_trains_in_parts(home: Path) -> None:
    """A real allocation fails: 1 GB is left, room for the libraries' own needs, and the batch needs several times that."""
    words = [
        "run",
        *TINY,
        "--no-track",
        "--set",
        "recipe.batch=16384",
        "--set",
        "recipe.warmup=0",
        "--set",
        "recipe.steps=1",
        "--set",
        "recipe.trajectory=()",
    ]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"BENCH_HOME": str(home), "MALLOC_ARENA_MAX": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "Out of memory with 16384 images at a time; going on with 8192" in done.stderr
    (path,) = home.glob("runs/*/record.json")
    made = read(path)
    assert made.training.micro_batch in (8192, 4096, 2048, 1024)
    assert made.training.steps == 1


def test_compiler_that_fails_is_said_once_and_recorded(home: Path) -> None:
    """A real failure: there is no such C++ compiler. The weights are those of the eager run."""
    weights = {}
    for how in ("none", "blocks"):
        words = [
            "run",
            *TINY,
            "--no-track",
            "--set",
            f"recipe.compile={how}",
            "--set",
            "recipe.warmup=0",
            "--set",
            "recipe.steps=3",
            "--set",
            "recipe.trajectory=()",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "benchmark.cli", *words],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"BENCH_HOME": str(home), "CXX": "/no/such/compiler"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("torch.compile failed") == int(how == "blocks")
        (made,) = [one for one in map(read, home.glob("runs/*/record.json")) if f"recipe.compile={how}" in one.overrides]
        assert len(made.training.notes) == int(how == "blocks")
        weights[how] = made.weights_sha256
    assert weights["blocks"] == weights["none"]


class Stack(nn.Module):
    """Two blocks that compile quickly."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_compiled_blocks_compute_the_same() -> None:
    eager, compiled, at_work = Stack(), Stack(), work(compile="blocks")
    prepare(compiled, at_work, CPU)
    want, got = gradients(eager, work()), gradients(compiled, at_work)
    assert (at_work.compiled, at_work.notes) == ("blocks", [])  # it did compile
    assert all(block._compiled_call_impl is not None for block in compiled.blocks)
    for name, value in want.items():
        assert torch.allclose(got[name], value, atol=1e-6), name
    assert list(compiled.state_dict()) == list(eager.state_dict())


@pytest.mark.parametrize("model", ["dit_mini", "dit_mini_shared", "dit_mini_diverse", "dit_mini_gpsa", "dit_mini_pca", "unet_mini"])
def test_recomputed_activations_give_the_same_gradient_for_less_memory(model: str) -> None:
    config, kept = load(registry.find("model", model, (registry.STOCK,))).config, {}
    found: dict[bool, dict[str, Tensor]] = {}
    for again in (False, True):
        torch.manual_seed(0)
        network = config.build(ImageShape(3, 8), (Attention(),) * config.attention_layers).train()
        if again:
            numerics.recompute(network)
        kept[again] = 0

        def count(tensor: Tensor, again: bool = again) -> Tensor:
            kept[again] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            batch = draw(IMAGES, 0, work())
            loss = diffusion.loss(network, batch.x0, batch.t, batch.noise, diffusion.alphas_cumprod())
        loss.backward()
        found[again] = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    assert found[True].keys() == found[False].keys()
    for name, value in found[False].items():
        assert torch.allclose(found[True][name], value, atol=1e-7), name
    assert kept[True] < 0.6 * kept[False]


def test_what_cannot_be_split_or_computed_twice_is_refused() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

    diverse = load(registry.find("model", "dit_mini_diverse", (registry.STOCK,))).config.build(ImageShape(3, 8), (Attention(),) * 6)
    for network, why in ((diverse, "a loss of its own over the whole batch"), (Normed(), "normalises over the whole batch")):
        for split in (work(micro_batch=3), work(processes=Processes(0, 2))):
            with pytest.raises(UsageError, match=why):
                prepare(network, split, CPU)
        prepare(network, work(), CPU)
        prepare(network, work(micro_batch=7), CPU)
    with pytest.raises(UsageError, match="running statistics"):
        numerics.recompute(Normed())
    with pytest.raises(UsageError, match="no list of blocks"):
        numerics.recompute(Greedy(1))
    with pytest.raises(UsageError, match=r"8 processes are more than recipe.batch = 7"):
        prepare(Greedy(9), work(processes=Processes(0, 8)), CPU)


def test_settings_that_the_cpu_does_not_have_are_said_and_kept() -> None:
    said: list[str] = []
    at_work = work(tf32=True, compile="graphs", warn=said.append)
    prepare(dit(), at_work, CPU)
    assert said == at_work.notes == [numerics.TF32_SAID, numerics.GRAPHS_SAID]
    assert at_work.compiled == "blocks"


@pytest.mark.parametrize(
    ("compile", "settings", "compiled"),
    [
        ("graphs", {}, "graphs"),
        ("graphs", {"micro_batch": 3}, "blocks"),
        ("graphs", {"micro_batch": 4, "processes": Processes(0, 2)}, "graphs"),  # all of its share
        ("blocks", {"micro_batch": 3}, "blocks"),
    ],
)
def test_graphs_are_not_for_a_batch_in_parts(compile: str, settings: dict[str, object], compiled: str) -> None:
    """As on a GPU, by fake tensors: the blocks are compiled at their first call, which does not come."""
    at_work = work(compile=compile, **settings | {"warn": lambda said: None})
    with FakeTensorMode():
        at_work.abar = diffusion.alphas_cumprod()
        prepare(dit(), at_work, torch.device("cuda"))
    assert at_work.compiled == compiled
    assert at_work.notes == ([] if compiled == compile else [numerics.GRAPHS_SPLIT_SAID])


def test_memory_that_runs_out_ends_the_graphs() -> None:
    at_work = work(compile="graphs", warn=lambda said: None)
    at_work.compiled = "graphs"
    _halve(dit(), at_work, torch.device("cuda"), "out of memory")
    assert (at_work.compiled, at_work.micro_batch, at_work.notes) == ("blocks", 4, [numerics.GRAPHS_SPLIT_SAID])


def test_what_a_graph_overwrote_is_the_compilers_failure() -> None:
    said = "Error: accessing tensor output of CUDAGraphs that has been overwritten by a subsequent run."
    assert numerics.compile_failed(RuntimeError(said))
    assert not numerics.compile_failed(RuntimeError("shapes do not match")) and not numerics.compile_failed(ValueError(said))


@pytest.mark.parametrize("strict", [False, True])
def test_new_memory_is_not_filled_and_tf32_is_off_whatever_it_was(tmp_path: Path, strict: bool) -> None:
    program = (
        "import os, torch; from pathlib import Path; from benchmark.networks import numerics;"
        f"torch.backends.cuda.matmul.allow_tf32 = True; numerics.set_up(None, Path('x'), strict={strict});"
        "print(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32,"
        "torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory, numerics.strict(),"
        "os.environ.get('CUBLAS_WORKSPACE_CONFIG'))"
    )
    clean = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}  # commands in this process set it
    done = subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True", "False", str(strict), ":4096:8" if strict else "None"]


def test_tf32_is_allowed_for_the_step_alone() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    with numerics.tf32(True):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_blocks_are_what_the_module_lists_hold() -> None:
    network = dit()
    assert numerics.blocks(network) == list(network.blocks)
    nested = nn.ModuleDict({"levels": nn.ModuleList([nn.ModuleList([nn.Linear(1, 1)]), nn.ReLU()])})
    assert numerics.blocks(nested) == [nested["levels"][0][0], nested["levels"][1]]
    bare = nn.Linear(1, 1)
    assert numerics.blocks(bare) == [bare]
