"""benchmark/networks/attention/timing.py: the clock between two kernels, with those that run on a CPU."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from benchmark.contract import Attention, ImageShape
from benchmark.networks.attention import choice, kernel_milliseconds, kernels_used, set_kernel, timing
from benchmark.networks.attention.choice import Circumstances
from registry.backbones.dit import DiT

CPU, KERNELS, WINDOW = torch.device("cpu"), ("masked", "bands"), Attention(window=3)


def test_both_kernels_are_timed_and_the_faster_one_is_taken() -> None:
    found = timing.measure(KERNELS, WINDOW, 9, CPU, torch.float32)
    assert list(found) == list(KERNELS)
    assert all(milliseconds > 0 for both in found.values() for milliseconds in both)
    times = {"masked": (2.0, 3.0), "flex": (1.0, 9.0)}
    assert [timing.fastest(times, trains=trains) for trains in (False, True)] == ["flex", "masked"]
    assert timing.fastest({}, trains=True) == "masked"


def test_a_kernel_is_timed_without_gradients_and_then_with_its_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that a forward pass moves by 2 s, and a backward pass by 5."""
    passed: list[tuple[str, int]] = []
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: float(sum(seconds for _, seconds in passed))))

    def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        passed.append((f"forward, gradients {torch.is_grad_enabled()}", 2))
        out = q + k + v
        if out.requires_grad:
            out.register_hook(lambda gradient: passed.append(("backward", 5)))
        return out

    given = [torch.ones(3, requires_grad=True) for _ in range(3)]
    assert timing._timed(kernel, *given) == (2000.0, 7000.0)
    assert [what for what, _ in passed] == ["forward, gradients False", "forward, gradients True", "backward"]


def test_a_kernel_that_fails_is_left_out_and_said() -> None:
    """FlexAttention has no backward pass on a CPU."""
    with pytest.warns(UserWarning, match="'flex' is left out, it fails on cpu: "):
        assert list(timing.measure(("flex", "masked"), WINDOW, 9, CPU, torch.float32)) == ["masked"]


def test_what_was_measured_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    again = timing.milliseconds.__wrapped__  # as another process does
    found = again(KERNELS, WINDOW, 9, CPU, torch.float32)
    [(key, kept)] = json.loads((tmp_path / timing.FILE).read_text()).items()
    assert "float32, 9 x 9, Attention(window=3" in key
    assert {kernel: tuple(both) for kernel, both in kept.items()} == found
    told = {"masked": [1.5, 2.5], "bands": [0.0, 0.0]}  # bands failed, and are not tried again
    (tmp_path / timing.FILE).write_text(json.dumps({key: told}))
    assert again(KERNELS, WINDOW, 9, CPU, torch.float32) == {"masked": (1.5, 2.5)}
    assert list(again(KERNELS, Attention(window=5), 9, CPU, torch.float32)) == list(KERNELS)
    assert len(json.loads((tmp_path / timing.FILE).read_text())) == 2
    (tmp_path / timing.FILE).write_text("{")
    assert list(again(KERNELS, WINDOW, 9, CPU, torch.float32)) == list(KERNELS)


def test_the_clock_decides_on_windows_in_fp32_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_triton", lambda: True)

    def rivals(forced: str = "auto", window: int | None = 3, side: int = 32, dtype: torch.dtype = torch.float32) -> tuple[str, ...]:
        return choice.to_be_timed(forced, Attention(window=window), side, Circumstances("cuda", dtype, True))

    assert rivals() == ("masked", "flex")
    assert rivals("flex") == rivals(window=None) == rivals(side=8) == rivals(dtype=torch.bfloat16) == ()
    assert choice.to_be_timed("auto", WINDOW, 32, Circumstances("cpu", torch.float32, True)) == ()
    on_cuda = {dtype: choice.choose("auto", WINDOW, 32, Circumstances("cuda", dtype, True)) for dtype in (torch.float32, torch.bfloat16)}
    assert on_cuda == {torch.float32: "masked", torch.bfloat16: "flex"}


def test_a_layer_takes_in_fp32_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    network = DiT(hidden=32, depth=2, heads=2).build(ImageShape(3, 12), (WINDOW, Attention()))
    set_kernel(network, "auto", timed=True)
    assert kernel_milliseconds(network) == {}  # on a CPU nothing is left to the clock
    first = network.blocks[0].attn.attend
    first.times, first.timed = {"masked": (1.0, 5.0), "bands": (2.0, 4.0)}, ("masked", "bands")
    assert kernel_milliseconds(network)["bands, float32, 12 x 12 tokens with a truncated window of 3"] == (2.0, 4.0)
    x, t = torch.zeros(1, 3, 12, 12), torch.zeros(1)
    with torch.no_grad():
        network(x, t)
    assert kernels_used(network) == {"cpu float32": ("masked", "masked")}
    network(x, t)
    assert kernels_used(network) == {"cpu float32": ("bands", "masked")}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(x, t)
    assert kernels_used(network)["cpu bfloat16"] == ("bands", "bands")  # as it is without
