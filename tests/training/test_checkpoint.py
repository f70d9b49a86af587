"""benchmark/training/checkpoint.py: nothing that happens to a disk goes unnoticed."""

import json
import os
import resource
from pathlib import Path

import pytest
import torch

from benchmark.errors import BenchError
from benchmark.training import checkpoint
from benchmark.training.checkpoint import Checkpoint, last, save, weights_digest


def make(step: int, value: float = 1.0, size: int = 4) -> Checkpoint:
    weights = {"a": torch.full((size,), value), "b": torch.arange(3)}
    moments = {"state": {0: {"step": torch.tensor(float(step)), "exp_avg": torch.full((size,), value)}}, "param_groups": [{"lr": 0.1}]}
    return Checkpoint(step, weights, {"a": torch.zeros(size)}, {"optimizer": moments, "losses": [1.0, 2.0]})


def test_round_trip(tmp_path: Path) -> None:
    save(tmp_path, make(7, 3.5))
    got = last(tmp_path, warn=pytest.fail)
    assert got is not None
    assert got.step == 7
    assert torch.equal(got.network["a"], torch.full((4,), 3.5))
    assert torch.equal(got.state["optimizer"]["state"][0]["exp_avg"], torch.full((4,), 3.5))
    assert got.state["losses"] == [1.0, 2.0]


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert last(tmp_path / "nothing", warn=pytest.fail) is None


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 90, 100, 1000):
        save(tmp_path, make(step))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [100, 1000]


@pytest.mark.parametrize("name", ["network.safetensors", "ema.safetensors", "state.pt", "sha256.json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_last_one_is_named_and_the_one_before_is_used(tmp_path: Path, name: str, how: str) -> None:
    save(tmp_path, make(1))
    newest = save(tmp_path, make(2))
    path, content = newest / name, (newest / name).read_bytes()
    path.unlink()
    if how == "flipped":
        path.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    said: list[str] = []
    got = last(tmp_path, warn=said.append)
    assert got is not None
    assert got.step == 1
    assert len(said) == 1
    assert str(newest) in said[0]


def test_an_unfinished_write_is_swept_away(tmp_path: Path) -> None:
    save(tmp_path, make(1))
    (tmp_path / ".writing-abc").mkdir()
    (tmp_path / ".writing-abc" / "network.safetensors").write_bytes(b"half")
    got = last(tmp_path, warn=pytest.fail)
    assert got is not None
    assert got.step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["000000001"]


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """The limit on a file's size stands in for a disk without room."""
    save(tmp_path, make(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(BenchError, match="000000002 cannot be written"):
            save(tmp_path, make(2, size=100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["000000001"]


def test_a_pickle_that_is_not_plain_tensors_is_not_opened(tmp_path: Path) -> None:
    path = save(tmp_path, make(1))
    torch.save({"step": 1, "evil": pytest.fail}, path / "state.pt")
    sums = {name: checkpoint._sha256(path / name) for name in ("network.safetensors", "ema.safetensors", "state.pt")}
    (path / "sha256.json").write_text(json.dumps(sums))
    with pytest.raises(Exception, match="[Ww]eights.only"):
        last(tmp_path, warn=pytest.fail)


def test_digest_depends_on_names_shapes_types_and_values_only() -> None:
    a = {"x": torch.ones(2, 3), "y": torch.zeros(2)}
    same = weights_digest({"y": torch.zeros(2), "x": torch.ones(3, 2).t().contiguous()})
    assert weights_digest(a) == same
    others = [
        {"x": torch.ones(3, 2), "y": a["y"]},
        {"z": a["x"], "y": a["y"]},
        {"x": a["x"].double(), "y": a["y"]},
        {"x": a["x"] * 2, "y": a["y"]},
    ]
    assert len({same, *map(weights_digest, others)}) == 5
