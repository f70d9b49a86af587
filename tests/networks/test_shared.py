"""Attention sharing: one set of tensors per group, gradients summed, checkpoints and the moving average keep it so."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark.contract import Attention, FieldError, ImageShape
from benchmark.declaring.recipe import Recipe
from benchmark.training import checkpoint
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.loop import start
from registry.backbones.dit import DiT
from registry.backbones.dit_shared import SharedDiT

TINY = ImageShape(3, 4)
SHAPE = {"hidden": 16, "depth": 4, "heads": 2}
WINDOWS = (Attention(window=3), Attention(), Attention(window=3, border="shifted"), Attention())


def shared(group: int) -> nn.Module:
    torch.manual_seed(0)
    return stirred(SharedDiT(**SHAPE, group=group).build(TINY, WINDOWS))


def stirred(network: nn.Module) -> nn.Module:
    """Move every trainable weight off the zero start, which would hide what reaches it."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def separate(network: nn.Module) -> nn.Module:
    """Return a plain DiT that holds a copy of the shared weights in every block."""
    plain = DiT(**SHAPE).build(TINY, WINDOWS)
    plain.load_state_dict(network.state_dict())
    return plain


def backward(network: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x, noise = torch.randn(2, 3, 3, 4, 4, generator=generator)
    out = network(x, torch.tensor([0, 400, 999]))
    (out - noise).square().mean().backward()
    return out


@pytest.mark.parametrize(("group", "sets"), [(4, 1), (2, 2), (1, 4)])
def test_the_blocks_of_a_group_hold_the_same_tensor_objects(group: int, sets: int) -> None:
    blocks = shared(group).blocks
    for part in ("qkv", "proj"):
        for kind in ("weight", "bias"):
            tensors = [getattr(getattr(block.attn, part), kind) for block in blocks]
            assert len({id(tensor) for tensor in tensors}) == sets
            assert all(tensors[i] is tensors[i - i % group] for i in range(4))
    assert len({id(block.mlp.fc1.weight) for block in blocks}) == len({id(block.adaLN_modulation) for block in blocks}) == 4


@pytest.mark.parametrize("group", [1, 2, 4])
def test_sharing_saves_the_parameters_of_the_blocks_that_borrow(group: int) -> None:
    def count(network: nn.Module) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    hidden = SHAPE["hidden"]
    borrowing = 4 - 4 // group
    assert count(separate(shared(group))) - count(shared(group)) == borrowing * (4 * hidden**2 + 4 * hidden)


@pytest.mark.parametrize("group", [2, 4])
def test_outputs_are_those_of_separate_weights_and_gradients_are_their_sums(group: int) -> None:
    network = shared(group).double()
    plain = separate(network).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    t = torch.tensor([3, 700])
    assert torch.equal(network(x, t), plain(x, t))
    for one in (network, plain):
        (one(x, t) - x).square().mean().backward()
    for part in ("qkv", "proj"):
        for first in range(0, 4, group):
            together = getattr(network.blocks[first].attn, part).weight.grad
            alone = [getattr(plain.blocks[first + i].attn, part).weight.grad for i in range(group)]
            assert all(grad.abs().sum() > 0 for grad in alone)
            torch.testing.assert_close(together, sum(alone), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(network.blocks[3].mlp.fc1.weight.grad, plain.blocks[3].mlp.fc1.weight.grad)


def test_every_layer_keeps_its_own_window() -> None:
    network = shared(4)
    masks = [block.attn.attend.mask for block in network.blocks]
    assert masks[1] is None and masks[3] is None
    assert masks[0].sum() < masks[2].sum() < 16 * 16  # a truncated window holds fewer keys than a shifted one
    x, t = torch.randn(1, 3, 4, 4), torch.tensor([10])
    everywhere = SharedDiT(**SHAPE, group=4).build(TINY, (Attention(),) * 4)
    everywhere.load_state_dict(network.state_dict())
    assert not torch.allclose(network(x, t), everywhere(x, t))


def test_a_group_of_one_is_the_plain_dit_from_its_first_weights_on() -> None:
    states = []
    for config in (SharedDiT(**SHAPE, group=1), DiT(**SHAPE)):
        torch.manual_seed(7)
        states.append(config.build(TINY, WINDOWS).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_a_training_step_moves_the_group_and_its_average_as_one() -> None:
    network = shared(2)
    recipe = Recipe(steps=2, batch=2, learning_rate=1e-2)
    training = start(network, recipe)
    assert len(list(training.ema.parameters())) == len(list(network.parameters()))
    assert training.ema.blocks[1].attn.qkv.weight is training.ema.blocks[0].attn.qkv.weight
    assert training.ema.blocks[1].attn.qkv.weight is not network.blocks[0].attn.qkv.weight
    before = network.blocks[0].attn.qkv.weight.detach().clone()
    backward(network)
    training.optimizer.step()
    assert not torch.equal(network.blocks[0].attn.qkv.weight, before)
    assert network.blocks[1].attn.qkv.weight is network.blocks[0].attn.qkv.weight
    assert sum(len(group["params"]) for group in training.optimizer.param_groups) == len(
        [p for p in network.parameters() if p.requires_grad]
    )


def test_a_checkpoint_brings_shared_weights_back_shared(tmp_path: Path) -> None:
    network = shared(2)
    state = network.state_dict()
    assert {f"blocks.{i}.attn.qkv.weight" for i in range(4)} <= set(state)  # the plain DiT's names
    checkpoint.save(tmp_path, Checkpoint(1, state, copy.deepcopy(network).state_dict(), {}))
    saved = checkpoint.last(tmp_path, warn=pytest.fail)
    assert checkpoint.weights_digest(saved.network) == checkpoint.weights_digest(state)
    torch.manual_seed(9)
    fresh = SharedDiT(**SHAPE, group=2).build(TINY, WINDOWS)
    fresh.load_state_dict(saved.network)
    assert fresh.blocks[3].attn.proj.weight is fresh.blocks[2].attn.proj.weight
    x, t = torch.randn(2, 3, 4, 4), torch.tensor([3, 700])
    assert torch.equal(fresh(x, t), network(x, t))


def test_a_move_to_another_type_keeps_the_sharing() -> None:
    network = shared(4).to(torch.float64)
    assert network.blocks[3].attn.qkv.weight is network.blocks[0].attn.qkv.weight
    assert network.blocks[3].attn.qkv.weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("group", "words"),
    [(3, "group = 3 must divide depth = 4"), (8, "group = 8 must divide depth = 4"), (0, "group = 0 must be at least 1")],
)
def test_an_odd_grouping_is_refused(group: int, words: str) -> None:
    with pytest.raises(FieldError, match=words):
        SharedDiT(**SHAPE, group=group)
