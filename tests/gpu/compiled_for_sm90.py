"""FlexAttention assembled for an H100, without one: every rule of the registry, both passes, both types. `make gpu-check`; minutes.

It shows that the kernels compile and fit, not that they are right or fast: nothing runs.
"""

from importlib.util import find_spec

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.contract import Attention
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.networks.attention import flex

# A layout of every rule there is, and the tokens on a side: small where a rule is asked for each pair of them.
LAYOUTS = {
    "local_3x3_head": 32,
    "local_3x3_head_shifted": 32,
    "axial_head": 16,
    "dilated_head": 16,
    "scattered_3x3_head": 16,
    "shifted_windows_head": 16,
}
WITHOUT = "Triton's compiler is not installed, which assembles the kernels"


def rules(name: str) -> list[Attention]:
    """The rules of a layout's layers, each once."""
    entry = load(registry.find("layout", name))
    return list(dict.fromkeys(one for one in entry.config.place(12) if one.local))


@pytest.mark.skipif(find_spec("triton") is None, reason=WITHOUT)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_both_passes_are_assembled_and_fit_the_card(name: str, dtype: torch.dtype) -> None:
    from tests.gpu import h100

    side = LAYOUTS[name]
    for attention in rules(name):
        torch.compiler.reset()
        with FakeTensorMode(allow_non_fake_inputs=True):
            blocks = flex.block_mask.__wrapped__(attention, side, h100.CUDA)  # not the cache, which would keep fake tensors
            q, k, v = (torch.empty(2, 4, side**2, 64, device=h100.CUDA, dtype=dtype) for _ in range(3))
            made = h100.compiled(flex.attend, q, k, v, attention, side, 63**-0.5, blocks)
        attends = [kernel for kernel in made if "tem_fused" in kernel.name]  # made from FlexAttention's templates; the others add up
        for kernel in attends:
            print(f"\n{name} {attention.border if attention.window else type(attention.pattern).__name__} {dtype}: {kernel}", end="")
        assert len({kernel.name for kernel in attends}) == 2, made  # forward and backward
        assert all(kernel.code_bytes > 1000 and 0 < kernel.shared_bytes <= h100.SHARED_MEMORY for kernel in attends)


def test_every_rule_of_the_registry_is_among_them() -> None:
    declared = {_rule(one) for entry in registry.entries("layout") for one in rules(entry)}
    assert declared == {_rule(one) for name in LAYOUTS for one in rules(name)}


def _rule(attention: Attention) -> str:
    return type(attention.pattern).__name__ if attention.pattern is not None else attention.border
