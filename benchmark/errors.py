"""What is reported instead of a traceback: one paragraph, the culprit, the way out, an exit code.

A message names parameters and functions in backticks, as Python takes them: `force=True`, `benchmark.run(...)`. The
command line says them as flags and commands (benchmark/commands/words.py).
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

LONGEST = 600  # characters of what foreign code says
MANY = 40  # names that nobody reads in a sentence: the nearest few are named instead


class Said:
    """An error whose words are meant for a person as they are."""


class BenchError(Said, Exception):
    """A run or a check failed (exit code 1)."""

    exit_code = 1


class UsageError(BenchError):
    """Something was asked for that is not there or makes no sense (exit code 2)."""

    exit_code = 2


class NotRun(Exception):
    """A rule of a contract that does not apply, or was not asked for; the message says why."""


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> UsageError:
    """Say what was asked, what is nearest, what exists, and what to do next."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f" Did you mean '{near[0]}'?" if near else ""
    exists = f" There is: {', '.join(names)}." if names else " There is none yet."
    if len(names) > MANY:
        others = [one for one in difflib.get_close_matches(name, names, n=5, cutoff=0.5) if one not in near]
        exists = (f" Or: {', '.join(others)}." if others else "") + f" There are {len(names)} in all."
    return UsageError(f"No {what} is called '{name}'.{guess}{exists}{' ' + hint if hint else ''}")


@contextmanager
def foreign(what: str) -> Iterator[None]:
    """Let nothing out of foreign code but what it says: whatever it raises becomes a BenchError that begins with `what`.

    A Ctrl-C passes, and so does an error that is meant for a person already.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # GeneratorExit and SystemExit among them
        if isinstance(problem, Said):
            raise
        raise BenchError(f"{what}: {raised(problem)}") from None


def raised(problem: BaseException) -> str:
    """Return what foreign code raised, on one line of bounded length."""
    text = " ".join(str(problem).split())
    if not text:
        return type(problem).__name__
    return f"{type(problem).__name__}: {text[:LONGEST]}{'…' if len(text) > LONGEST else ''}"
