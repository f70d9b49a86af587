"""The baseline of the measurements is the same network, and the table says what was measured."""

import json
from pathlib import Path

import pytest
import torch

from benchmark.contract import Attention, ImageShape
from benchmark.recording import record
from registry.backbones.dit import DiT
from tests.perf import growth, speed
from tests.perf.bounds import Bound, Parts, parts_alone, section
from tests.perf.plain_dit import plain
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


def test_the_table_and_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(speed, "LAYER_BARS", {"fp32": {3: 0.0, 7: 1e9}})
    path = tmp_path / "performance.md"
    assert speed.main(["--only", "layers", "--repeat", "1", "--json", "--write", str(path)]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["met"], second["met"]) == (True, False)
    assert first["value"] == pytest.approx(first["reference_seconds"] / first["seconds"])
    text = path.read_text()
    assert f"**{first['value']:.2f}**" in text
    assert "1e+09 (missed)" in text
    assert "window 3 (bands)" in text


def test_records_become_more_under_further_seeds(tmp_path: Path) -> None:
    committed = [made(1.0, seed=seed, layout=layout) for seed in (0, 1) for layout in ("global", "x")]
    for one in committed:
        record.write(one, record.path_of(tmp_path / "few", one.row))
    growth.fill(tmp_path / "many", tmp_path / "few", 10)
    found = record.read_all(tmp_path / "many")
    assert {one.row.seed for one in found} == {0, 1, 1000, 1001, 2000, 2001} and len({one.id for one in found}) == len(found) == 10
    assert sorted(one.id for one in found if one.row.seed < 1000) == sorted(one.id for one in committed)


def test_growth_is_what_a_record_more_takes() -> None:
    runs = [[growth.Spent(seconds, memory)] for seconds, memory in ((2.0, 100.0), (3.0, 120.0))]
    found = growth._growth("leaderboard, again", Path("here"), runs)
    assert found.milliseconds == pytest.approx(1000 * 1.0 / 500)
    assert growth.section([found], 1)[-2] == "| `bench leaderboard`, again | 2.00 s | 3.00 s | 2.00 ms | 120 MiB |"
