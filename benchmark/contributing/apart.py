"""Entries held to their contract in a process of their own: their code may print, hang or end it, and its end is judged, not believed."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.contributing.check import Outcome, Verdict, outcomes, walk
from benchmark.contributing.check_record import Known
from benchmark.errors import raised
from benchmark.files import home as default_home
from benchmark.files import importing
from benchmark.running.collector import give_back, look_seldom

SILENCE = 900.0  # seconds without a word: torch.compile of a large network takes minutes
STDERR = 2  # where what an entry prints goes: stdout is for results


def check(
    paths: list[Path], search: tuple[Path, ...], *, light: bool = False, compiled: bool = False, home: Path | None = None
) -> list[Verdict]:
    """Do what `benchmark.contributing.check.check` does, with every entry's code in another process."""
    where, found = home or default_home(), list(walk(paths))
    request = {"search": [str(root) for root in search], "light": light, "compiled": compiled, "home": str(where)}
    known = Known(search, where)
    entries = _of_entries([path for path, _ in found if path.suffix == ".gin"], request)
    return [
        next(entries) if path.suffix == ".gin" else Verdict(path, tuple(outcomes(path, records, search, where, known=known)))
        for path, records in found
    ]


def _of_entries(paths: Sequence[Path], request: dict[str, Any]) -> Iterator[Verdict]:
    """Yield a verdict for each entry, in their order; a process that ends early is judged, and another goes on behind it."""
    left = list(paths)
    while left:
        for verdict in _sitting(tuple(left), request):
            yield verdict
            left.pop(0)


def _sitting(paths: Sequence[Path], request: dict[str, Any]) -> Iterator[Verdict]:
    """Yield the verdicts of one process, until it has done all or ends; one at least."""
    heard, said = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "benchmark.contributing.apart", str(said)],
        stdin=subprocess.PIPE,
        stdout=STDERR,
        env=os.environ | importing(),
        pass_fds=(said,),
        start_new_session=True,  # a Ctrl-C is the parent's
    )
    os.close(said)
    try:
        with suppress(OSError):  # it is gone: what it has said tells
            _ask(process, {**request, "paths": [str(path) for path in paths]})
        found: list[Outcome] = []
        done = 0
        for line in _lines(heard):
            if line is None:
                found.append(Outcome("ends", "problem", f"its code gave no sign of life for {SILENCE:.0f} s, and was ended."))
                break
            if line:
                found.append(Outcome(*line))
                continue
            yield Verdict(paths[done], tuple(found))
            found, done = [], done + 1
        if done < len(paths):
            if not any(outcome.rule == "ends" for outcome in found):
                found.append(Outcome("ends", "problem", f"its code ended the process that checked it ({_end(process)})."))
            yield Verdict(paths[done], tuple(found))
    finally:
        os.close(heard)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ask(process: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
    assert process.stdin is not None
    with process.stdin as asked:
        asked.write(json.dumps(request).encode())


def _lines(heard: int) -> Iterator[list[Any] | None]:
    """Yield what the other process says, line by line; None where it is silent for too long."""
    rest = b""
    while True:
        ready, _, _ = select.select([heard], [], [], SILENCE)
        if not ready:
            yield None
            return
        content = os.read(heard, 1 << 16)
        if not content:
            return
        *lines, rest = (rest + content).split(b"\n")
        yield from map(json.loads, lines)


def _end(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def main() -> None:
    """Check the entries that stdin names, and say every outcome at once; an empty line ends an entry."""
    request = json.loads(sys.stdin.read())
    look_seldom()
    os.set_inheritable(int(sys.argv[1]), False)
    with os.fdopen(int(sys.argv[1]), "w", buffering=1) as said:
        for path in map(Path, request["paths"]):
            search = tuple(map(Path, request["search"]))
            try:
                for outcome in outcomes(path, None, search, Path(request["home"]), light=request["light"], compiled=request["compiled"]):
                    said.write(json.dumps(outcome) + "\n")
            except BaseException as problem:  # a KeyboardInterrupt of its own: a person's goes to the parent
                said.write(json.dumps(Outcome("ends", "problem", raised(problem))) + "\n")
            said.write("[]\n")
            give_back()


if __name__ == "__main__":
    main()
