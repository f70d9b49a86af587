"""benchmark/networks/passes.py: passes that halve what does not fit, and compile each shape once."""

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from benchmark.contract import Attention, ImageShape
from benchmark.declaring.recipe import Recipe
from benchmark.networks import numerics
from benchmark.networks.denoiser import NoiseEstimate
from benchmark.networks.memory import out_of_memory
from benchmark.networks.passes import Passes
from benchmark.scoring.psnr import splits, squared_errors
from registry.backbones.dit import DiT


class Doubling(nn.Module):
    """A network that needs more memory than there is for more than `most` images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.sizes = most, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("no")
        return x * 2


def test_a_batch_that_does_not_fit_is_taken_in_halves_for_good() -> None:
    network = Doubling(3)
    passes = Passes(network, 64)
    assert torch.equal(passes.over(torch.arange(10.0)), torch.arange(10.0) * 2)
    assert (passes.size, network.sizes) == (3, [10, 5, 3, 3, 3, 1])
    with pytest.raises(torch.OutOfMemoryError):
        Passes(Doubling(0), 1).over(torch.arange(2.0))
    with pytest.raises(RuntimeError, match="can't allocate memory") as caught:
        torch.empty(2**60)
    assert out_of_memory(caught.value)
    assert not out_of_memory(RuntimeError("shapes"))


def dit() -> nn.Module:
    torch.manual_seed(3)
    network = DiT(hidden=16, depth=2, heads=2, patch=2).build(ImageShape(3, 8), (Attention(), Attention())).eval()
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.2)
    return network.requires_grad_(False)


def test_a_compiled_network_meets_one_shape_and_scores_as_it_does_eagerly() -> None:
    torch.compiler.reset()
    counted = CompileCounterWithBackend("aot_eager")
    plain, compiled = dit(), dit()
    for block in compiled.blocks:
        block.compile(backend=counted, dynamic=False)
    images = torch.randint(0, 256, (9, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    sides = splits(images[:4], images, 9, 0)  # 24 and 27 pairs: in batches of 10 the last ones have 4 and 7
    wanted, found = (squared_errors(network, sides, steps=3, batch=10) for network in (plain, compiled))
    for one, two in zip(wanted, found, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-7)
    assert counted.frame_count == 1  # the blocks share their code, and every batch its shape


def test_only_what_is_compiled_is_filled_up() -> None:
    network = Doubling(9)
    Passes(network, 4).over(torch.arange(6.0))
    assert network.sizes == [4, 2]


def test_scoring_follows_the_recipe_also_behind_another_prediction() -> None:
    network = dit()
    wrapped = NoiseEstimate(network, "data", "linear")
    numerics.compile_passes(wrapped, Recipe(steps=1))
    assert not numerics.compiled(wrapped)
    numerics.compile_passes(wrapped, Recipe(steps=1, compile="graphs"))
    compiled = [block._compiled_call_impl for block in network.blocks]
    assert numerics.compiled(wrapped) and None not in compiled and wrapped._compiled_call_impl is None
    numerics.compile_passes(wrapped, Recipe(steps=1, compile="blocks"))  # again: what is compiled stays
    assert [block._compiled_call_impl for block in network.blocks] == compiled


def test_where_nothing_compiles_the_network_is_scored_as_it_is() -> None:
    def broken(graph: object, inputs: object) -> None:
        raise RuntimeError("no compiler here")

    torch.compiler.reset()
    network, x, t = dit(), torch.randn(3, 3, 8, 8), torch.arange(3)
    wanted = network(x, t)
    for block in network.blocks:
        block.compile(backend=broken)
    with pytest.warns(UserWarning, match="torch.compile failed, so the blocks are not compiled"):
        found = Passes(network, 2).over(x, t)
    torch.testing.assert_close(found, wanted)
    assert not numerics.compiled(network)
