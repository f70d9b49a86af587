"""The baseline of the measurements is the same network, and the table says what was measured."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmark.contract import Attention, ImageShape
from benchmark.files import PROJECT, importing
from benchmark.recording import record
from registry.backbones.dit import DiT
from tests.perf import growth, levers, mini_run, page, speed
from tests.perf.bounds import Bound, Parts, parts_alone, section
from tests.perf.conftest import Ahead
from tests.perf.measured import Measured, Share
from tests.perf.mini_run import Mini
from tests.perf.plain_dit import plain
from tests.perf.verdicts import bounded, judged
from tests.perf.whole_check import Needed, Whole
from tests.record_factory import made

TINY = DiT(hidden=28, depth=2, heads=4)  # heads of 7


def test_the_plain_dit_is_the_dit() -> None:
    torch.manual_seed(0)
    network = TINY.build(ImageShape(3, 12), (Attention(),) * 2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, t = torch.randn(2, 3, 12, 12), torch.tensor([3, 700])
    wanted = network(x, t)
    torch.testing.assert_close(plain(network, TINY)(x, t), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_steps_train(precision: str) -> None:
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    small = DiT(hidden=28, depth=6, heads=4)
    for turn in (speed.plain_turn(small, images, precision, 1), speed.own_turn(small, "local_3x6_head", images, precision, 1)):
        turn()


def test_a_ratio_of_medians_in_turn() -> None:
    calls: list[str] = []
    found = speed.medians(
        {"few": lambda: (calls.append("few"), sum(range(20_000))), "many": lambda: (calls.append("many"), sum(range(2_000_000)))}, 3
    )
    assert calls == ["few", "many"] * 4
    assert found["many"] > 10 * found["few"]


def test_the_parts_of_a_step_add_up_and_say_how_much_faster_it_could_be() -> None:
    parts = parts_alone(TINY, (Attention(window=3), Attention()), 9, torch.bfloat16, 1, repeat=1)
    assert min(parts.linear, parts.attention, parts.activation) > 0
    lines = section([Bound("global", "fp32", Parts(0.3, 0.15, 0.05), 0.8, 4, plain=1.0), Bound("other", "bf16", parts, 1.0, 2)])
    assert lines[-3] == "| global | fp32 | 300 ms | 150 ms | 50 ms | 500 ms | 800 ms | 5.0 | 2.00x |"
    assert lines[-2].endswith("| 1000 ms | 2.0 |  |")


def test_what_is_tried_on_a_step_changes_it_and_nothing_else() -> None:
    case = levers.Case("dit_mini", 8, 2)
    as_it_is, streamed = levers._built(case, {}), levers.streamed(levers._built(case, {}))
    seen: list[torch.dtype] = []
    for network in (as_it_is, streamed):
        network.blocks[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 700])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        wanted, found = as_it_is(x, t), streamed(x, t)
    assert seen == [torch.float32, torch.bfloat16]
    assert not torch.equal(found, wanted)
    torch.testing.assert_close(found.float(), wanted.float(), rtol=0, atol=0.05 * wanted.float().abs().max().item())
    assert levers._built(case, {"hidden": 40}).blocks[0].mlp.fc1.in_features == 40


def test_each_lever_is_measured_on_each_case_and_told_on_the_page() -> None:
    case = levers.Case("dit_mini", 8, 1)
    lever = levers.Lever("wider", (case,), ("bf16", "fp32"), fields={"hidden": 40})
    found = list(levers.tried(lever, 1))
    assert [(one.precision, one.seconds > 0, one.changed > 0) for one in found] == [("bf16", True, True), ("fp32", True, True)]
    assert levers.section([levers.Tried("wider", case, "fp32", 0.3, 0.2)])[-2] == (
        "| wider | dit_mini | 1 of 8 x 8 | fp32 | 300.0 ms | 200.0 ms | 1.50x |"
    )


def test_a_compiler_that_fails_is_nothing_tried(tmp_path: Path) -> None:
    code = (
        "from tests.perf import levers\n"
        "list(levers.tried(levers.Lever('compiled', (levers.Case('dit_mini', 8, 1),), ('fp32',), compiled='blocks'), 1))"
    )
    without = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}  # which torch remembers: another process
    environment = os.environ | importing() | without
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("RuntimeError: compiled: blocks were not compiled, so that nothing was tried")


def test_the_table_and_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(speed, "LAYER_BARS", {"fp32": {3: 0.0, 7: 1e9}})
    path = tmp_path / "performance.md"
    assert speed.main(["--only", "layers", "--repeat", "1", "--json", "--write", str(path)]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["met"], second["met"]) == (True, False)
    assert first["value"] == pytest.approx(first["reference_seconds"] / first["seconds"])
    assert first["parts"] > 0 and first["seconds"] > 0
    text = path.read_text()
    assert f"window 3 (bands) | fp32 | **{first['value']:.2f}** |" in text
    verdicts = [line for line in text.splitlines() if "| at least" in line]
    assert [line.endswith("| met |") for line in verdicts] == [True, False]
    assert "missed: its matrix products and softmax" in verdicts[1] and "is the most" in verdicts[1]


def test_a_reason_says_what_is_the_most_or_what_is_left_for_the_rest() -> None:
    assert bounded(2.0, 6.0, 4.0, 5.0, "products") == "products alone take 4000 ms of 5000 ms, so that 1.5 is the most"
    assert bounded(1.2, 6.0, 4.0, 5.5, "products") == (
        "products alone take 4000 ms of 5500 ms; to all else, which takes 1500 ms, the bar leaves 1000 ms"
    )


def test_no_bar_is_missed_without_a_reason() -> None:
    with pytest.raises(ValueError, match="a run misses its bar.*no measurement says why"):
        judged("a run", "3 s", "at most 2", False, " ")
    assert judged("a run", "1 s", "at most 2", True, "it would take long").row == "| a run | **1 s** | at most 2 | met |"


def found(speedy: float) -> page.Found:
    """Return what a measurement might find, every time divided by `speedy`."""
    bounds = tuple(
        Bound(what, precision, Parts(0.3 / speedy, 0.15 / speedy, 0.05 / speedy), 0.8 / speedy, 16, plain)
        for precision in ("bf16", "fp32")
        for what, plain in (("global", 0.9), ("local_head", 0.9), ("global, hidden 64 on 16 x 16", None))
    )
    ratios = [
        Measured(f"training step of DiT-XS/1, {layout}", precision, "plain DiT", bar, 0.9 * speedy / 0.8, 0.8 / speedy, 0.9)
        for precision, bars in speed.STEP_BARS.items()
        for layout, bar in bars.items()
    ]
    ratios += [
        Measured("FLOP/s of that step, global", precision, "a large matrix product", bar, 0.3 * speedy / 0.8, 0.8 / speedy, 0.3)
        for precision, bar in speed.USE_BARS.items()
    ]
    ratios += [
        Measured(f"window {window}", precision, "masked", bar, 1.5 * speedy, 1 / speedy, 1.5, parts=0.5 / speedy, share=0.2)
        for precision, bars in speed.LAYER_BARS.items()
        for window, bar in bars.items()
    ]
    spent = growth.Spent(40 / speedy, 2000 / speedy)
    grown = tuple(growth.Growth(command, "here", spent, spent, 9 / speedy) for command in growth.COMMANDS)
    whole = Whole(spent, Needed(imports=9.0, counts=6.0, builds=8.0, passes=7.0, imported=700.0, largest=400.0, name="large"))
    mini = Mini(*(dict.fromkeys(mini_run.PARTS, 6 / speedy) for _ in range(2)), steps=2000, alone=5.0, use=0.2)
    shares = (Share("linear layers", 0.6, 0.5, 0.7),)
    return page.Found(10, 4, 1, 2.0, tuple(ratios), shares, bounds, grown, growth.Reading(1.25, 0.25), whole, mini)


def test_every_bar_of_the_page_has_a_verdict_and_a_missed_one_its_reason() -> None:
    slow = found(1.0)
    wanted = len(slow.ratios) + 1 + len(growth.COMMANDS) + 2 + 1
    assert len(slow.verdicts) == wanted and not any(one.met for one in slow.verdicts)
    assert all(any(character.isdigit() for character in one.reason) for one in slow.verdicts)
    text = page.text(slow, 3)
    assert text.count("| missed: ") == wanted and f"0 of {wanted} are met" in text
    assert "its linear layers, attention and GELU alone take 500 ms of 800 ms" in text
    assert "alone takes 1.25 ms, and the errors of its images 0.25 ms" in text
    assert "alone take 30.0 s" in text and "twice 400 MiB: 1,500 MiB" in text
    assert "steps (6.0 s, at 20% of a large matrix product's FLOP/s" in text
    fast = found(100.0)
    assert all(one.met for one in fast.verdicts) and "missed" not in page.text(fast, 3)


def test_what_is_ahead_is_taken_to_be_as_long_as_what_was() -> None:
    ahead = Ahead(count=4, began=time.monotonic() - 300)
    assert ahead.said() == "1 of 4 in 5 min, ETA 15 min"
    assert ahead.said() == "2 of 4 in 5 min, ETA 5 min"


def test_two_clocks_count_for_one_part_at_a_time() -> None:
    class Worker:
        def inner(self) -> int:
            time.sleep(0.02)
            return 3

        def outer(self) -> int:
            return self.inner() + sum(range(400_000)) * 0

    watch = mini_run.Watch(time.time() - 5)
    watch.time(Worker, "inner", mini_run.SCORING)
    watch.time(Worker, "outer", mini_run.STEPS)
    assert Worker().outer() == 3
    watch.tick()
    assert watch.clock[mini_run.START] >= 5 and watch.clock[mini_run.SCORING] >= 0.02
    assert watch.cpu[mini_run.STEPS] > watch.cpu[mini_run.SCORING] >= 0
    assert watch.clock[mini_run.PACKING] == watch.cpu[mini_run.PACKING] == 0


def test_records_become_more_under_further_seeds(tmp_path: Path) -> None:
    committed = [made(1.0, seed=seed, layout=layout) for seed in (0, 1) for layout in ("global", "x")]
    for one in committed:
        record.write(one, record.path_of(tmp_path / "few", one.row))
    growth.fill(tmp_path / "many", tmp_path / "few", 10)
    found = record.read_all(tmp_path / "many")
    assert {one.row.seed for one in found} == {0, 1, 1000, 1001, 2000, 2001} and len({one.id for one in found}) == len(found) == 10
    assert sorted(one.id for one in found if one.row.seed < 1000) == sorted(one.id for one in committed)


def test_reading_is_measured_of_records_and_of_the_errors_beside_them(tmp_path: Path) -> None:
    one = made(1.0, seed=0)
    record.write(one, record.path_of(tmp_path, one.row))
    read = growth.reading(tmp_path, 1)
    assert read.record > 0 and read.errors >= 0


def test_a_command_that_ends_as_it_should_not_is_no_measurement(tmp_path: Path) -> None:
    words = ("check", "no_such_entry")
    with pytest.raises(subprocess.CalledProcessError, match="exit status 2"):
        growth.spent(words, PROJECT, tmp_path)
    found = growth.spent(words, PROJECT, tmp_path, ends=(0, 2))
    assert found.seconds > 0 and found.memory > 1


def test_growth_is_what_a_record_more_takes() -> None:
    runs = [[growth.Spent(seconds, memory)] for seconds, memory in ((2.0, 100.0), (3.0, 120.0))]
    found = growth._growth("leaderboard, again", Path("here"), runs)
    assert found.milliseconds == pytest.approx(1000 * 1.0 / 500)
    lines = growth.section([found], growth.Reading(1.25, 0.5), 1)
    assert lines[-4] == "| `bench leaderboard`, again | 2.00 s | 3.00 s | 2.00 ms | 120 MiB |"
