"""benchmark/running/processes.py: one run on 1, 2 and 3 real processes is the same run; losing one ends it cleanly."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmark.errors import UsageError
from benchmark.recording import record
from benchmark.running.processes import ALONE, Processes, own_device
from tests.conftest import TINY, free_port

PATIENCE = 900.0  # seconds, on a busy machine
RUN = ["run", *TINY, "--no-track", "--json"]
TWENTY = ["--set", "recipe.steps=20", "--set", "recipe.trajectory=(10,)"]


Begin = Callable[..., list[subprocess.Popen[str]]]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Start the processes of a run with the environment that torchrun gives them; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(home: Path, size: int, *words: str) -> list[subprocess.Popen[str]]:
        shared = {"BENCH_HOME": str(home), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        for rank in range(size):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [sys.executable, "-m", "benchmark.cli", *words]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            started.append(subprocess.Popen(command, text=True, env=os.environ | shared | own, **pipes))
        return started[-size:]

    yield start
    for one in started:
        if one.poll() is None:
            one.kill()
            one.communicate()


def weights(home: Path) -> dict[str, torch.Tensor]:
    (folder,) = home.glob("runs/*/checkpoints/000000020")
    return load_file(folder / "network.safetensors")


def wait_for_step(home: Path, step: int, processes: list[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not any(int(path.name) >= step for path in home.glob("runs/*/checkpoints/[0-9]*")):
        assert time.monotonic() < deadline, "no checkpoint came"
        assert all(one.poll() is None for one in processes), [one.communicate()[1] for one in processes]
        time.sleep(0.01)


def test_shares_cover_the_batch_in_order() -> None:
    for size in range(1, 6):
        for count in (size, 7, 128):
            places = [place for rank in range(size) for place in range(count)[Processes(rank, size).share(count)]]
            assert places == list(range(count))
            lengths = [len(range(count)[Processes(rank, size).share(count)]) for rank in range(size)]
            assert max(lengths) - min(lengths) <= 1


def test_one_process_asks_nobody() -> None:
    assert ALONE.any(True, False) == (True, False)
    assert ALONE.ask_first(lambda: 3) == ALONE.in_turn(lambda: 3) == ALONE.only_first(lambda: 3) == 3


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "9", "LOCAL_RANK": "9", "WORLD_SIZE": "16", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    assert own_device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(UsageError, match=f"10 or more processes on this machine, and {torch.cuda.device_count()} GPUs"):
        own_device(torch.device("cuda"))


def test_one_two_and_three_processes_are_the_same_run(tmp_path: Path, begin: Begin) -> None:
    """Batch 4: even over 2, uneven over 3; a micro-batch of 1 besides. 20 steps agree to 1e-5, and one process alone writes."""
    made, trained = {}, {}
    for size in (1, 2, 3):
        home = tmp_path / str(size)
        home.mkdir()
        processes = begin(home, size, *RUN, *TWENTY, *(["--micro-batch", "1"] if size == 2 else []))
        said = [one.communicate(timeout=PATIENCE) for one in processes]
        assert [one.returncode for one in processes] == [0] * size, said
        assert [bool(out) for out, _ in said] == [True] + [False] * (size - 1)
        assert all(not errors for _, errors in said[1:])
        made[size], trained[size] = record.read(Path(json.loads(said[0][0])["record"])), weights(home)
        assert (made[size].training.processes, made[size].training.micro_batch) == (size, int(size == 2))
    for size in (2, 3):
        assert made[size].id == made[1].id
        difference = max(float((a - trained[1][name]).abs().max()) for name, a in trained[size].items())
        assert 0 < difference < 1e-5
        assert made[size].psnr_train == pytest.approx(made[1].psnr_train, abs=1e-4)
        assert made[size].psnr_test == pytest.approx(made[1].psnr_test, abs=1e-4)
        assert made[size].trajectory[0].loss == pytest.approx(made[1].trajectory[0].loss, rel=1e-6)


def test_a_lost_process_ends_the_run_and_another_number_resumes_it(home: Path, begin: Begin) -> None:
    words = [*RUN, "--set", "recipe.steps=100000", "--set", "recipe.trajectory=()", "--checkpoint-every", "0.05"]
    processes = begin(home, 2, *words)
    wait_for_step(home, 5, processes)
    processes[1].send_signal(signal.SIGKILL)
    said = [one.communicate(timeout=PATIENCE)[1] for one in processes]
    assert [one.returncode for one in processes] == [1, -signal.SIGKILL]
    assert "Another process of this run was lost" in said[0]
    assert "Traceback" not in said[0]
    reached = max(int(path.name) for path in home.glob("runs/*/checkpoints/[0-9]*"))
    resumed = begin(home, 1, *words)
    wait_for_step(home, reached + 5, resumed)
    resumed[0].send_signal(signal.SIGTERM)
    assert "Stopped at step" in resumed[0].communicate(timeout=PATIENCE)[1]
    assert resumed[0].returncode == 130


def test_torchrun_stops_at_a_checkpoint(home: Path) -> None:
    """Ctrl-C reaches every process twice: from the terminal and from torchrun. A module in the working folder shadows nothing."""
    (home / "elsewhere").mkdir()
    (home / "elsewhere/benchmark.py").write_text("raise SystemExit('the wrong benchmark')\n")
    words = [*RUN, "--set", "recipe.steps=100000", "--set", "recipe.trajectory=()", "--checkpoint-every", "0.05"]
    started = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "--master-port",
            str(free_port()),
            "--no-python",  # the line of docs/training.md
            str(Path(sys.executable).with_name("bench")),
            *words,
        ],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"BENCH_HOME": str(home)},
        cwd=home / "elsewhere",
    )
    try:
        wait_for_step(home, 5, [started])
        os.killpg(started.pid, signal.SIGINT)
        out, errors = started.communicate(timeout=PATIENCE)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
    assert "bench: Stopped at step" in errors
    step = int(errors.split("bench: Stopped at step ")[1].split()[0])
    assert max(int(path.name) for path in home.glob("runs/*/checkpoints/[0-9]*")) == step
