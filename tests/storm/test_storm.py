"""The short form of the storm, in a process of its own: it forks, which a process with threads must not."""

import os
import subprocess
import sys


def test_what_is_killed_ends_as_what_is_not() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.storm.storm", "--short"],
        capture_output=True,
        text=True,
        timeout=3000,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DIFFER" not in done.stdout and "kills in all" in done.stdout
