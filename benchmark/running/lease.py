"""Who works on a run: a lease on its folder that holds across machines, where a file lock does not reach.

    runs/<id>/lease/000007.json    the holder, renewed every few seconds; or released

The highest number is the lease. To take it is to create the next number, which one process alone can do; the numbers
never go down. A lease whose content does not change for as long as its holder declared, by the observer's own clock, is
stale and may be taken; a holder that was only asleep finds the higher number before it writes anything again.
"""

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmark.errors import BenchError, UsageError
from benchmark.running.lease_files import Files

SECONDS = 60.0  # without a renewal until others may take the lease; BENCH_LEASE_SECONDS changes it for a slow file system
RENEWALS = 6  # in that time


class Held(UsageError):
    """Another process works on the run."""


class Lost(BenchError):
    """The lease was taken by another process while this one slept, or its folder is gone."""


class Lease:
    """The right to write to a run, as long as it is renewed."""

    def __init__(self, files: Files, what: str, seconds: float) -> None:
        self._files, self._what, self._seconds = files, what, seconds
        self._owner, self._count, self._name = uuid.uuid4().hex, 0, ""
        self._confirmed = 0.0  # on the clock of `_now`, which goes on while a machine sleeps
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._lost: Lost | None = None

    def take(self, *, alone: bool, wait: bool, note: Callable[[str], None]) -> None:
        """Take the lease; raise Held where its holder shows signs of life, unless `wait`, and then wait for its end.

        alone: nobody else on this machine can be at work on the run (the caller holds a file lock), so that a holder
        of this very machine is gone.
        """
        said = False
        while True:
            number, content = self._highest()
            holder = _parse(content)
            if _free(number, holder, alone) or self._stale(number, content, holder, note):
                if self._create(number + 1):
                    return
                continue
            number, content = self._highest()
            holder = _parse(content)
            if _free(number, holder, alone):
                continue
            if not wait:
                raise Held(self._in_progress(holder))
            if not said:
                note(self._in_progress(holder, "Waiting for it to end."))
                said = True

    def check(self) -> None:
        """Raise Lost where another process has taken over; asks the files only where the last renewal is long ago."""
        if self._lost is None and _now() - self._confirmed > self._seconds / 2:
            self._renew()
        if self._lost:
            raise self._lost

    def keep(self) -> None:
        """Renew until the lease is released or lost; the body of a thread."""
        while not self._ended.wait(self._seconds / RENEWALS) and self._lost is None:
            self._renew(patient=True)

    def release(self) -> None:
        """Leave the run to others, unless it is theirs already."""
        self._ended.set()
        with self._lock, suppress(OSError):  # a folder that is gone is held by nobody
            if self._lost is None and self._is_mine():
                self._files.replace(self._name, json.dumps({"released": True, "time": time.time()}).encode())

    def _renew(self, *, patient: bool = False) -> None:
        """Write the next count, or find out that the lease is lost; `patient` leaves an unreadable folder for later."""
        with self._lock:
            if self._ended.is_set() or self._lost:
                return
            began = _now()  # a renewal that its process slept through confirms what was true before the sleep
            try:
                if not self._is_mine():
                    self._lost = Lost(
                        f"{self._what} was taken over by another process, because this one gave no sign of life "
                        f"for {self._seconds:.0f} s. It stops here and has written nothing since."
                    )
                    return
                self._files.replace(self._name, self._content())
                self._confirmed = began
            except OSError as problem:
                if not patient:
                    self._lost = Lost(
                        f"{self._what} cannot be reached any more: {self._files}: {problem.strerror or problem}. "
                        "Free space or bring the folder back, then run the same command."
                    )

    def _is_mine(self) -> bool:
        names = _numbered(self._files)
        if not names:
            raise FileNotFoundError(2, "it is gone")
        return names[-1] == self._name and _parse(self._files.read(self._name)).get("owner") == self._owner

    def _create(self, number: int) -> bool:
        """Create the file of that number and remove the older ones; False where another process was faster."""
        self._name, began = f"{number:06d}.json", _now()
        if not self._files.create(self._name, self._content()):
            return False
        names = _numbered(self._files)
        if names[-1] != self._name:
            self._files.remove(self._name)
            return False
        self._confirmed = began
        for older in names[:-1]:
            self._files.remove(older)
        return True

    def _highest(self) -> tuple[int, bytes]:
        """Return the number and content of the highest file; (0, b'') where there is none."""
        while names := _numbered(self._files):
            with suppress(FileNotFoundError):  # removed by its successor's holder
                return int(names[-1].partition(".")[0]), self._files.read(names[-1])
        return 0, b""

    def _stale(self, number: int, content: bytes, holder: dict[str, Any], note: Callable[[str], None]) -> bool:
        """Watch the lease for as long as its holder declared; tell whether nothing happened to it."""
        seconds = holder.get("seconds", self._seconds)
        began, said = time.monotonic(), False
        while time.monotonic() - began < seconds:
            if self._highest() != (number, content):
                return False
            if not said and time.monotonic() - began > 2 * seconds / RENEWALS:
                note(
                    f"{self._what} is held by {_named(holder)}, without a sign of life so far: "
                    f"it is taken over after {seconds:.0f} s without one."
                )
                said = True
            time.sleep(min(0.5, seconds / 50))
        return self._highest() == (number, content)

    def _content(self) -> bytes:
        self._count += 1
        return json.dumps(
            {
                "owner": self._owner,
                "host": host(),
                "name": platform.node(),
                "pid": os.getpid(),
                "count": self._count,
                "seconds": self._seconds,
                "time": time.time(),
            }
        ).encode()

    def _in_progress(self, holder: dict[str, Any], way_out: str = "Wait for it, or stop it first.") -> str:
        return f"{self._what} is in progress in another process, {_named(holder)}. {way_out}"


@contextmanager
def held(
    files: Files, what: str, *, alone: bool = False, wait: bool = False, note: Callable[[str], None] = lambda text: None
) -> Iterator[Lease]:
    """Hold the lease that lies in `files`, renewed by a thread; `what` names the run in messages ('The run …')."""
    lease = Lease(files, what, _seconds())
    try:
        lease.take(alone=alone, wait=wait, note=note)
    except OSError as problem:
        raise BenchError(
            f"{what} cannot be held: {files}: {problem.strerror or problem}. Free space or make it writable, then run again."
        ) from None
    thread = threading.Thread(target=lease.keep, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease.release()
        thread.join()


def host() -> str:
    """Return what tells this machine, since it was switched on, from every other one."""
    try:
        return f"{platform.node()} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except OSError:
        return f"{platform.node()} {uuid.getnode():x}"


def _seconds() -> float:
    word = os.environ.get("BENCH_LEASE_SECONDS", str(SECONDS))
    try:
        seconds = float(word)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise UsageError(f"BENCH_LEASE_SECONDS={word} must be a number of seconds from 1 to 3600 (default: {SECONDS:.0f}).")
    return seconds


def _free(number: int, holder: dict[str, Any], alone: bool) -> bool:
    return number == 0 or bool(holder.get("released")) or (alone and holder.get("host") == host())


def _numbered(files: Files) -> list[str]:
    return sorted(name for name in files.names() if name.endswith(".json") and name.partition(".")[0].isdecimal())


def _parse(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):  # half of it, on a file system without hard links: the next look tells
        return {}
    return document if isinstance(document, dict) else {}


def _named(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid', 'of unknown number')} on {holder.get('name', 'an unknown machine')}"


def _now() -> float:
    """Return a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
