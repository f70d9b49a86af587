"""What is killed, and what must come out of it whatever is killed when."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from safetensors.torch import load_file

from benchmark.running import leftovers
from benchmark.training.checkpoint import KEPT, weights_digest
from tests.conftest import ENTRIES
from tests.storm.lives import Life, live

VARIES = ("wall_seconds", "evaluation_seconds", "peak_memory_bytes", "resumed")  # of a record: how it went, not what came out
MACHINE = ["--registry", str(ENTRIES), "--device", "cpu", "--threads", "1"]
TINY = ["--model", "dit_tiny", "--layout", "global", "--dataset", "leaves_tiny", "--recipe", "tiny", "--subset", "6", *MACHINE]
RUN = ["run", *TINY, "--no-track", "--checkpoint-every", "0.1"]


class Scenario(NamedTuple):
    """A command, what must be there before it, the digest of what it leaves, and at how many places it is killed, short and long."""

    name: str
    words: Callable[[Path], list[str]]
    prepare: Callable[[Path], None]
    result: Callable[[Path], str]
    points: tuple[int, int]


def scenarios() -> list[Scenario]:
    """Return all of them."""
    return [
        Scenario("bench run", lambda home: RUN, lambda home: None, run_result, (2, 80)),
        Scenario("bench sample", _sample, _trained, sample_result, (1, 20)),
        Scenario("bench evaluate --metrics", _evaluate, _trained, evaluate_result, (1, 16)),
        Scenario("bench analyze", _analyze, _trained, analyze_result, (1, 14)),
        Scenario("bench data add", _add, _pictures, add_result, (2, 48)),
        Scenario("bench leaderboard", lambda home: ["leaderboard"], _trained, leaderboard_result, (1, 18)),
        Scenario("bench sweep", _sweep, _suite, sweep_result, (0, 6)),
    ]


def run_result(home: Path) -> str:
    """Return the digest of a finished run: its record but for how long it took, its weights, the errors of its images."""
    folder = _run(home)
    steps = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert len(steps) <= KEPT and not leftovers.found(folder), (steps, leftovers.found(folder))
    ema = weights_digest(load_file(folder / "checkpoints" / steps[-1] / "ema.safetensors"))
    published = sorted((home / "leaderboard" / "records").rglob("*.json"))
    return _digest(_record(folder / "record.json"), ema, weights_digest(load_file(folder / "errors.safetensors")), *map(_record, published))


def sample_result(home: Path) -> str:
    """Return the digest of the samples."""
    (array,) = _run(home).glob("samples/*/images.npy")
    return _digest(array.read_bytes(), sorted(path.name for path in array.parent.iterdir()))


def evaluate_result(home: Path) -> str:
    """Return the digest of the record with its scores."""
    return _digest(_record(_run(home) / "record.json"), not leftovers.found(_run(home)))


def analyze_result(home: Path) -> str:
    """Return the digest of the numbers of the analyses."""
    found = sorted(_run(home).glob("analysis/*.json"))
    return _digest([(path.name, json.loads(path.read_text())["numbers"]) for path in found], not leftovers.found(_run(home)))


def add_result(home: Path) -> str:
    """Return the digest of the packed images, their manifest and its pin, and the names of all that lies there."""
    files = [path for folder in ("packed", "data") for path in sorted((home / folder).rglob("*")) if path.is_file()]
    return _digest(*((str(path.relative_to(home)), path.read_bytes()) for path in files))


def leaderboard_result(home: Path) -> str:
    """Return the digest of the pages and the names of the pictures."""
    board = home / "leaderboard"
    pages = [(path.name, path.read_bytes()) for path in sorted(board.glob("*"), key=str) if path.is_file()]
    return _digest(pages, sorted(path.name for path in (board / "figures").iterdir()))


def sweep_result(home: Path) -> str:
    """Return the digest of the records of the suite."""
    found = sorted((home / "leaderboard" / "records").rglob("*.json"))
    assert not [left for folder in (home / "runs").glob("*/") for left in leftovers.found(folder)]
    return _digest([(path.name, _record(path)) for path in found])


def finished(words: list[str], home: Path) -> Life:
    """Live a command to its end; raise AssertionError where it fails."""
    ended = live(words, home)
    assert ended.code == 0, f"{' '.join(words)} ended with {ended.code}: {ended.said[-2000:]}"
    return ended


def _trained(home: Path) -> None:
    """Train a row, once for all scenarios."""
    once = home.parents[1] / "trained"
    if not once.exists():
        once.mkdir()
        finished(RUN, once)
    shutil.copytree(once, home, dirs_exist_ok=True)


def _sample(home: Path) -> list[str]:
    return ["sample", _run(home).name, "--count", "12", "--batch", "4", "--sampler", "ddim", "--sampling-steps", "3", *MACHINE]


def _evaluate(home: Path) -> list[str]:
    sampling = ["--sampler", "ddim", "--sampling-steps", "2", "--batch", "16"]
    return ["evaluate", _run(home).name, "--metrics", "psnr,memorisation", "--samples", "64", *sampling, "--allow-small", *MACHINE]


def _analyze(home: Path) -> list[str]:
    return ["analyze", _run(home).name, "--what", "attention", "--images", "2", "--t", "100,500", *MACHINE]


def _pictures(home: Path) -> None:
    generator = np.random.default_rng(0)
    (home / "pictures").mkdir()
    for number in range(40):
        Image.fromarray(generator.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(home / "pictures" / f"{number:03d}.png")
    (home / "mine" / "datasets").mkdir(parents=True)
    (home / "mine" / "datasets" / "mine.gin").write_text("# Mine\nimport registry.datasets.image_folder\n\nImageFolder.resolution = 8\n")


def _add(home: Path) -> list[str]:
    return ["data", "add", "mine", "--root", str(home / "pictures"), "--registry", str(home / "mine"), "--no-dvc"]


def _suite(home: Path) -> None:
    write_suite(home, rows=2)


def write_suite(home: Path, rows: int) -> None:
    """Write a registry with the tiny entries and a suite of so many rows, which differ in their seeds."""
    shutil.copytree(ENTRIES, home / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "mine" / "suites").mkdir()
    block = {"models": ["dit_tiny"], "layouts": ["global"], "datasets": ["leaves_tiny"], "subsets": [6], "seeds": list(range(rows))}
    (home / "mine" / "suites" / "stormy.gin").write_text(
        f"# Rows of nothing but seeds\nimport benchmark.suite\n\nSuite.recipe = 'tiny'\nSuite.blocks = ({block},)\n"
    )


def _sweep(home: Path) -> list[str]:
    return ["sweep", "stormy", "--jobs", "2", "--registry", str(home / "mine"), "--device", "cpu", "--no-track"]


def _run(home: Path) -> Path:
    (folder,) = (path.parent for path in (home / "runs").glob("*/record.json"))
    return folder


def _record(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    training = {name: value for name, value in found["training"].items() if name not in VARIES}
    return {name: value for name, value in found.items() if name not in ("created", "environment")} | {"training": training}


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
