"""Versions of packed images with DVC: packed/<name>.dvc and data.dvc. Nothing here leaves the machine."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from benchmark.errors import BenchError


def usable(home: Path) -> bool:
    """Tell whether a home is a DVC repository and DVC is installed."""
    return (home / ".dvc").is_dir() and importlib.util.find_spec("dvc") is not None


def version(name: str, home: Path, *, embedded: bool) -> str:
    """Put packed images into DVC's cache, pin the manifests in data.dvc, and say what to commit.

    Images that are generated are an output of a stage of dvc.yaml already: only their manifest is pinned.
    """
    files = [f"data/{name}.json"]
    if not embedded:
        _dvc(home, "add", "--quiet", f"packed/{name}")
        files.append(f"packed/{name}.dvc")
    if (home / "data.dvc").is_file():
        _dvc(home, "commit", "--quiet", "--force", "data.dvc")
        files.append("data.dvc")
    restore = "" if embedded else f" `dvc checkout --force packed/{name}.dvc` restores the images."
    return f"Versioned with DVC; commit {', '.join(files)}.{restore}"


def _dvc(home: Path, *words: str) -> None:
    done = subprocess.run([sys.executable, "-P", "-m", "dvc", *words], cwd=home, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.strip())
        raise BenchError(
            f"The images are packed and pinned, but `dvc {' '.join(words)}` failed: {said} Mend that, and add "
            "them again, or version them yourself."
        )
