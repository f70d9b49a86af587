"""These tests take minutes each: after each, how many are left and for about how long."""

import time
from dataclasses import dataclass, field

import pytest

from benchmark.recording.said import duration


@dataclass
class Ahead:
    """Counts the tests as they end; those that are left are taken to be as long as those that were."""

    count: int
    began: float = field(default_factory=time.monotonic)
    done: int = 0

    def said(self) -> str:
        """Count one more, and say what is ahead."""
        self.done += 1
        spent = time.monotonic() - self.began
        return f"{self.done} of {self.count} in {duration(spent)}, ETA {duration(spent / self.done * (self.count - self.done))}"


AHEAD = pytest.StashKey[Ahead]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to count."""
    session.config.stash[AHEAD] = Ahead(len(session.items))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Say it on a line of its own, whatever is captured."""
    reporter = item.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and AHEAD in item.config.stash:
        reporter.ensure_newline()
        reporter.write_line(f"{item.name}: {item.config.stash[AHEAD].said()}")
