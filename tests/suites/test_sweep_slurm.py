"""Rows as a job array: what sbatch is asked for, and the array itself, run by submitit on this machine."""

import io
import os
import re
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.cli import parser
from benchmark.commands.sweep import engine_of
from benchmark.declaring import registry
from benchmark.declaring.row import Row
from benchmark.errors import UsageError
from benchmark.recording import record
from benchmark.suites.cluster import Cluster
from benchmark.suites.local import Local
from benchmark.suites.sbatch import limit
from benchmark.suites.slurm import Slurm
from benchmark.suites.sweep import sweep
from tests.conftest import ENTRIES, Bench

pytest.importorskip("submitit", reason="the cluster extra is not installed")
psutil = pytest.importorskip("psutil", reason="the cluster extra is not installed")
SEARCH = registry.roots([ENTRIES])
HOW = {"device": "cpu", "checkpoint_seconds": 0.2}


def rows(count, recipe="tiny"):
    return [Row("dit_tiny", "global", "leaves_tiny", 6, seed, recipe) for seed in range(count)]


def run(home, wanted, engine, **more):
    console = Console(file=io.StringIO(), width=200)
    outcomes = sweep(
        wanted,
        suite="tiny",
        home=home,
        records=home / "records",
        search=more.pop("search", SEARCH),
        engine=engine,
        console=console,
        **HOW | more,
    )
    return outcomes, console.file.getvalue()


def test_the_script_asks_for_what_was_said(tmp_path):
    options = ["partition=gpu", "time=1-12:30:00", "nice=100", "setup=module load cuda", "setup=export A=1", "gpus-per-task=1"]
    script = Slurm(options, cpus=8, gpus=2).script(tmp_path, 10, 4)
    for line in (
        "--array=0-9%4",
        "--partition=gpu",
        "--time=2190",
        "--nice=100",
        "--cpus-per-task=8",
        "--gpus-per-node=2",
        "--gpus-per-task=1",
        "--job-name=bench",
    ):
        assert f"#SBATCH {line}\n" in script
    assert "\nexport PYTHONSAFEPATH=1\n" in script and "\nmodule load cuda\nexport A=1\n" in script
    assert f"-m submitit.core._submit {tmp_path}/runs/slurm" in script
    assert not (tmp_path / "runs").exists()
    checked = subprocess.run(["bash", "-n"], input=script, text=True, check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize(
    ("word", "minutes"),
    [("90", 90), ("0:30", 1), ("90:00", 90), ("12:00:00", 720), ("1-12", 2160), ("2-01:30", 2970), ("1-00:00:59", 1441)],
)
def test_times_are_read_as_sbatch_reads_them(word, minutes):
    assert limit(word) == minutes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["partition"], "options=..partition..` must be KEY=VALUE"),
        (["=3"], "must be KEY=VALUE"),
        (["time=soon"], "options=..time=soon..` must be"),
        (["cluster=moon"], "there is slurm and local"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Slurm(options)


def test_a_flag_of_another_engine_is_refused():
    def made(*words):
        return engine_of(parser().parse_args(["sweep", "mini", *words]))

    assert isinstance(made(), Local) and isinstance(made("--engine", "slurm"), Slurm) and isinstance(made("--engine", "ray"), Cluster)
    for words, message in (
        (("--gpus", "1"), "--gpus belongs to --engine ray or slurm, not to local"),
        (("--engine", "slurm", "--address", "x:1"), "--address belongs to --engine ray, not to slurm"),
        (("--engine", "ray", "--no-wait"), "--no-wait belongs to --engine slurm"),
        (("--engine", "ray", "--cpus", "0"), "`cpus=0` must be at least 1"),
    ):
        with pytest.raises(UsageError, match=message):
            made(*words)


def test_without_sbatch_the_error_names_the_ways_out(bench: Bench, home: Path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    done = bench("sweep", "mini", "--engine", "slurm")
    assert done.returncode == 1 and not done.stdout
    assert "There is no sbatch on the PATH" in done.stderr and "--dry-run" in done.stderr and "--slurm cluster=local" in done.stderr
    shown = bench("sweep", "mini", "--engine", "slurm", "--slurm", "partition=gpu", "--dry-run")
    assert shown.returncode == 0 and shown.stdout.startswith("#!/bin/bash") and "#SBATCH --partition=gpu" in shown.stdout
    assert not (home / "runs/slurm").exists()


def test_an_array_on_this_machine_finishes_and_reports_its_rows(tmp_path):
    wanted = [*rows(1), rows(1)[0]._replace(subset=100)]  # the second asks for more images than there are
    outcomes, said = run(tmp_path, wanted, Slurm(["cluster=local"]))
    assert [outcome.status for outcome in outcomes] == ["finished", "failed"], said
    assert "Submitted 2 rows as job" in said and "30" in outcomes[1].problem and "exit code 2" in outcomes[1].problem
    assert record.read(Path(outcomes[0].record)).id == outcomes[0].id
    again, _ = run(tmp_path, wanted[:1], Slurm(["cluster=local"]))
    assert [outcome.status for outcome in again] == ["already finished"]


def at_work():
    """Return the tasks of arrays that this process has begun and that have not ended."""
    found = []
    for one in psutil.Process(os.getpid()).children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            found += [one] if "submitit.core._submit" in one.cmdline() else []
    return found


def test_a_task_whose_time_is_up_saves_a_checkpoint_and_goes_on(tmp_path):
    mine = tmp_path / "mine/recipes"
    mine.mkdir(parents=True)
    text = (ENTRIES / "recipes/tiny.gin").read_text().replace("steps = 40", "steps = 600").replace("20, 40)", "20, 600)")
    (mine / "long.gin").write_text(text)
    search = registry.roots([ENTRIES, mine.parent])
    how = {"search": search, "checkpoint_seconds": 600.0, "force": True}
    left, _ = run(tmp_path, rows(1, "long"), Slurm(["cluster=local"]), wait=False, **how)
    assert left[0].status == "submitted"
    folder = tmp_path / "runs" / left[0].id
    deadline = time.monotonic() + 1800
    while not (tasks := at_work()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while not (folder / "metrics.jsonl").exists() or not (folder / "metrics.jsonl").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for process in (tasks[0], *tasks[0].children(recursive=True)):
        process.send_signal(signal.SIGUSR2)  # as Slurm warns every process before the time is up
    while not (folder / "record.json").exists():
        assert time.monotonic() < deadline, [path.read_text()[-3000:] for path in (tmp_path / "runs/slurm").glob("*.err")]
        time.sleep(0.1)
    made = record.read(folder / "record.json")
    assert made.training.resumed == 1 and made.training.steps == 600  # it went on, and did not begin anew for --force


def test_every_command_of_the_page_on_clusters_parses():
    page = (Path(__file__).parents[2] / "docs/clusters.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    commands = [
        shlex.split(line.partition(" bench ")[2] if line.startswith("BENCH_HOME") else line.removeprefix("bench "), comments=True)
        for line in lines
        if "bench sweep" in line
    ]
    assert len(commands) >= 8
    for words in commands:
        engine_of(parser().parse_args(words))
