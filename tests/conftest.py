"""What several test files share: a home of their own, one thread, tiny entries."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from benchmark.cli import main

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in the background of a script ignores Ctrl-C, and hands that on
    signal.signal(signal.SIGINT, signal.default_int_handler)

ENTRIES = Path(__file__).parent / "entries"
TINY = [
    "--model",
    "dit_tiny",
    "--layout",
    "global",
    "--dataset",
    "leaves_tiny",
    "--recipe",
    "tiny",
    "--subset",
    "6",
    "--registry",
    str(ENTRIES),
    "--device",
    "cpu",
    "--threads",
    "1",
]

Bench = Callable[..., subprocess.CompletedProcess[str]]


def free_port() -> int:
    """Return a port that nobody listens on, below those that the system gives to whoever asks for any: it stays free for a while."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Keep the results independent of the number of cores."""
    torch.set_num_threads(1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for runs, packed images and records."""
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def bench(home: Path) -> Bench:
    """Run the command line in a process of its own, as a user would."""

    def call(*words: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "benchmark.cli", *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=os.environ | {"BENCH_HOME": str(home)}, check=False
        )

    return call


@pytest.fixture
def typed_here(home: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Run the command line in this process: for what is over in a moment, and of which only the words matter."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        try:
            code = main(words)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, said.out, said.err)

    return call
