"""What a killed process leaves in the folder of a run goes with the next that holds it; what a living one writes stays."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.files import importing, write_text
from benchmark.running import leftovers
from benchmark.running.hold import clean, only_one

HALF = (
    ".spec.json.abc.tmp",
    ".record.json.abc.tmp",
    ".errors.safetensors.abc.tmp",
    "figures/.psnr.svg.abc.tmp",
    "analysis/.jacobian.json.abc.tmp",
    "samples/x/.samples.json.abc.tmp",
    "checkpoints/.writing-abc/network.safetensors",
)


def litter(folder: Path) -> None:
    for name in HALF:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"half")
    (folder / leftovers.PARTIAL).write_bytes(b"")
    (folder / "record.json").write_text("{}")


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.parent.name != "lease")


def test_the_next_holder_removes_it(tmp_path: Path) -> None:
    litter(tmp_path)
    with only_one(tmp_path):
        assert left(tmp_path) == ["lock", "record.json"]


def test_a_finished_run_is_cleaned_unless_another_process_works_there(tmp_path: Path) -> None:
    litter(tmp_path)
    with only_one(tmp_path):
        litter(tmp_path)
        clean(tmp_path)
        assert len(left(tmp_path)) > 5
    clean(tmp_path)
    assert left(tmp_path) == ["lock", "record.json"]


def test_scores_of_a_run_that_is_scored_again_stay(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{}")
    (tmp_path / leftovers.PARTIAL).write_bytes(b"")
    os.utime(tmp_path / "record.json", (1, 1))
    with only_one(tmp_path):
        assert (tmp_path / leftovers.PARTIAL).exists()


def test_what_a_living_process_is_writing_stays(tmp_path: Path) -> None:
    path = tmp_path / ".spec.json.abc.tmp"
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        leftovers.remove(tmp_path)
        assert path.exists()
    leftovers.remove(tmp_path)
    assert not path.exists()


KILLED = """
import os, sys
from pathlib import Path
from benchmark import files
def fsync(handle): os.kill(os.getpid(), 9)
files.os.fsync = fsync
files.write_text(Path(sys.argv[1]), "half")
"""


@pytest.mark.parametrize("name", ["page.md", "of [brackets].md"])
def test_a_file_that_is_written_again_takes_along_what_a_kill_left_of_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=os.environ | importing(), check=False)
    assert done.returncode == -9 and len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".another.md.abc.tmp").write_text("of another file")
    write_text(path, "whole")
    assert sorted(one.name for one in tmp_path.iterdir()) == [".another.md.abc.tmp", name]
    assert path.read_text() == "whole"
