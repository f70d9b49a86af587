"""Every kernel of local attention against masked global attention, and what chooses between them."""

import copy
import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor, nn

from benchmark.contract import Attention, ImageShape
from benchmark.errors import UsageError
from benchmark.networks.attention import (
    Attend,
    bands,
    flex,
    is_global,
    kernels_used,
    set_kernel,
    visible_keys,
)
from benchmark.networks.attention.choice import Circumstances, choose
from benchmark.networks.cost import network_flops
from registry.backbones.attention import SelfAttention
from registry.backbones.dit import Block, DiT
from registry.backbones.dit_gpsa import GatedPositionalDiT

BORDERS = ("truncated", "shifted")
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
# Side, window: every window of a small grid, windows beyond it, sides that the bands' rows do not divide, large grids.
GRIDS = [
    *((4, w) for w in (1, 3, 5, 7, 9)),
    *((5, w) for w in (3, 5, 9)),
    *((9, w) for w in range(1, 19, 2)),
    (12, 11),
    (16, 3),
    (16, 7),
    (16, 13),
    (16, 31),
    (25, 5),
    (32, 1),
    (32, 3),
    (32, 7),
    (32, 13),
    (32, 21),
]


def qkv(side: int, d: int, dtype: torch.dtype = torch.float32, n: int = 2, heads: int = 2, device: str = "cpu") -> tuple[Tensor, ...]:
    """Return q, k and v (n, heads, side**2, d) as a layer has them: slices of one product, not contiguous."""
    generator = torch.Generator().manual_seed(side * 100 + d)
    packed = torch.randn(n, side**2, 3, heads, d, dtype=torch.float64, generator=generator)
    return packed.to(device, dtype).permute(2, 0, 3, 1, 4).unbind(0)


def exact(q: Tensor, k: Tensor, v: Tensor, attention: Attention, side: int) -> Tensor:
    """Return masked global attention in float64."""
    scores = q.double() @ k.double().mT / q.shape[3] ** 0.5
    return scores.masked_fill(~visible_keys(attention, side).to(q.device), -torch.inf).softmax(3) @ v.double()


def computed(kernel: str, q: Tensor, k: Tensor, v: Tensor, attention: Attention, side: int) -> Tensor:
    """Return what a layer with that kernel puts out."""
    layer = Attend(attention, side).to(q.device)
    layer.kernel = kernel
    out = layer(q, k, v)
    assert set(vars(layer.used).values()) == {kernel}
    return out


def rms(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("side", "window"), GRIDS)
def test_bands_are_masked_global_attention(side: int, window: int, border: str) -> None:
    attention = Attention(window=window, border=border)
    q, k, v = qkv(side, 7)
    out = computed("bands", q, k, v, attention, side)
    assert (out - exact(q, k, v, attention, side)).abs().max() < 2e-6
    assert (out - computed("masked", q, k, v, attention, side)).abs().max() < 2e-6
    rounded = computed("bands", *(x.bfloat16() for x in (q, k, v)), attention, side)
    reference = exact(*(x.bfloat16() for x in (q, k, v)), attention, side)
    assert rounded.dtype == torch.bfloat16
    assert rms(rounded - reference) < 4e-3 * max(1.0, rms(reference))  # bf16 has 8 bits: half a unit is 2e-3 of a number


@pytest.mark.parametrize("d", [1, 15, 16, 63, 64])
@pytest.mark.parametrize("n", [1, 3, 9])
def test_any_size_of_head_and_number_of_images(d: int, n: int) -> None:
    attention = Attention(window=5)
    q, k, v = qkv(11, d, n=n, heads=4)
    assert (computed("bands", q, k, v, attention, 11) - exact(q, k, v, attention, 11)).abs().max() < 2e-6


def test_layouts_of_memory_do_not_matter() -> None:
    attention = Attention(window=3)
    q, k, v = qkv(10, 8)
    reference = computed("bands", q, k, v, attention, 10)
    for other in (
        [x.contiguous() for x in (q, k, v)],
        [x.mT.contiguous().mT for x in (q, k, v)],
        [x.expand(2, -1, -1, -1) for x in (q[:1], k[:1], v[:1])],
    ):
        torch.testing.assert_close(computed("bands", *other, attention, 10)[0], reference[0], rtol=0, atol=5e-7)


def gradients(kernel: str, q: Tensor, k: Tensor, v: Tensor, attention: Attention, side: int) -> list[Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    out = computed(kernel, *leaves, attention, side)
    direction = torch.cos(torch.arange(out.numel(), dtype=torch.float64)).view_as(out).to(out)
    return list(torch.autograd.grad((out * direction).sum(), leaves))


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("side", "window"), [(9, 1), (9, 5), (12, 11), (16, 3), (32, 3), (32, 7)])
def test_gradients_of_the_bands(side: int, window: int, border: str, keeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 2e-6 of float64 in fp32, 1% of their size in bf16; the same to the bit where the weights are computed again."""
    attention = Attention(window=window, border=border)
    q, k, v = qkv(side, 7)
    kept = gradients("bands", q, k, v, attention, side)
    if not keeps:
        monkeypatch.setattr(bands, "KEPT_BYTES", 0)
        again = gradients("bands", q, k, v, attention, side)
        assert all(torch.equal(one, other) for one, other in zip(kept, again, strict=True))
        return
    doubled = gradients("masked", *(x.double() for x in (q, k, v)), attention, side)
    rounded = gradients("bands", *(x.bfloat16() for x in (q, k, v)), attention, side)
    for name, one, other, coarse in zip("qkv", kept, doubled, rounded, strict=True):
        assert (one - other).abs().max() < 2e-6, name
        assert rms(coarse - other) < 1e-2 * rms(other) + 1e-9, name


def test_gradcheck() -> None:
    q, k, v = (x.detach().clone().requires_grad_() for x in qkv(5, 3, torch.float64, n=1))
    for attention in (Attention(window=3), Attention(window=3, border="shifted"), Attention()):
        assert torch.autograd.gradcheck(lambda *x, a=attention: bands.attend(*x, a, 5, 0.7), (q, k, v))


def test_inputs_without_gradient_get_none() -> None:
    q, k, v = qkv(9, 4)
    v = v.clone().requires_grad_()
    computed("bands", q, k, v, Attention(window=3), 9).sum().backward()
    assert v.grad.abs().sum() > 0
    assert q.grad is None


def test_the_schema_of_the_operation_holds() -> None:
    """Torch's own checks of a custom operation: what it changes, what it returns without data, what its gradient registers."""
    q, k, v = (x.detach().clone().requires_grad_() for x in qkv(9, 4, torch.float64))
    torch.library.opcheck(bands._attend, (q, k, v, 3, "truncated", 9, 0.5, True))


@pytest.mark.parametrize(("side", "rows"), [(8, 1), (8, 3), (9, 4), (32, 2)])
@pytest.mark.parametrize("border", BORDERS)
def test_bands_cover_every_visible_pair_once_and_no_row_without_need(side: int, rows: int, border: str) -> None:
    attention = Attention(window=5, border=border)
    visible = visible_keys(attention, side)
    covered = torch.zeros_like(visible, dtype=torch.long)
    for band, bias in zip(
        bands.bands(attention, side, rows), bands.biases(attention, side, rows, torch.float32, torch.device("cpu")), strict=True
    ):
        covered[band.queries, band.keys] += 1 if bias is None else (bias == 0).long()
        assert visible[band.queries, band.keys][:, :side].any()
        assert visible[band.queries, band.keys][:, -side:].any()
    assert torch.equal(covered, visible.long())


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("side", "window"), [(4, 3), (9, 5), (9, 17), (12, 1), (16, 7)])
def test_flex_is_masked_global_attention(side: int, window: int, border: str) -> None:
    attention = Attention(window=window, border=border)
    q, k, v = qkv(side, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that this is slow without a compiler
        out = torch.nn.attention.flex_attention.flex_attention(
            q, k, v, block_mask=flex.block_mask(attention, side, q.device), scale=8**-0.5
        )
    assert (out - exact(q, k, v, attention, side)).abs().max() < 2e-6


def test_flex_compiled_on_the_cpu_is_masked_global_attention() -> None:
    attention = Attention(window=5, border="shifted")
    q, k, v = qkv(12, 16)
    assert (computed("flex", q, k, v, attention, 12) - exact(q, k, v, attention, 12)).abs().max() < 2e-6


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("window", [1, 3, 4, 6, 9, 16, 31])
def test_the_rule_of_flex_is_the_rule(window: int, border: str) -> None:
    """Even windows too, which no layout can ask for: the arithmetic is the same."""
    attention = Attention(window=window | 1, border=border)
    object.__setattr__(attention, "window", window)
    side = 8
    if is_global(attention, side):
        return
    token = torch.arange(side**2)
    seen = flex.sees(attention, side, torch.device("cpu"))(token, token, token[:, None], token[None])
    assert torch.equal(seen, visible_keys(attention, side))


def test_even_windows_in_bands() -> None:
    for window, border in ((2, "truncated"), (4, "truncated"), (4, "shifted"), (8, "truncated")):
        attention = Attention(window=3, border=border)
        object.__setattr__(attention, "window", window)
        visible = visible_keys(attention, 9)
        for band, bias in zip(bands.bands(attention, 9, 2), bands.biases(attention, 9, 2, torch.float32, torch.device("cpu")), strict=True):
            assert visible[band.queries].sum() == visible[band.queries, band.keys].sum()
            assert bias is None or torch.equal(bias == 0, visible[band.queries, band.keys])


@cuda
@pytest.mark.parametrize("kernel", ["flex", "bands", *(["natten"] if find_spec("natten") else [])])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("side", "window"), [(16, 3), (32, 3), (32, 7), (32, 13)])
def test_kernels_on_a_gpu(kernel: str, side: int, window: int, border: str) -> None:
    attention = Attention(window=window, border=border)
    if kernel == "natten" and border == "truncated":
        pytest.skip("NATTEN shifts the window")
    for dtype, bound in ((torch.float32, 2e-6), (torch.bfloat16, 4e-3)):
        q, k, v = (x.detach().clone().requires_grad_() for x in qkv(side, 64, dtype, device="cuda"))
        out = computed(kernel, q, k, v, attention, side)
        reference = exact(q, k, v, attention, side)
        assert (rms(out - reference) if dtype == torch.bfloat16 else (out - reference).abs().max()) < bound
        found = torch.autograd.grad(out.sum(), (q, k, v))
        wanted = torch.autograd.grad(reference.sum(), (q, k, v))
        assert all(rms(one - other) <= 1e-2 * rms(other) for one, other in zip(found, wanted, strict=True))


def layer(window: int | None = 3, side: int = 12) -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(30, 2, Attention(window=window), side)


def test_autocast_casts_what_comes_in_fp32() -> None:
    q, k, v = qkv(12, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = computed("bands", q, k, v, Attention(window=3), 12)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, computed("bands", *(x.bfloat16() for x in (q, k, v)), Attention(window=3), 12))


def test_a_kernel_stays_out_of_checkpoints_and_goes_with_a_copy() -> None:
    module = layer()
    names = set(module.state_dict())
    set_kernel(module, "bands")
    x = torch.randn(2, 144, 30)
    assert set(module.state_dict()) == names
    twin = copy.deepcopy(module)
    assert torch.equal(module(x), twin(x))
    assert kernels_used(twin) == {"cpu float32": ("bands",)}


def test_a_compiled_block_attends_by_bands() -> None:
    torch.manual_seed(0)
    block = Block(32, 64, SelfAttention(32, 2, Attention(window=3), 10))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, condition = torch.randn(2, 100, 32, requires_grad=True), torch.randn(2, 32)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")  # all of it but the machine code
    wanted = torch.autograd.grad(block(x, condition).square().sum(), (x, *block.parameters()))
    found = torch.autograd.grad(compiled(x, condition).square().sum(), (x, *block.parameters()))
    assert kernels_used(block) == {"cpu float32": ("bands",)}
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    set_kernel(block, "masked")  # holds for what is compiled already
    compiled(x, condition)
    assert kernels_used(block) == {"cpu float32": ("masked",)}


def test_a_compiled_layer_attends_by_flex() -> None:
    """Forward only, all that FlexAttention has on a CPU; the blocks are made once, and go with a copy."""
    module = layer().requires_grad_(False)
    x = torch.randn(2, 144, 30)
    wanted = module(x)
    set_kernel(module, "flex")
    for one in (module, copy.deepcopy(module)):
        torch.testing.assert_close(torch.compile(one, fullgraph=True, backend="aot_eager")(x), wanted, rtol=1e-5, atol=1e-5)
    assert kernels_used(module) == {"cpu float32": ("flex",)}


@pytest.mark.parametrize(
    ("windows", "kernels", "versions"),
    [
        ((3, 3), ("bands", "bands"), 1),  # layers that share their code each name their kernel
        ((19, 3), ("masked", "bands"), 2),  # both have a mask of the same shape, and not the same kernel
    ],
)
def test_compiled_blocks_name_their_kernels_layer_by_layer(windows: tuple, kernels: tuple, versions: int) -> None:
    torch.compiler.reset()
    compiled = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    network = DiT(hidden=32, depth=2, heads=2).build(ImageShape(3, 12), tuple(Attention(window=w) for w in windows))
    set_kernel(network, "auto")
    twin = copy.deepcopy(network)  # as the average of the weights is, which runs the same code
    for each in (network, twin):
        for block in each.blocks:
            block.compile(backend=compiled, dynamic=False)
        for _ in range(2):
            each(torch.ones(1, 3, 12, 12), torch.zeros(1))
        assert kernels_used(each) == {"cpu float32": kernels}
    assert compiled.frame_count == versions  # noting a kernel neither breaks a block apart nor has it compiled again


WITHOUT_A_COMPILER = """
import torch
from benchmark.networks.attention import Attend
from benchmark.networks.attention.choice import Circumstances
from benchmark.contract import Attention
from benchmark.errors import UsageError

torch.set_num_threads(1)
layer = Attend(Attention(window=3), 12)
q, k, v = torch.randn(3, 1, 2, 144, 16)
with torch.no_grad():
    wanted = layer._masked(q, k, v, 0.25)
    for _ in range(2):  # the branch that 'auto' takes on a GPU
        assert torch.equal(layer.by_flex(q, k, v, 0.25, Circumstances("cpu", torch.float32, False)), wanted)
        print(vars(layer.used))
    layer = Attend(Attention(window=3), 12)
    layer.kernel = "flex"
    try:
        layer(q, k, v)
    except UsageError as refused:
        print(refused)
"""


def test_where_flex_does_not_compile_auto_is_masked_and_flex_is_refused(tmp_path: Path) -> None:
    """A real failure: a process without a C++ compiler, and nothing compiled before."""
    without = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_COMPILER],
        env=os.environ | without,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    first, second, refused = ran.stdout.splitlines()
    assert first == second == "{'cpu float32': 'masked'}"
    assert ran.stderr.count("UserWarning: torch.compile of FlexAttention failed on cpu float32, so the attention kernel is 'masked'") == 1
    assert refused.startswith(
        "The attention kernel 'flex' cannot serve a layer of 12 x 12 tokens with a truncated window of 3 "
        "on cpu float32: torch.compile of FlexAttention failed, "
    )
    assert "No working C++ compiler" in refused
    assert refused.endswith("Here can: masked, bands, and 'auto' takes the fastest.")


def test_every_kind_of_derivative_is_there() -> None:
    module, x = layer(), torch.randn(1, 144, 30)
    _, pull = torch.func.vjp(module, x)
    one = pull(torch.ones(1, 144, 30))[0]
    many = torch.func.vmap(pull)(torch.ones(2, 1, 144, 30))[0]
    torch.testing.assert_close(many[1], one)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        tangent = torch.func.jvp(module, (x,), (torch.ones_like(x),))[1]
        with torch.autograd.forward_ad.dual_level():
            dual = module(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))
            torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, tangent)
    torch.testing.assert_close((tangent * torch.ones_like(x)).sum(), one.sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("window", "side", "dtype", "kernel"),
    [
        (3, 8, torch.float32, "masked"),  # of which the committed records are made
        (3, 8, torch.bfloat16, "masked"),
        (None, 8, torch.bfloat16, "masked"),
        (3, 32, torch.float32, "bands"),
        (13, 32, torch.float32, "bands"),
        (61, 32, torch.float32, "masked"),
        (None, 32, torch.float32, "masked"),
        (None, 32, torch.bfloat16, "bands"),
        (3, 32, torch.bfloat16, "bands"),
        (3, 32, torch.float16, "masked"),
    ],
)
def test_what_is_chosen_on_a_cpu(window: int | None, side: int, dtype: torch.dtype, kernel: str) -> None:
    assert choose("auto", Attention(window=window), side, Circumstances("cpu", dtype, True)) == kernel


@pytest.mark.parametrize("device", ["meta", "mps"])
def test_what_is_chosen_elsewhere(device: str) -> None:
    assert choose("auto", Attention(window=3), 32, Circumstances(device, torch.float32, True)) == "masked"


def test_a_kernel_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="'tiles' does not exist. There are auto, masked, bands, flex, natten"):
        set_kernel(layer(), "tiles")


@pytest.mark.parametrize(
    ("kernel", "border", "reason"),
    [
        ("flex", "truncated", "no backward pass on a CPU. Here can: masked, bands"),
        ("natten", "truncated", "NATTEN shifts the window at the border, and this layer truncates it"),
        pytest.param("natten", "shifted", "not installed", marks=pytest.mark.skipif(find_spec("natten") is not None, reason="installed")),
    ],
)
def test_a_kernel_that_cannot_serve_is_refused_with_those_that_can(kernel: str, border: str, reason: str) -> None:
    network = DiT(hidden=32, depth=2, heads=2).build(ImageShape(3, 12), (Attention(window=3, border=border), Attention()))
    with pytest.raises(UsageError, match=f"'{kernel}' cannot serve a layer of 12 x 12 tokens .*{reason}"):
        set_kernel(network, kernel)
    assert all(block.attn.attend.kernel == "auto" for block in network.blocks)  # nothing is half done


def test_what_can_be_known_only_when_it_runs_is_refused_then() -> None:
    network = layer().requires_grad_(False)
    set_kernel(network, "flex")
    with pytest.raises(UsageError, match="no backward pass on a CPU"):
        network(torch.randn(1, 144, 30, requires_grad=True))


def test_a_network_names_its_kernels_layer_by_layer() -> None:
    network = DiT(hidden=32, depth=3, heads=2).build(ImageShape(3, 12), (Attention(window=3), Attention(window=1), Attention()))
    x, t = torch.zeros(1, 3, 12, 12), torch.zeros(1)
    assert kernels_used(network) == {}
    network(x, t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(x, t)
    assert kernels_used(network) == {"cpu bfloat16": ("bands",) * 3, "cpu float32": ("bands", "bands", "masked")}
    set_kernel(network, "masked")
    network(x, t)
    assert kernels_used(network) == {"cpu float32": ("masked",) * 3}
    set_kernel(nn.Linear(2, 2), "bands")  # no layer: nothing to choose
    assert kernels_used(nn.Linear(2, 2)) == {}


def test_gated_layers_attend_by_bands_too() -> None:
    spec = GatedPositionalDiT(hidden=32, depth=2, heads=2, gated=1)
    torch.manual_seed(0)
    network = spec.build(ImageShape(3, 12), (Attention(window=3), Attention(window=3)))
    nn.init.normal_(network.final_layer.linear.weight)
    x, t = torch.randn(2, 3, 12, 12), torch.zeros(2)
    estimates = []
    for kernel in ("masked", "bands"):
        set_kernel(network, kernel)
        estimates.append(network(x, t))
        assert kernels_used(network) == {"cpu float32": (kernel, kernel)}
    torch.testing.assert_close(*estimates, rtol=1e-5, atol=1e-5)


def test_the_flops_of_the_record_do_not_depend_on_the_kernel() -> None:
    """They are those of all pairs, whatever the window and whatever computes them."""
    counts = set()
    for window in (None, 3, 7):
        for kernel in ("auto", "masked", "bands"):
            with torch.device("meta"):
                network = DiT(hidden=32, depth=2, heads=2).build(ImageShape(3, 12), (Attention(window=window),) * 2)
            set_kernel(network, kernel)
            counts.add(network_flops(network, ImageShape(3, 12)))
    assert len(counts) == 1
