"""benchmark/analysis/profile.py, memory.py: what adds up, what has a closed form, and a trace that opens."""

import json
from pathlib import Path

import pytest
import torch

from benchmark.analysis.memory import memory_by_part
from benchmark.analysis.profile import Clock, matmul_peaks
from benchmark.declaring.recipe import Recipe
from benchmark.training.loop import start
from benchmark.training.step import Work, take_step
from tests.conftest import TINY, Bench
from tests.one_weight import Scale

IMAGES = torch.randint(0, 256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize(("micro_batch", "images"), [(None, 4), (3, 3)])
def test_memory_by_part_in_closed_form(micro_batch: int | None, images: int) -> None:
    plan = Recipe(steps=10, batch=4)
    work, training = Work(plan, 0, micro_batch=micro_batch), start(Scale(), plan)
    take_step(training, IMAGES, work)
    memory = memory_by_part(training, IMAGES, work)
    assert memory.pop("peak") > 0
    assert memory == {"parameters": 4, "gradients": 4, "optimizer": 3 * 4, "ema": 4, "images": 5 * 192, "activations": 2 * images * 192 * 4}


def test_clock_adds_up_the_parts_between_marks() -> None:
    clock = Clock(torch.device("cpu"))
    for part in ("begin", "a", "b", "a"):
        clock.mark(part)
    marks = [when for _, when in clock._marks]
    found = clock.seconds()
    assert found["a"] == pytest.approx(marks[1] - marks[0] + marks[3] - marks[2])
    assert found["b"] == pytest.approx(marks[2] - marks[1])
    assert clock.seconds() == {}


def test_peaks_are_of_matrix_products() -> None:
    peaks = matmul_peaks(torch.device("cpu"))
    assert set(peaks) == {"fp32", "bf16"}
    assert all(1e8 < flops < 1e14 for flops in peaks.values())


def test_a_row_is_profiled_without_its_images(home: Path, bench: Bench, typed_here: Bench) -> None:
    words = ["profile", *TINY, "--steps", "1", "--micro-batch", "2", "--json", "--trace", str(home / "made" / "trace.json")]
    done = bench(*words)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert set(said["seconds"]) == {"data", "forward", "backward", "optimizer", "ema"}
    assert all(seconds > 0 for seconds in said["seconds"].values())
    assert sum(said["seconds"].values()) == pytest.approx(said["step_seconds"])  # of one step; medians of more do not add up
    assert said["images_per_second"] == pytest.approx(4 / said["step_seconds"])
    assert said["training_seconds"] == pytest.approx(40 * said["step_seconds"])
    assert said["utilisation"] == pytest.approx(said["step_flops"] / said["step_seconds"] / said["peak_flops"]["fp32"])
    assert said["memory_bytes"]["optimizer"] == pytest.approx(2 * said["memory_bytes"]["gradients"], rel=0.05)
    assert said["micro_batch"] == 2
    assert any("aten::" in event["name"] for event in json.loads((home / "made" / "trace.json").read_text())["traceEvents"])
    assert [path.name for path in (home / "made").iterdir()] == ["trace.json"]
    assert not list(home.glob("runs/*/spec.json"))
    table = typed_here(*words[:-3])
    assert table.returncode == 0
    assert "of the measured peak" in table.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*TINY, "--steps", "0", "--attention-kernel", "magic"], "--steps 0 must be at least 1"),
        ([*TINY, "--steps", "9" * 20], "must be at most 10,000"),
        (["--model", "wiener", "--layout", "global", "--dataset", "dead_leaves8", "--recipe", "mini"], "fitted in closed form"),
        ([*TINY, "--steps", "1", "--trace", "/proc/none/trace.json"], "/proc/none"),
    ],
)
def test_what_cannot_be_profiled_is_said(typed_here: Bench, words: list[str], message: str) -> None:
    done = typed_here("profile", *words)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
