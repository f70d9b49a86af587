"""benchmark/run.py end to end: real images, real kills."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.recording import record
from tests.conftest import TINY, Bench
from tests.stopping import stopped

RUN = ["run", *TINY, "--no-track", "--json"]
LONG = [*RUN, "--set", "recipe.steps=200", "--checkpoint-every", "0.02"]  # a row of more steps, to be stopped in


def result(done: subprocess.CompletedProcess[str]) -> record.Record:
    assert done.returncode == 0, done.stderr
    return record.read(Path(json.loads(done.stdout)["record"]))


def without_time(made: record.Record) -> tuple[object, ...]:
    return made.id, made.weights_sha256, made.psnr, made.trajectory, made.data


def end(home: Path, at: int, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Run the long row until it sends itself a signal behind a checkpoint of step `at` or of a later one."""
    command = stopped(at, number, *LONG)
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"BENCH_HOME": str(home)}, check=False)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the row was run."""
    home = tmp_path_factory.mktemp("once")
    command = [sys.executable, "-m", "benchmark.cli", *RUN]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"BENCH_HOME": str(home)}, check=False)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def first(once: Path, home: Path) -> record.Record:
    """The record of that run, in a home of the test's own."""
    shutil.copytree(once, home, dirs_exist_ok=True)
    (path,) = (home / "leaderboard" / "records").rglob("*.json")
    return record.read(path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> record.Record:
    home = tmp_path_factory.mktemp("whole")
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.cli", *LONG],
        capture_output=True,
        text=True,
        env=os.environ | {"BENCH_HOME": str(home)},
        check=False,
    )
    return result(done)


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(home: Path, bench: Bench, uninterrupted: record.Record) -> None:
    for step in (30, 120):
        assert end(home, step, signal.SIGKILL).returncode == -signal.SIGKILL
    resumed = result(bench(*LONG))
    assert resumed.training.resumed == 2
    assert without_time(resumed) == without_time(uninterrupted)


def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(home: Path, bench: Bench, uninterrupted: record.Record) -> None:
    done = end(home, 10, signal.SIGINT)
    assert done.returncode == 130
    assert "The same command resumes" in done.stderr
    assert "Traceback" not in done.stderr
    assert without_time(result(bench(*LONG))) == without_time(uninterrupted)


def test_a_damaged_last_checkpoint_is_named_and_the_run_still_ends_the_same(home: Path, bench: Bench, uninterrupted: record.Record) -> None:
    assert end(home, 100, signal.SIGKILL).returncode == -signal.SIGKILL
    newest = max(home.glob("runs/*/checkpoints/[0-9]*"), key=lambda path: int(path.name))
    (newest / "ema.safetensors").write_bytes(b"x")
    done = bench(*LONG)
    assert f"{newest} is damaged" in done.stderr
    assert without_time(result(done)) == without_time(uninterrupted)


def test_the_same_command_again_returns_the_record_at_once(first: record.Record, bench: Bench) -> None:
    again = bench(*RUN)
    assert json.loads(again.stdout)["status"] == "already finished"
    assert result(again) == first
    anew = bench(*RUN, "--force")
    assert json.loads(anew.stdout)["status"] == "finished"
    assert without_time(result(anew)) == without_time(first)


def test_a_record_can_be_run_again_from_itself(first: record.Record, home: Path, bench: Bench) -> None:
    path = record.path_of(home / "leaderboard" / "records", first.row)
    again = bench("run", "--record", str(path), "--force", "--no-track", "--json", "--device", "cpu", "--threads", "1")
    assert without_time(result(again)) == without_time(first)


def test_a_run_draws_its_curves_and_logs_its_metrics(first: record.Record, home: Path) -> None:
    folder = home / "runs" / first.id
    assert "<svg" in (folder / "figures" / "psnr.svg").read_text()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "psnr_gap" in line["metrics"]] == [10, 20, 40]
    assert lines[-1]["step"] == 40


def test_a_line_that_a_kill_cut_spoils_no_other(home: Path, bench: Bench) -> None:
    assert end(home, 10, signal.SIGKILL).returncode == -signal.SIGKILL
    (path,) = home.glob("runs/*/metrics.jsonl")
    path.write_bytes(path.read_bytes() + b'{"step": 12, "ti')
    result(bench(*LONG))
    broken = [line for line in path.read_text().splitlines() if not line.endswith("}}")]
    assert broken == ['{"step": 12, "ti']


def test_set_keeps_a_run_off_the_leaderboard(home: Path, bench: Bench) -> None:
    made = result(bench(*RUN, "--set", "recipe.steps=10", "--set", "recipe.trajectory=(10,)"))
    assert made.overrides == ("recipe.steps=10", "recipe.trajectory=(10,)")
    assert not (home / "leaderboard").exists()


def test_evaluate_scores_the_checkpoint_again(first: record.Record, home: Path, bench: Bench, typed_here: Bench) -> None:
    again = result(bench("evaluate", first.id[:6], "--registry", TINY[TINY.index("--registry") + 1], "--json"))
    assert again.psnr == first.psnr
    assert again.created == first.created
    (home / "runs" / first.id / "checkpoints").rename(home / "gone")
    gone = typed_here("evaluate", first.id)
    assert gone.returncode == 1
    assert "has no checkpoint left" in gone.stderr


def test_two_processes_do_not_share_a_run(home: Path, typed_here: Bench) -> None:
    words = [*RUN, "--set", "recipe.steps=100000", "--set", "recipe.trajectory=()", "--checkpoint-every", "0.05"]
    command = [sys.executable, "-m", "benchmark.cli", *words]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"BENCH_HOME": str(home)}
    ) as other:
        try:
            while not list(home.glob("runs/*/checkpoints/[0-9]*")):
                assert other.poll() is None
                time.sleep(0.02)
            second = typed_here(*words)
        finally:
            other.kill()
    assert second.returncode == 2
    assert "in progress in another process" in second.stderr


def test_loss_that_diverges_is_reported_with_its_step(home: Path, bench: Bench) -> None:
    done = bench(*RUN, "--set", "recipe.learning_rate=1e30", "--set", "recipe.warmup=0", "--set", "recipe.clip=None")
    assert done.returncode == 1
    assert "The loss is" in done.stderr
    assert "at step" in done.stderr
    assert "Traceback" not in done.stderr


def test_images_that_changed_are_not_resumed_with(first: record.Record, home: Path, typed_here: Bench) -> None:
    folder = home / "runs" / first.id
    document = json.loads((folder / "spec.json").read_text())
    document["data"]["train_sha256"] = "0" * 64
    (folder / "spec.json").write_text(json.dumps(document))
    (folder / "record.json").unlink()
    record.path_of(home / "leaderboard" / "records", first.row).unlink()
    done = typed_here(*RUN)
    assert done.returncode == 1
    assert "have changed since it began" in done.stderr


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, typed_here: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("a file")
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "file"))
    done = typed_here(*RUN)
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_is_full_is_named_and_leaves_no_half_file(home: Path) -> None:
    """The limit on a file's size stands in for a disk without room."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000)); "
        "from benchmark.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *RUN], capture_output=True, text=True, check=False, env=os.environ | {"BENCH_HOME": str(home)}
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "written" in done.stderr
    assert not list(home.rglob("*.tmp"))
    assert not list(home.rglob("record.json"))
