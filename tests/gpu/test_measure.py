"""tests/gpu: what is said without a GPU, what the page holds, and one check of the correctness on a CPU."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.gpu import correctness, measure
from tests.gpu.bars import bars
from tests.gpu.page import page
from tests.gpu.speed import GROUPS, Part, grouped

WRITTEN = Path(__file__).parents[2] / "docs" / "performance-gpu.md"
FACTS = {"device": "a card", "torch": "2", "commit": "abc", "date": "2026-01-01"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert measure.main([]) == 3
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1) and said.err.startswith("There is no GPU here")


def test_the_page_is_that_of_what_was_found() -> None:
    assert WRITTEN.read_text() == page(json.loads(WRITTEN.with_suffix(".json").read_text()))
    assert "**Nothing has run on a GPU yet**" in page({})
    made = page(
        FACTS
        | {
            "correctness": {"TF32 is off": {"holds": False, "said": "off | by\nfar"}},
            "steps": step("dit_xs1", "global", 3000.0),
            "parts": {"a": {"what": "a layer", "own": 0.3, "padded": 0.1}},
            "profiles": {"dit_xs1 global": profile(8.0, attention=2.0)},
            "layers": {"a": {"window": 3, "precision": "fp32", "milliseconds": {"masked": (1.0, 2.0)}}},
        }
    )
    for line in (
        "a card, PyTorch 2, commit abc, 2026-01-01.",
        "| TF32 is off | **no** | off / by far |",
        "| dit_xs1 | global | bf16 | blocks | 128 | 3,000 | flex |",
        "| a layer | 0.30 | 0.10 | 3.0x |",
        "| attention | 2.0 | 25% |",
        "| 3 | fp32 | masked 1.00, 2.00 |",
        "Not run.",
    ):
        assert line in made.splitlines(), line


def step(model: str, layout: str, speed: float, compiled: str = "blocks") -> dict[str, object]:
    way = {"model": model, "layout": layout, "precision": "bf16", "asked": "blocks"}
    return {" ".join(way.values()): way | {"compiled": compiled, "batch": 128, "images_per_second": speed, "kernels": "flex"}}


def profile(whole: float, **groups: float) -> dict[str, object]:
    return {"model": "dit_xs1", "layout": "global", "batch": 128, "milliseconds": whole, "groups": dict.fromkeys(GROUPS, 0.0) | groups}


def test_each_bar_is_met_or_missed_by_a_measurement_or_not_run() -> None:
    steps = (
        step("dit_xs1", "global", 3200.0) | step("dit_xs1", "local_head", 2000.0) | step("dit_s1", "global", 0.0, "blocks: RuntimeError")
    )
    profiles = {"dit_xs1 global": profile(40.0, attention=16.0, GELU=8.0), "dit_xs1 local_head": profile(64.0, attention=48.0)}
    assert list(bars(steps, profiles)) == [
        "| dit_xs1, global | 3,200 | 4,000 | missed: its linear layers, attention and GELU alone take 24 ms of 40 ms; to all else, "
        "which takes 16 ms, the bar leaves 8 ms |",
        "| dit_xs1, local_head | 2,000 | 3,200 | missed: its linear layers, attention and GELU alone take 48 ms of 64 ms, so that 2,667 is "
        "the most |",
        "| dit_s1, global | 0 | 2,100 | missed: it fails (blocks: RuntimeError) |",
        "| dit_s1, local_head |  | as global | not run |",
    ]
    assert "| not run |" in list(bars(steps | step("dit_s1", "local_head", 7.0), {}))[3]  # held against nothing
    assert "where it goes was not looked at" in next(bars(steps, {}))
    assert next(bars(step("dit_xs1", "global", 4000.0), {})).endswith("| 4,000 | 4,000 | met |")


def test_kernels_are_told_apart_by_the_names_that_cublas_cutlass_and_inductor_give_them() -> None:
    named = {
        "nvjet_tst_128x256_64x4_2x1_v_bz_coopA_bias_TNN": 1.0,
        "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_32x32>": 2.0,
        "pytorch_flash::flash_fwd_kernel<…>": 4.0,
        "triton_tem_fused_flex_attention_0": 8.0,
        "triton_poi_fused_gelu_view_3": 16.0,
        "triton_per_fused_add_native_layer_norm_1": 32.0,
        "Memset (Device)": 64.0,
    }
    groups = grouped(named)
    assert groups == {
        "attention": 12.0,
        "linear layers": 3.0,
        "GELU": 16.0,
        "LayerNorm, modulation, gates": 32.0,
        "strided copies": 0.0,
        "everything else": 64.0,
    }
    assert sum(groups.values()) == sum(named.values())


def test_each_line_of_the_speed_is_kept_as_it_comes_and_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[str] = []

    def line(name: str) -> tuple[str, str, Callable[[], Part]]:
        return "parts", name, lambda: measured.append(name) or Part(name, 2.0, 1.0)

    monkeypatch.setattr(measure, "lines", lambda where: [line("a"), line("b")])
    where, file = correctness.Where(torch.device("cpu"), tmp_path), tmp_path / "x.json"
    found = measure.Found.of(file, FACTS, again=False)
    measure.speed(where, found, until=0.0)
    assert measured == [] and "Stopped before parts, a, after the minutes that were given" in capsys.readouterr().out
    found.keep("parts", {"a": {"what": "a", "own": 9.0, "padded": 1.0}})
    measure.speed(where, measure.Found.of(file, FACTS, again=False), until=float("inf"))
    assert measured == ["b"]
    assert {name: one["own"] for name, one in json.loads(file.read_text())["parts"].items()} == {"a": 9.0, "b": 2.0}


def test_what_was_found_is_kept_and_only_for_the_same_code_and_card(tmp_path: Path) -> None:
    found = measure.Found.of(tmp_path / "x.json", FACTS, again=False)
    found.keep("steps", [1])
    later = FACTS | {"date": "2026-01-02"}
    assert measure.Found.of(tmp_path / "x.json", later, again=False).document == FACTS | {"steps": [1]}
    assert measure.Found.of(tmp_path / "x.json", later, again=True).document == later
    assert measure.Found.of(tmp_path / "x.json", FACTS | {"commit": "def"}, again=False).document == FACTS | {"commit": "def"}


def test_a_check_that_fails_is_said_and_the_next_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(where: correctness.Where) -> str:
        raise AssertionError("off by 7")

    monkeypatch.setattr(measure, "CHECKS", {"one": fails, "two": correctness.micro_batches})
    found = measure.Found(tmp_path / "x.json")
    measure.correctness(correctness.Where(torch.device("cpu"), tmp_path), found, None)
    assert found.document["correctness"]["one"] == {"holds": False, "said": "AssertionError: off by 7"}
    assert found.document["correctness"]["two"]["holds"]
