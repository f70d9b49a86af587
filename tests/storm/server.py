"""A tracking server that dies in the middle of a run: MLflow's own, killed; and one that answers with errors, then not at all."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from benchmark.files import importing
from benchmark.recording import tracking
from benchmark.recording.mirror.progress import progress
from tests.conftest import free_port
from tests.storm import scenarios as told
from tests.storm.lives import begin, live

SECRET = "s3cret"
TRACKED = [word for word in told.RUN if word != "--no-track"]
PATIENCE = 180.0  # seconds for a server to begin, and for its mirror to copy a line, on a busy machine


def killed(room: Path) -> bool:
    """Kill the server in the middle of a run, and replay the rest into one that comes back; tell whether the run came out as without."""
    calm, home, port = room / "calm", room / "home", free_port()
    calm.mkdir(parents=True)
    home.mkdir()
    told.finished(told.RUN, calm)
    store = f"http://user:{SECRET}@127.0.0.1:{port}"
    with _served(room, port) as server:
        pid = begin([*TRACKED, "--store", store], home, 0)
        _wait(lambda: any(path.stat().st_size for path in home.glob("runs/*/metrics.jsonl")), pause=0.002)
        os.kill(pid, signal.SIGSTOP)  # so that it lasts until the server has something of it
        (folder,) = home.glob("runs/*")
        assert not (folder / "record.json").exists(), "the run was over before the server could die in it"
        _wait(lambda: progress(folder, store).get("lines", 0) > 0)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        os.kill(pid, signal.SIGCONT)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    said = (room / "home.said0").read_text()
    assert code == 0 and "could not be written" in said, said
    with _served(room, port):
        outcomes = [told.finished(["track", "sync", "--store", store], home).said for _ in range(2)]
    assert "and the record" in outcomes[0] and "up to date" in outcomes[1], outcomes
    _no_secret(home, said, *outcomes)
    return told.run_result(home) == told.run_result(calm)


def failing(room: Path) -> bool:
    """Track a run on a server that answers with errors which repeat the address; tell whether the run came out as without."""
    calm, home = room / "calm", room / "home"
    calm.mkdir(parents=True)
    home.mkdir()
    told.finished(told.RUN, calm)
    server = HTTPServer(("127.0.0.1", 0), _Failing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ended = live([*TRACKED, "--store", f"http://user:{SECRET}@127.0.0.1:{server.server_port}"], home)
    server.shutdown()
    assert ended.code == 0, ended.said
    _no_secret(home, ended.said)
    return told.run_result(home) == told.run_result(calm)


class _Failing(BaseHTTPRequestHandler):
    """Answers with an error that repeats the address, as servers do."""

    def do_GET(self) -> None:
        self.send_error(500, self.path)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _served(room: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server on a database in `room` for the time of the block."""
    where = ["--backend-store-uri", f"sqlite:///{room / 'mlflow.db'}", "--artifacts-destination", str(room / "artifacts")]
    with (room / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *where],
            stdout=log,
            stderr=log,
            env=os.environ | importing() | tracking.QUIET,
            start_new_session=True,
        )
    try:
        _wait(lambda: _answers(port))
        yield server
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait(done: Callable[[], bool], pause: float = 0.1) -> None:
    until = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < until, f"nothing in {PATIENCE:.0f} s"
        time.sleep(pause)


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _no_secret(home: Path, *said: str) -> None:
    assert not any(SECRET in text for text in said), said
    left = [path for path in home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert not left, left
