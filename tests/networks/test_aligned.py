"""benchmark/networks/aligned.py: zeros in the rows of a product change nothing, and on a GPU no 16-bit row is left without."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.contract import Attention, ImageShape
from benchmark.networks.aligned import MULTIPLE, Linear, attended, linear
from benchmark.networks.attention import Attend
from registry.backbones.attention import SelfAttention
from registry.backbones.dit import Block, DiT
from registry.backbones.dit_diverse import DiverseDiT

PRODUCTS = ("addmm", "mm", "bmm", "_scaled_dot_product")


class Rows(TorchDispatchMode):
    """Notes how long the rows are, and the columns, of every matrix that enters or leaves a product."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, set[int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name.startswith(PRODUCTS):
            tensors = [x for x in (*args, *(made if isinstance(made, tuple) else (made,))) if isinstance(x, Tensor) and x.dim() > 1]
            self.of.setdefault(name, set()).update(width for x in tensors for width in x.shape[-2:])
        return made


def block(*, aligned: bool | None, dtype: torch.dtype = torch.float64) -> Block:
    """Build a block of 28 numbers a token, in 4 heads of 7, on 9 x 9 tokens; away from its start, at which it is the identity."""
    torch.manual_seed(0)
    made = Block(28, 70, SelfAttention(28, 4, Attention(window=5), 9)).to(dtype)
    for weight in made.parameters():
        nn.init.normal_(weight, std=0.2)
    compute(made, aligned=aligned)
    return made


def compute(network: nn.Module, *, aligned: bool | None) -> None:
    """Have the linear layers of a network computed with zeros, or without."""
    for module in network.modules():
        if isinstance(module, Linear):
            module.aligned = aligned


def results(network: nn.Module, *inputs: Tensor, dtype: torch.dtype | None = None) -> Iterator[Tensor]:
    """Yield what a network makes of its inputs, under autocast to a type if one is given, and its gradient in them and the weights."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        out = network(*leaves)
    yield out
    yield from torch.autograd.grad(out.double().sin().sum(), (*leaves, *network.parameters()))


def given(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Draw the tokens of 3 images and their conditions."""
    drawn = torch.Generator().manual_seed(1)
    tokens, condition = (torch.randn(shape, generator=drawn, dtype=torch.float64).to(dtype) for shape in ((3, 81, 28), (3, 28)))
    return tokens, condition


@pytest.mark.parametrize(("size", "out"), [(5, 3), (252, 3), (16, 9), (13, 24), (8, 16)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_with_zeros_is_the_same(size: int, out: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = Linear(size, out, bias=bias, dtype=torch.float64)
    assert layer.state_dict().keys() == nn.Linear(size, out, bias=bias).state_dict().keys()
    x = torch.randn(2, 7, size, dtype=torch.float64)
    plain, stock = list(results(layer, x)), list(results(_stock(layer), x))
    assert all(torch.equal(one, other) for one, other in zip(plain, stock, strict=True))  # on a CPU nothing is added
    compute(layer, aligned=True)
    wide = list(results(layer, x))
    assert wide[0].shape == (2, 7, out)
    for one, other in zip(wide, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def _stock(layer: Linear) -> nn.Linear:
    made = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, dtype=layer.weight.dtype)
    made.load_state_dict(layer.state_dict())
    return made


@pytest.mark.parametrize("window", [None, 3])
def test_attention_with_zeros_is_the_same(window: int | None) -> None:
    attend, drawn = Attend(Attention(window=window), 5), torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 25, 7, generator=drawn, dtype=torch.float64, requires_grad=True) for _ in range(3))
    found = []
    for out in (attend(q, k, v), attended(attend, q, k, v, 7**-0.5)):
        found.append([out, *torch.autograd.grad(out.sin().sum(), (q, k, v))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_block_with_zeros_is_the_same_in_both_passes() -> None:
    """In float64 to its last digits; in bf16 both are as near to it as that type is."""
    exact, wide = (list(results(block(aligned=aligned), *given())) for aligned in (False, True))
    for one, other in zip(wide, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    rounded = [
        list(results(block(aligned=aligned, dtype=torch.float32), *given(torch.float32), dtype=torch.bfloat16)) for aligned in (False, True)
    ]
    for plain, other, true in zip(*rounded, exact, strict=True):
        assert other.dtype == plain.dtype
        assert _off(other, true) < 1.5 * _off(plain, true) + 1e-3


def _off(found: Tensor, true: Tensor) -> float:
    return float(((found.detach().double() - true.detach()).norm() / true.detach().norm()).item())


def test_no_product_of_a_block_with_zeros_has_another_row_in_either_pass() -> None:
    found = {}
    for aligned in (False, True):
        with Rows() as rows:
            list(results(block(aligned=aligned, dtype=torch.float32), *given(torch.float32), dtype=torch.bfloat16))
        found[aligned] = rows.of["addmm"] | rows.of["mm"]
    images = {3, 3 * 81}  # rows, not what is in one
    assert {width % MULTIPLE for width in found[True] - images} == {0}
    assert {28, 70, 6 * 28} <= found[False]


def test_a_block_with_zeros_compiles_whole() -> None:
    torch.compiler.reset()
    wide = block(aligned=True)
    compiled = copy.deepcopy(wide)
    compiled.compile(fullgraph=True, backend="aot_eager")  # all of it but the machine code
    for one, other in zip(results(compiled, *given()), results(wide, *given()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@contextmanager
def autocast_on_a_gpu() -> Iterator[None]:
    """Enter autocast to bf16 by torch's inner switches: its context manager looks for a GPU first."""
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


def test_a_block_for_a_gpu_compiles_whole_and_with_zeros() -> None:
    """Traced alone: the choice is made where autocast and the device are known, and breaks nothing apart."""
    torch.compiler.reset()
    cuda, graphs = torch.device("cuda"), list[torch.fx.GraphModule]()

    def keep(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph

    with FakeTensorMode(allow_non_fake_inputs=True):
        with cuda:
            made = Block(252, 1008, SelfAttention(252, 4, Attention(), 12))
        x, condition = torch.zeros(2, 144, 252, device=cuda), torch.zeros(2, 252, device=cuda)
        made.compile(fullgraph=True, backend=keep)
        with autocast_on_a_gpu(), torch.no_grad():
            assert made(x, condition).shape == x.shape
    (graph,) = graphs
    nodes = [node for node in graph.graph.nodes if node.target is F.linear or "linear" in str(node.target)]
    shapes = [tuple(node.args[1].meta["example_value"].shape) for node in nodes]  # of the weights
    assert shapes == [(1512, 256), (768, 256), (256, 256), (1008, 256), (256, 1008)]


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("config", [DiT(hidden=252, depth=2, heads=4), DiverseDiT(hidden=252, depth=2, heads=4)], ids=["dit", "diverse"])
@pytest.mark.parametrize("side", [8, 12])
def test_on_a_gpu_every_16_bit_row_is_a_multiple_of_16_bytes(config: DiT, side: int) -> None:
    """Of the width of DiT-XS/1, traced on fake CUDA tensors; on 8 x 8 tokens attention adds the zeros of its heads itself."""
    cuda = torch.device("cuda")
    seen = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        with cuda:
            network = config.build(ImageShape(3, side), (Attention(), Attention(window=3)))
        for module in network.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(cuda))
        x, t = torch.zeros(8, 3, side, side, device=cuda), torch.zeros(8, dtype=torch.long, device=cuda)
        for aligned in (None, False):
            compute(network, aligned=aligned)
            with Rows() as rows, autocast_on_a_gpu(), torch.no_grad():
                assert network(x, t).shape == x.shape
            seen[aligned] = rows.of
    assert {width % MULTIPLE for widths in seen[None].values() for width in widths} == {0}, seen[None]
    assert 64 in seen[None]["bmm"]  # what attention is made of without a GPU, on heads of 63 and one zero
    assert {252, 3} < seen[False]["addmm"]


def test_nothing_is_added_on_a_gpu_in_fp32_or_where_rows_are_aligned() -> None:
    cuda = torch.device("cuda")
    with FakeTensorMode():
        for size, dtype in ((252, torch.float32), (256, torch.bfloat16)):
            x, weight = torch.zeros(4, size, dtype=dtype, device=cuda), torch.zeros(size, size, dtype=dtype, device=cuda)
            made = linear(x, weight, None)
            assert made.is_contiguous() and made.shape == F.linear(x, weight).shape
        odd = torch.zeros(4, 252, dtype=torch.bfloat16, device=cuda)
        assert linear(odd, torch.zeros(252, 252, dtype=torch.bfloat16, device=cuda), None).stride() == (256, 1)
