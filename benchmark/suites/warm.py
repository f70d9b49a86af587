"""A process that has imported what the rows of a sweep import, and forks: each row is a process all the same, seconds sooner at work.

The sweep asks through a socket, one order and one answer at a time: fork a row that writes into these two files, or say how
a row has ended. The process does nothing else. When the sweep closes the socket, or is killed, it ends; rows at work go on.
"""

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from benchmark.declaring import closure
from benchmark.errors import BenchError
from benchmark.files import PROJECT

ORDER_BYTES = 2**17
CODE = PROJECT / "benchmark"
# What a row imports before it begins, and on its way.
IMPORTED = ("benchmark.run", "torch._dynamo", "matplotlib.style", "matplotlib.figure", "matplotlib.backends.backend_svg")


class Gone(BenchError):
    """No row can be forked, or asked about, any more."""


class Warm:
    """The sweep's side of the process."""

    def __init__(self, command: str, environment: Mapping[str, str], imported: Sequence[str] = IMPORTED) -> None:
        """Begin it. `command` names the module whose `main` takes the words of a row; `imported` what else a row needs."""
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            words = [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), command, *imported]
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
        self._ready, self._asked = False, 0

    def fork(self, words: Sequence[str], out: IO[bytes], errors: IO[bytes]) -> "Forked":
        """Begin a row that writes into two files; raise Gone where that cannot be."""
        if not self._ready:  # nothing is ordered before: a Ctrl-C here leaves no row behind
            self._heard()
            self._ready = True
        number = self._say({"words": list(words)}, out.fileno(), errors.fileno())
        try:
            pid = self._answer(number)
        except KeyboardInterrupt:  # the order has been given all the same
            if pid := self._answer(number):
                _end(pid, signal.SIGINT)
            raise
        if pid is None:
            raise Gone("the code has changed since the sweep began")
        return Forked(self, pid)

    def ended(self, pid: int) -> int | None:
        """Return the exit code of a row, None while it is at work; raise Gone where nobody knows."""
        return self._answer(self._say({"ended": pid}))

    def close(self) -> None:
        """Let the process end; it needs no more than a moment."""
        self._door.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _say(self, order: dict[str, Any], *files: int) -> int:
        self._asked += 1
        try:
            socket.send_fds(self._door, [json.dumps(order | {"number": self._asked}).encode()], files)
        except OSError as problem:
            raise Gone(f"the process that forks them has ended ({problem.strerror})") from None
        return self._asked

    def _answer(self, number: int) -> int | None:
        """Return the answer to an order; those to orders that a Ctrl-C left are passed over."""
        while (heard := self._heard())["number"] != number:
            pass
        value: int | None = heard["value"]
        return value

    def _heard(self) -> dict[str, Any]:
        try:
            heard = self._door.recv(ORDER_BYTES)
        except OSError as problem:
            raise Gone(f"the process that forks them has ended ({problem.strerror})") from None
        if not heard:
            raise Gone(f"the process that forks them has ended (exit code {self._process.wait()})")
        return dict(json.loads(heard))


class Forked:
    """A row that was forked: a process group of its own."""

    def __init__(self, warm: Warm, pid: int) -> None:
        self._warm, self.pid = warm, pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while at work; a row of which nobody can tell any more is killed."""
        if self._code is None:
            try:
                self._code = self._warm.ended(self.pid)
            except Gone:
                self._code = -signal.SIGKILL
                _end(self.pid, signal.SIGKILL)
        return self._code


def _end(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def serve(door: socket.socket, command: str, imported: Sequence[str]) -> int:
    """Import, then answer orders until the sweep has gone; in a forked row, run it and return its exit code."""
    began, codes = _code_as_of(), dict[int, int | None]()
    run = _ready(command, imported)
    door.send(b"{}")
    while True:
        try:
            text, files, _, _ = socket.recv_fds(door, ORDER_BYTES, 2)
        except ConnectionResetError:
            return 0
        if not text:
            return 0
        order = json.loads(text)
        value = None
        if "ended" in order:
            value = codes[order["ended"]] = _code_of(order["ended"], codes.get(order["ended"]))
        elif _code_as_of() == began:
            sys.stdout.flush()
            if not (value := os.fork()):
                door.close()
                return int(run(_become(order["words"], *files)))
            with suppress(OSError):  # the row has done it itself
                os.setpgid(value, value)
        for file in files:
            os.close(file)
        with suppress(BrokenPipeError):
            door.send(json.dumps({"number": order["number"], "value": value}).encode())


def _ready(command: str, imported: Sequence[str]) -> Any:
    """Import all that a row needs, and read what its digest of code rests on; start no thread. Return the command's `main`."""
    for name in imported:
        with suppress(ImportError):  # whoever needs it says what is missing
            importlib.import_module(name)
    closure.digest({})
    main = importlib.import_module(command).main
    gc.collect()
    gc.freeze()  # what is shared stays shared
    return main


def _code_as_of() -> dict[Path, int]:
    """Return when each file of the instrument was written: a row runs what was imported, and its digest reads what is there."""
    return {path: path.stat().st_mtime_ns for path in CODE.rglob("*.py")}


def _code_of(pid: int, known: int | None) -> int | None:
    """Return the exit code of a child, None while it is at work; a child tells it once, and an answer may have been passed over."""
    if known is not None:
        return known
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _become(words: list[str], out: int, errors: int) -> list[str]:
    """Make this process that of a row: its own group, its own files, its own words."""
    os.setpgid(0, 0)
    for file, place in ((out, 1), (errors, 2)):
        os.dup2(file, place)
        os.close(file)
    sys.argv[1:] = words
    return words


if __name__ == "__main__":
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3:]))
