"""benchmark/quality/evaluation.py: `bench evaluate --metrics` on a real run, killed and resumed, into the record and the page."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.recording import record
from benchmark.recording.record import Record
from tests.conftest import ENTRIES, TINY, Bench

SCORE = ["--registry", str(ENTRIES), "--device", "cpu", "--threads", "1", "--sampler", "ddim", "--sampling-steps", "2", "--samples", "600"]


@pytest.fixture
def run(bench: Bench, home: Path) -> Path:
    """The folder of a finished run."""
    done = bench("run", *TINY, "--no-track")
    assert done.returncode == 0, done.stderr
    return next((home / "runs").iterdir())


def published(home: Path) -> Record:
    return record.read(next((home / "leaderboard" / "records").rglob("*.json")))


def test_scores_join_the_record_and_a_kill_changes_nothing(bench: Bench, home: Path, run: Path) -> None:
    before = published(home)
    command = [sys.executable, "-m", "benchmark.cli", "evaluate", run.name, *SCORE, "--metrics", "fd_randconv,memorisation"]
    process = subprocess.Popen(command, env=os.environ | {"BENCH_HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    chunk = run / "samples" / "ddim2-seed0" / "features"
    while process.poll() is None and not list(chunk.rglob("000000-*.safetensors")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert published(home) == before
    done = bench("evaluate", run.name, *SCORE, "--metrics", "fd_randconv,memorisation", "--json")
    assert done.returncode == 0, done.stderr
    resumed = published(home)
    assert resumed == record.read(run / "record.json")
    assert set(resumed.scores) >= {"fd_randconv", "memorisation", "memorisation_ratio_test", "memorisation_randconv"}
    assert (resumed.psnr, resumed.weights_sha256, resumed.training) == (before.psnr, before.weights_sha256, before.training)
    score = resumed.scores["fd_randconv"]
    assert (score.extractor, score.version, score.small, score.samples) == ("randconv", "fd_randconv-1.2", False, 600)
    assert (score.reference_samples, score.reference_trained_on) == (330, 6)  # too few images to leave those of this run out
    ratio, share = (resumed.scores[f"memorisation{which}"] for which in ("_ratio_test", ""))
    assert (ratio.version, share.version, share.null) == ("memorisation-2", "memorisation-1", None)
    assert ratio.null is not None and ratio.null > 1  # 6 training images lie farther off than the nearest of 299
    assert score.sampling == "ddim, 2 steps, seed 0"
    assert json.loads(done.stdout)["scores"]["fd_randconv"]["value"] == score.value
    assert (run / "samples" / "ddim2-seed0" / "nearest.png").read_bytes().startswith(b"\x89PNG")
    for path in list(chunk.rglob("*.safetensors")):  # from nothing again: the numbers of an uninterrupted pass
        path.unlink()
    assert bench("evaluate", run.name, *SCORE, "--metrics", "fd_randconv,memorisation").returncode == 0
    assert published(home).scores == resumed.scores
    few = [*SCORE[:-1], "300", "--metrics", "fd_randconv", "--allow-small"]
    refused = bench("evaluate", run.name, *few)
    assert (refused.returncode, "does not replace it" in refused.stderr) == (2, True)
    assert published(home).scores == resumed.scores


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--metrics", "fiid"], 2, "Did you mean 'fid'"),
        (["--metrics", ","], 2, "--metrics is empty"),
        (["--metrics", "fid", "--samples", "600"], 2, "--allow-small"),
        (["--metrics", "fd_randconv", "--samples", "0"], 2, "argument --samples: 0 must be from 1"),
        (["--metrics", "fd_randconv", "--batch", "0"], 2, "argument --batch: 0 must be from 1"),
        (["--metrics", "fid", "--samples", "600", "--allow-small", "--inception-weights", "none.pth"], 2, "none.pth cannot be read"),
    ],
)
def test_what_cannot_be_scored_is_one_paragraph(typed_here: Bench, finished: str, words: list[str], code: int, message: str) -> None:
    done = typed_here("evaluate", finished, "--registry", str(ENTRIES), *words)
    assert (done.returncode, message in done.stderr, done.stdout) == (code, True, ""), done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a finished run that the refused commands share."""
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "benchmark.cli", "run", *TINY, "--no-track"]
    subprocess.run(command, env=os.environ | {"BENCH_HOME": str(home)}, check=True, capture_output=True)
    return str(next((home / "runs").iterdir()))
