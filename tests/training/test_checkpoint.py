"""benchmark/training/checkpoint.py: nothing that happens to a disk goes unnoticed."""

import io
import json
import os
import pickle
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
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
    with full_disk(), pytest.raises(BenchError, match="000000001 cannot be written.*There is none before it"):
        save(tmp_path, make(1, size=100_000))
    assert os.listdir(tmp_path) == []
    save(tmp_path, make(1))
    with full_disk(), pytest.raises(BenchError, match="000000002 cannot be written.*The one before is intact"):
        save(tmp_path, make(2, size=100_000))
    assert os.listdir(tmp_path) == ["000000001"]


@contextmanager
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def forge(path: Path, name: str, content: bytes) -> None:
    """Put other content into a checkpoint, with a checksum that matches."""
    (path / name).write_bytes(content)
    sums = {one: checkpoint._sha256(path / one) for one in ("network.safetensors", "ema.safetensors", "state.pt")}
    (path / "sha256.json").write_text(json.dumps(sums))


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("it was run",)


def pickled(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.pt", pickled({"step": 2, "evil": Evil()})),
        ("state.pt", pickled({"step": 3})),
        ("state.pt", pickled([1, 2])),
        ("state.pt", pickle.dumps({"step": 2, "evil": Evil()}, protocol=2)),
        ("state.pt", b""),
        ("state.pt", b"not a file of torch"),
        ("ema.safetensors", b"junk"),
        ("ema.safetensors", (2**62).to_bytes(8, "little") + b"{}"),
        ("network.safetensors", b"\xff" * 64),
    ],
)
def test_content_that_no_checkpoint_has_is_passed_over_though_its_sum_is_right(tmp_path: Path, name: str, content: bytes) -> None:
    save(tmp_path, make(1))
    forge(save(tmp_path, make(2)), name, content)
    said: list[str] = []
    got = last(tmp_path, warn=said.append)
    assert got is not None and got.step == 1
    assert len(said) == 1 and "000000002 is damaged" in said[0] and "the one before it is used" in said[0] and len(said[0]) < 600


def test_where_none_is_intact_nothing_is_said_of_one_before(tmp_path: Path) -> None:
    forge(save(tmp_path, make(1)), "ema.safetensors", b"junk")
    said: list[str] = []
    assert last(tmp_path, warn=said.append) is None
    assert len(said) == 1 and "there is none before it" in said[0]


def test_one_that_was_passed_over_never_outlives_the_ones_that_are_written_after_it(tmp_path: Path) -> None:
    for step in (5, 6, 10**9):
        save(tmp_path, make(step))
    forge(tmp_path / f"{10**9}", "state.pt", b"")
    (tmp_path / "000000900").mkdir()
    for step in (7, 8):
        save(tmp_path, make(step))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [7, 8]


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
