"""benchmark/suites/cost.py: what the rows of a suite cost, and which are done."""

import json
import time
from pathlib import Path

import pytest
import torch

from benchmark import run
from benchmark.declaring import spec
from benchmark.declaring.registry import STOCK
from benchmark.declaring.row import Row
from benchmark.networks.cost import forward_flops, on_meta, step_seconds
from benchmark.recording import record
from benchmark.recording.record import path_of
from benchmark.running.progress import Display
from benchmark.suites.cost import H100_SHARE, LAUNCH, Kernels, costs, forward, h100_said, petaflops, seconds_of_h100
from tests.conftest import ENTRIES, Bench

SEARCH = (STOCK, ENTRIES)
TINY_ROW = Row("dit_tiny", "global", "leaves_tiny", 6, 0, "tiny")


def test_flops_and_hours_are_those_of_the_budget(home: Path) -> None:
    """DiT-XS/1 at 32x32: 31.4 GFLOP forward, three times that in training, 400k steps of batch 128 (dagger: 256)."""
    rows = [
        Row("dit_xs1", "global", "celeba", 10_000, 0, "paper"),
        Row("dit_xs1", "local_head", "celeba", 10_000, 1, "paper_dagger"),
    ]
    plain, dagger = costs(rows, home)
    assert plain.training_flops == pytest.approx(3 * 31.4e9 * 128 * 400_000, rel=0.01)
    assert dagger.training_flops == 2 * plain.training_flops
    scored = 2 * (300 * 50 + 5 * 64 * 10)  # images on both sides: at the end, at five points of the trajectory
    assert plain.evaluation_flops == pytest.approx(31.4e9 * scored, rel=0.01)
    assert plain.hours_h100 == pytest.approx((plain.training_flops + plain.evaluation_flops) / (0.4 * 67e12) / 3600)
    assert plain.hours_h100_bf16 == pytest.approx((plain.training_flops / (0.137 * 989e12) + plain.evaluation_flops / (0.4 * 67e12)) / 3600)
    assert plain.hours_here is None and plain.state == "open"


def test_the_share_in_bf16_is_that_of_the_measurement() -> None:
    """DiT-XS/1 at 32x32 trained at 1,442 images/s: a step is three forward passes of an image."""
    names = {"model": "dit_xs1", "layout": "global", "dataset": "natural32", "recipe": "study"}
    reached = 1_442 * 3 * forward_flops(spec.resolve(names, subset=1_000, seed=0))
    assert pytest.approx(reached / 989e12, abs=5e-4) == H100_SHARE["bf16"]
    assert h100_said("bf16") == "14% of 989 TFLOP/s in bf16, measured on DiT-XS/1"
    assert h100_said("fp32") == "40% of 67 TFLOP/s in fp32, assumed"


def test_of_a_small_network_the_starts_of_its_kernels_are_the_hours(home: Path) -> None:
    """2,000 steps of dit_mid are under a second of arithmetic, and no H100 starts a thousand kernels a step in that time."""
    (one,) = costs([Row("dit_mid", "global", "patches16", 16, 1, "mid")], home)
    spec_of_it = spec.resolve({axis: getattr(one.row, axis) for axis in spec.AXES}, subset=16, seed=1)
    passed = forward(on_meta(spec_of_it), spec_of_it)
    assert passed.flops == forward_flops(spec_of_it)
    assert seconds_of_h100(one.training_flops, "bf16") < 1 < 3 * passed.kernels * 2000 * LAUNCH
    scored = seconds_of_h100(one.evaluation_flops, "fp32")
    assert one.hours_h100 * 3600 == pytest.approx(3 * passed.kernels * 2000 * LAUNCH + scored)


def test_kernels_are_counted_without_what_only_sees_memory_in_another_way() -> None:
    x = torch.zeros(4, 6, device="meta")
    with Kernels() as kernels:
        torch.relu(x.t().reshape(2, 12)[0]) + 1
    assert kernels.count == 3  # the copy of a transposed one, relu, and the sum


@pytest.mark.parametrize(
    ("flops", "said"), [(9.87e12, "0.00987"), (4.826e18, "4,830"), (1.0424e21, "1,040,000"), (3.2e16, "32"), (9.999e17, "1,000")]
)
def test_a_count_of_operations_needs_no_power_of_ten(flops: float, said: str) -> None:
    assert petaflops(flops) == said


def test_a_row_is_done_where_its_record_describes_it(home: Path) -> None:
    one = spec.resolve({axis: getattr(TINY_ROW, axis) for axis in spec.AXES}, subset=6, seed=0, search=SEARCH)
    with Display() as display:
        made = run.run(one, run.Place(home=home, records=home / "records", device=torch.device("cpu")), display)
    assert [cost.state for cost in costs([TINY_ROW, TINY_ROW._replace(seed=1)], home / "records", search=SEARCH)] == [
        "done",
        "open",
    ]
    other = spec.resolve(
        {axis: getattr(TINY_ROW, axis) for axis in spec.AXES},
        subset=6,
        seed=0,
        search=SEARCH,
        overrides=("recipe.steps=41",),
    )
    document = json.loads(path_of(home / "records", made.row).read_text())
    document |= {"spec": other.to_json(), "id": other.id}
    path_of(home / "records", made.row).write_text(json.dumps(document))
    assert record.read(path_of(home / "records", made.row)).id == other.id
    assert [cost.state for cost in costs([TINY_ROW], home / "records", search=SEARCH)] == ["another configuration"]


def test_a_timed_step_gives_hours_here(home: Path) -> None:
    rows, seen = [TINY_ROW, TINY_ROW._replace(seed=1)], []
    timed = costs(rows, home, search=SEARCH, device=torch.device("cpu"), progress=lambda *words: seen.append(words))
    assert timed[0].hours_here == timed[1].hours_here > 0  # timed once
    assert seen == [(0, 2), (1, 2)]


def test_a_step_takes_the_median_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that takes 0.5 s at its first pass, once 0.2 s, else 0.02 s, on a clock that nothing else moves."""
    naps, taken = iter([0.5, 0.02, 0.2, 0.02, 0.02, 0.02, 0.02, 0.02]), [0.0]

    class Sleepy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            taken.append(next(naps))
            return x + self.weight

    monkeypatch.setattr(time, "perf_counter", lambda: sum(taken))
    one = spec.resolve({axis: getattr(TINY_ROW, axis) for axis in spec.AXES}, subset=6, seed=0, search=SEARCH)
    assert step_seconds(one, Sleepy(), torch.device("cpu")) == pytest.approx(0.02)
    assert next(naps, None) is None
    monkeypatch.setattr("benchmark.networks.cost.TIMED_SECONDS", 0.05)
    naps = iter([0.0, 0.03, 0.03, 0.03])
    step_seconds(one, Sleepy(), torch.device("cpu"))
    assert next(naps) == 0.03  # enough of it


def test_suite_show_prints_every_row_and_the_total(typed_here: Bench) -> None:
    shown = json.loads(typed_here("suite", "show", "mini", "--json").stdout)
    assert len(shown["rows"]) == 10 == shown["total"]["rows"]
    assert shown["total"]["training_flops"] == sum(row["training_flops"] for row in shown["rows"])
    assert {row["state"] for row in shown["rows"]} == {"open"}
    assert "Did you mean 'mini'" in typed_here("suite", "show", "minni").stderr
