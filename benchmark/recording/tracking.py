"""MLflow beside the runs: start a mirror, replay what it missed, open its pages.

No run ever waits for MLflow or imports it: metrics.jsonl and the record are the truth, and a process of its own
(benchmark/recording/mirror) copies them.
"""

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from benchmark.errors import BenchError, UsageError
from benchmark.files import importing, install
from benchmark.recording.mirror.progress import PREPARED, progress, shown
from benchmark.recording.mirror.store import SQLITE
from benchmark.recording.said import scrubbed

LOWEST_GAP_FIRST = "orderByKey=metrics.%60psnr_gap%60&orderByAsc=true"

# For the processes below only. Without the first three an unreachable server hangs for minutes per call.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


def _missing() -> str:
    return (
        f"MLflow is not installed, so nothing is mirrored: {install('tracking')}, "
        "then `benchmark.recording.tracking.sync(...)` replays the runs."
    )


def default_store(home: Path) -> str:
    """Return the project's own store, a database beside the runs; its artifacts lie in mlartifacts/ next to it."""
    return f"{SQLITE}{home.resolve() / 'mlflow.db'}"


class Mirror:
    """A process that copies one run into MLflow while it happens, or the reason why there is none."""

    def __init__(self, run_dir: Path, store: str, process: subprocess.Popen[bytes] | None, problem: str | None = None) -> None:
        self._run_dir, self._store, self._process, self._problem = run_dir, store, process, problem

    def finish(self, timeout: float = 10.0) -> str | None:
        """Let the mirror copy the rest, `timeout` seconds at most; return a warning to be shown once, or None."""
        if self._process is None:
            return self._problem
        with contextlib.suppress(OSError, ValueError):  # it has ended already: its exit code tells
            _tell(self._process, "finish\n").close()
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return (
                f"The MLflow store {shown(self._store)} is not up to date yet. Its mirror goes on in the background "
                f"(process {self._process.pid}); the run does not need it; "
                "`benchmark.recording.tracking.sync(...)` replays what is missing."
            )
        if code == 0:
            return None
        reason = progress(self._run_dir, self._store).get("problem") or f"its mirror ended with code {code}"
        return (
            f"The MLflow store {shown(self._store)} could not be written: {reason}. The run does not need it; "
            "`benchmark.recording.tracking.sync(...)` replays what is missing."
        )


def start(run_dir: Path, *, store: str) -> Mirror:
    """Start to mirror a run that has written its spec.json; never wait, never raise."""
    if importlib.util.find_spec("mlflow") is None:
        return Mirror(run_dir, store, None, _missing())
    try:
        with (run_dir / "tracking.log").open("ab") as log:
            process = _spawn("follow", str(run_dir), "--parent", str(os.getpid()), store=store, out=subprocess.DEVNULL, errors=log)
    except OSError as problem:
        return Mirror(
            run_dir,
            store,
            None,
            f"The MLflow mirror of this run could not be started: {problem}. The run does not need it; "
            "`benchmark.recording.tracking.sync(...)` replays it.",
        )
    return Mirror(run_dir, store, process)


class Replay:
    """One process that brings runs up to date in a store, in the order in which they are added."""

    def __init__(self, store: str) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise BenchError(_missing())
        self._store, self._added = store, list[Path]()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by finish()
        self._process = _spawn("sync", store=store, out=subprocess.PIPE, errors=self._errors)

    def add(self, run_dir: Path) -> None:
        """Hand over one run; return at once."""
        self._added.append(run_dir)
        with contextlib.suppress(OSError):  # the process is gone: `finish` says so of every run
            _tell(self._process, f"{run_dir.resolve()}\n")

    def finish(self, timeout: float | None = None) -> list[tuple[str, str]]:
        """Return the id and the outcome of every run added; an outcome that begins with 'failed' says why."""
        lost = "the mirror ended early: "
        try:
            answers, _ = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            answers, _ = self._process.communicate()
            lost = f"the mirror needed more than {timeout} s"
        except BaseException:
            self._process.kill()
            raise
        lost += _last_line(self._errors) if lost.endswith(" ") else ""
        self._errors.close()
        outcomes = dict(json.loads(line) for line in answers.decode().splitlines())
        return [(run_dir.name, outcomes.get(run_dir.name, f"failed: {lost}")) for run_dir in self._added]


def sync(run_dirs: Sequence[Path], store: str) -> list[tuple[str, str]]:
    """Replay into a store what it has missed of each run; a second call finds nothing left to do."""
    if not run_dirs:
        return []
    replay = Replay(store)
    for run_dir in run_dirs:
        replay.add(run_dir)
    return replay.finish()


def ui(home: Path, store: str, host: str = "127.0.0.1", port: int = 5000, *, opened: bool = False) -> int:
    """Serve MLflow's pages on a store until Ctrl-C; return the exit code. `opened`: show the experiment's runs in the browser."""
    if store.startswith(("http://", "https://")):
        print(f"The store is a server with pages of its own: open {shown(store)}")
        return 0
    if importlib.util.find_spec("mlflow") is None:
        raise BenchError(_missing())
    _refuse_busy(host, port)
    with tempfile.TemporaryFile(dir=home) as log:
        prepared = _spawn("prepare", store=store, out=subprocess.PIPE, errors=log)
        told = prepared.communicate()[0].decode(errors="replace")
        said = re.search(rf"^{PREPARED}(\S+)$", told, re.MULTILINE)  # among whatever else MLflow prints
        if prepared.returncode or said is None:
            raise BenchError(f"The MLflow store {shown(store)} cannot be opened: {_last_line(log)}")
        options = ("--host", host, "--port", str(port), "--workers", "1")
        server = _spawn("server", *options, module="mlflow", store=store, out=log, errors=log)
        try:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            while not _answers(host, port):
                if server.poll() is not None:
                    raise BenchError(f"The MLflow UI ended at once: {_last_line(log)}")
                time.sleep(0.2)
            # not MLflow's home page: our runs, those with the smallest gap first
            address = f"http://{host}:{port}/#/experiments/{said[1]}/runs?{LOWEST_GAP_FIRST}"
            print(f"MLflow shows the runs of {shown(store)} at {address}  (Ctrl-C ends it)", flush=True)
            if opened:
                webbrowser.open(address)
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(server)


def _spawn(
    *words: str, store: str, out: int | IO[bytes], errors: IO[bytes], module: str = "benchmark.recording.mirror"
) -> subprocess.Popen[bytes]:
    """Start a process with the store in its environment, where no process list shows its password."""
    where = {"MLFLOW_TRACKING_URI": store, "MLFLOW_BACKEND_STORE_URI": store}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *words],
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=errors,
        bufsize=0,
        env=PATIENCE | os.environ | importing() | QUIET | where,
        start_new_session=True,
    )  # a Ctrl-C is the parent's to handle


def _tell(process: subprocess.Popen[bytes], line: str) -> IO[bytes]:
    """Write a line to a process of `_spawn`, whose stdin is a pipe, and return that pipe."""
    assert process.stdin is not None
    process.stdin.write(line.encode())
    return process.stdin


def _refuse_busy(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as problem:
            raise UsageError(
                f"Port {port} on {host} cannot be used: {str(problem).rstrip('.')}. Choose another one, for example "
                f"`port={port % 60_000 + 1}`."
            ) from None


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server and the workers it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(server.pid, number)
            server.wait(5)


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return scrubbed(lines[-1]) if lines else "it said nothing"
