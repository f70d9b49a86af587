"""A row as a process: the words it is started with mean what was asked, and the working folder shadows nothing."""

import io
import os
import subprocess
import sys

import pytest
import torch
from rich.console import Console

from benchmark.cli import parser
from benchmark.declaring import registry
from benchmark.declaring.row import Row
from benchmark.declaring.spec import resolve
from benchmark.files import importing
from benchmark.recording import record
from benchmark.run import run
from benchmark.running.place import Place
from benchmark.running.progress import Display
from benchmark.suites.child import COMMAND, ended, words
from benchmark.suites.engine import Site
from benchmark.suites.local import Local
from benchmark.suites.slurm import Slurm
from benchmark.suites.sweep import sweep
from tests.conftest import ENTRIES

ROW = Row("dit_tiny", "global", "leaves_tiny", 6, 3, "tiny")


def site(home, **changes):
    return Site(home=home, records=home / "records", search=registry.roots([ENTRIES]), note=print, suite="four", **changes)


def test_the_words_of_a_row_are_read_as_what_was_asked(tmp_path):
    how = site(tmp_path, device="cpu", force=True, checkpoint_seconds=2.5)
    read = vars(parser().parse_args(["run", *words(ROW, how, threads=3, wait=True)]))
    assert {axis: read[axis] for axis in ROW._fields} == ROW._asdict()
    assert (read["suite"], read["records"], read["registry"]) == ("four", how.records, [ENTRIES.resolve()])
    assert (read["device"], read["threads"], read["checkpoint_every"]) == ("cpu", 3, 2.5)
    assert read["force"] and read["wait"] and read["json"] and read["no_track"]
    left = vars(parser().parse_args(["run", *words(ROW, site(tmp_path), threads=1, device="cuda:1")]))
    assert left["device"] == "cuda:1" and not left["force"] and not left["wait"]


def test_what_a_row_prints_is_read_or_said_to_be_unreadable():
    assert ended(0, '{"record": "a.json", "psnr_gap": 1}', "note\n") == ("a.json", 1.0, "note\n", "")
    assert ended(2, "", "bench: no\n") == (None, None, "bench: no\n", "")
    for out in ("", "[]", '{"record": "a.json"}'):
        assert ended(0, out, "").record is None and "its result cannot be read" in ended(0, out, "").why


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder with a `benchmark.py` of its own, as the checkout of another project has, and no other way to this one."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "benchmark.py").write_text("raise SystemExit('the wrong benchmark')\n")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def test_the_working_folder_would_shadow_the_package(elsewhere):
    """What the next test is worth: without the safe path the child imports the folder's module."""
    unsafe = [word for word in COMMAND if word != "-P"]
    done = subprocess.run([*unsafe, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode and "the wrong benchmark" in done.stderr
    code = "import benchmark; print(benchmark.__file__)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | importing(), check=True)
    assert told.stdout.strip() == sys.modules["benchmark"].__file__


@pytest.mark.parametrize("engine", ["local", "slurm"])
def test_rows_run_in_a_folder_that_holds_a_benchmark_module(elsewhere, engine):
    if engine == "slurm":
        pytest.importorskip("submitit", reason="the cluster extra is not installed")
    outcomes = sweep(
        [ROW],
        suite="four",
        home=elsewhere,
        records=elsewhere / "records",
        search=registry.roots([ENTRIES]),
        engine=Local() if engine == "local" else Slurm(["cluster=local"]),
        device="cpu",
        console=Console(file=io.StringIO()),
    )
    assert [outcome.status for outcome in outcomes] == ["finished"], outcomes[0].problem
    made = record.read(elsewhere / "records/tiny/leaves_tiny/dit_tiny-global-n6-s3.json")
    assert made.id == outcomes[0].id
    if engine == "local" and sys.platform == "linux":  # forked from a process that has run nothing: the same numbers as in this one
        with Display() as display:
            fields = ROW._asdict()
            one = resolve(fields, subset=fields.pop("subset"), seed=fields.pop("seed"), search=registry.roots([ENTRIES]))
            mine = run(one, Place(home=elsewhere / "mine", records=elsewhere / "mine", device=torch.device("cpu")), display)
        assert (made.weights_sha256, made.psnr, made.code) == (mine.weights_sha256, mine.psnr, mine.code)
