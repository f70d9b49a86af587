"""Versions of packed images with DVC: packed/<name>.dvc and data.dvc. Nothing here leaves the machine."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from benchmark.errors import BenchError
from benchmark.recording.said import one_line


class Unversioned(BenchError):
    """DVC refused; the images are packed and pinned all the same."""


def usable(home: Path) -> bool:
    """Tell whether a home is a DVC repository and DVC is installed."""
    return (home / ".dvc").is_dir() and importlib.util.find_spec("dvc") is not None


def version(name: str, home: Path, *, embedded: bool) -> str:
    """Put packed images into DVC's cache, pin the manifests in data.dvc, and say what to commit.

    Images that are generated are an output of a stage of dvc.yaml already: only their manifest is pinned.
    """
    files = [f"data/{name}.json"]
    if not embedded:
        _dvc(home, "add", f"packed/{name}")
        files.append(f"packed/{name}.dvc")
    if (home / "data.dvc").is_file():
        _dvc(home, "commit", "--force", "data.dvc")
        files.append("data.dvc")
    restore = "" if embedded else f" `dvc checkout --force packed/{name}.dvc` restores the images."
    return f"Versioned with DVC; commit {', '.join(files)}.{restore}"


def _dvc(home: Path, *words: str) -> None:
    done = subprocess.run([sys.executable, "-P", "-m", "dvc", *words], cwd=home, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unversioned(f"`dvc {' '.join(words)}` failed: {_reason(done)}")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Return DVC's own words: its errors, else all that it said."""
    lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return one_line(" ".join(errors or lines))[:600] or f"it ended with exit code {done.returncode} without a word"
