"""A row in a process of its own: the one place where its parameters become the words of a command line, and its answer is read."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress

from benchmark.declaring.row import Row
from benchmark.files import importing
from benchmark.suites.engine import Ended, Site
from benchmark.suites.warm import Forked, Warm

MODULE, VERB = "benchmark.cli", "run"
COMMAND = (sys.executable, "-P", "-m", MODULE, VERB)


class Process:
    """A process group of its own on this machine, so that a Ctrl-C reaches it only through the sweep."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str] | None = None, warm: Warm | None = None) -> None:
        """Begin it. `warm`: as a fork of that process, to whose command the words are told."""
        self._files = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115  closed once the process has ended
        out, errors = self._files
        self._process: subprocess.Popen[bytes] | Forked = (
            warm.fork(words, out, errors)
            if warm
            else subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True, env=environment)
        )

    def poll(self) -> int | None:
        """Return the exit code, None while at work."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Signal the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def output(self) -> tuple[str, str]:
        """Return stdout and stderr, and let go of them."""
        texts = []
        for file in self._files:
            with file:
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        return texts[0], texts[1]

    def ended(self) -> Ended:
        """Return what the row leaves."""
        return ended(self.poll(), *self.output())


def words(row: Row, site: Site, *, threads: int, device: str | None = None, wait: bool = False) -> list[str]:
    """Return the words of `bench run` for a row; wait: for another process that works on it."""
    named = [word for axis, name in row._asdict().items() for word in (f"--{axis}", str(name))]
    registries = [word for folder in site.search[1:] for word in ("--registry", str(folder.resolve()))]
    switches = [word for word, said in (("--force", site.force), ("--wait", wait)) if said]
    told = {
        "--suite": site.suite,
        "--records": site.records,
        "--device": device or site.device,
        "--threads": threads,
        "--checkpoint-every": site.checkpoint_seconds,
    }
    return [*named, *registries, *(str(word) for pair in told.items() for word in pair), *switches, "--json", "--no-track"]


def environment(home: os.PathLike[str] | str) -> dict[str, str]:
    """Return the environment of a row's process."""
    return os.environ | importing() | {"BENCH_HOME": str(home)}


def ended(code: int | None, out: str, errors: str) -> Ended:
    """Read what `bench run --json` printed."""
    if code != 0:
        return Ended(None, None, errors)
    try:
        result = json.loads(out)
        return Ended(str(result["record"]), float(result["psnr_gap"]), errors)
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        return Ended(None, None, errors, f"its result cannot be read: {problem}")
