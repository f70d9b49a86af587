"""Rows run as processes: J at a time, each on its own, the finished ones not again."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.declaring import registry, spec
from benchmark.declaring.row import Row
from benchmark.errors import UsageError
from benchmark.recording import record
from benchmark.recording.record import Record
from benchmark.recording.said import duration
from benchmark.suites import sweep as sweeps
from benchmark.suites.child import Process
from benchmark.suites.local import Local
from benchmark.suites.sweep import sweep
from benchmark.suites.task import Outcome, Task
from benchmark.suites.view import eta, state
from tests.conftest import ENTRIES
from tests.records import make_record

SEARCH = registry.roots([ENTRIES])
STEPS = 10

# Keeps to what `bench run` promises: metrics on the way, a record, its path as JSON; a Ctrl-C is answered with a checkpoint.
FAKE = """
import json, sys, time
from pathlib import Path
home, plan = Path(sys.argv[1]), json.loads((Path(sys.argv[1]) / "plan.json").read_text())
flags = dict(zip(sys.argv[2:], sys.argv[3:]))
row = plan[flags["--seed"]]
folder = home / "runs" / row["id"]
folder.mkdir(parents=True, exist_ok=True)
(folder / "argv.json").write_text(json.dumps(sys.argv[2:]))
(folder / "began").write_text(str(time.time()))
deadline = time.time() + 600
while len(list(home.glob("runs/*/began"))) < row.get("meet", 0):
    assert time.time() < deadline, "the other rows never came"
    time.sleep(0.02)
try:
    for step in range(1, 11):
        while row.get("until") and step > 5 and not (home / row["until"]).exists():
            time.sleep(0.02)
        if row.get("fail_at") == step:
            sys.exit("one\\ntwo\\nthree\\nfour\\nfive\\nThe loss is NaN at step %d." % step)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "time": time.time(), "metrics": {"loss": 1 / step, "psnr_gap": step / 10}}) + "\\n")
        time.sleep(row["seconds"] / 10)
except KeyboardInterrupt:
    (folder / "checkpoint").write_text(str(step))
    sys.exit(130)
(folder / "ended").write_text(str(time.time()))
path = Path(flags["--records"]) / (row["id"] + ".json")
path.parent.mkdir(parents=True, exist_ok=True)
if row.get("record", True):
    path.write_text("{}")
print(json.dumps({"id": row["id"], "record": str(path), "psnr_gap": 0.5, "status": "finished"}, indent=1))
"""


def rows(count):
    return [Row("dit_tiny", "global", "leaves_tiny", 6, seed, "tiny") for seed in range(count)]


def spec_of(row):
    fields = row._asdict()
    return spec.resolve(fields, subset=fields.pop("subset"), seed=fields.pop("seed"), search=SEARCH)


def command(home):
    return [sys.executable, str(home / "fake.py"), str(home)]


@pytest.fixture
def place(tmp_path):
    """Where the made-up rows run: the arguments of a sweep."""
    (tmp_path / "fake.py").write_text(FAKE)
    return {
        "suite": "four",
        "home": tmp_path,
        "records": tmp_path / "records",
        "search": SEARCH,
        "engine": Local(command(tmp_path)),
        "device": "cpu",
    }


def plan(home, count, **special):
    """Write what each row shall do, by seed ('_2' is row 2), and return the rows' folders."""
    ids = [spec_of(row).id for row in rows(count)]
    todo = {str(seed): {"id": run_id, "seconds": 0.2} | special.get(f"_{seed}", {}) for seed, run_id in enumerate(ids)}
    (home / "plan.json").write_text(json.dumps(todo))
    return [home / "runs" / run_id for run_id in ids]


def times(folder):
    return float((folder / "began").read_text()), float((folder / "ended").read_text())


def most_at_once(folders):
    marks = sorted((moment, change) for folder in folders for moment, change in zip(times(folder), (1, -1), strict=True))
    level = most = 0
    for _, change in marks:
        level += change
        most = max(most, level)
    return most


def quiet():
    return Console(file=io.StringIO(), width=200)


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_rows_run_j_at_a_time(place, jobs):
    folders = plan(place["home"], 5, **{f"_{seed}": {"meet": jobs} for seed in range(jobs)})  # these must be there together
    outcomes = sweep(rows(len(folders)), jobs=jobs, console=quiet(), **place)
    assert [outcome.status for outcome in outcomes] == ["finished"] * len(folders)
    assert most_at_once(folders) == jobs
    assert [outcome.row.seed for outcome in outcomes] == list(range(len(folders)))
    argv = json.loads((folders[0] / "argv.json").read_text())
    flags = dict(pairwise(argv))
    assert argv[:12] == [word for axis, name in rows(1)[0]._asdict().items() for word in (f"--{axis}", str(name))]
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    expected = {"--suite": "four", "--threads": str(threads), "--records": str(place["records"]), "--device": "cpu"}
    expected |= {"--registry": str(ENTRIES.resolve())}
    assert expected.items() <= flags.items() and {"--json", "--no-track"} <= set(argv)


def test_a_failed_row_is_reported_and_the_rest_still_run(place):
    plan(place["home"], 4, _1={"fail_at": 3}, _2={"record": False})
    console = quiet()
    outcomes = sweep(rows(4), jobs=2, console=console, **place)
    assert [outcome.status for outcome in outcomes] == ["finished", "failed", "failed", "finished"]
    assert outcomes[1].problem == "two\nthree\nfour\nfive\nThe loss is NaN at step 3.\n(it ended with exit code 1)"
    assert "names a record that is not there" in outcomes[2].problem and outcomes[2].record is None
    assert outcomes[0] == Outcome(
        rows(1)[0], spec_of(rows(1)[0]).id, "finished", outcomes[0].seconds, 0.5, str(place["records"] / f"{outcomes[0].id}.json"), ""
    )
    said = console.file.getvalue()
    assert "The loss is NaN at step 3." in said and len(re.findall(r"finished in \d+ s, gap 0.500 dB", said)) == 2
    assert [f"[{i}/4]" in said for i in range(1, 5)] == [True] * 4
    assert said.endswith("2 of 4 rows failed. The same command tries them again.\n")


def test_finished_rows_are_skipped_unless_their_spec_changed_or_force(place):
    folders = plan(place["home"], 4)
    for row in rows(3):
        resolved = spec_of(row)
        document = resolved.to_json() | ({"subset": 5} if row.seed == 2 else {})  # at the same path, of another spec
        made = Record(**vars(make_record()) | {"spec": document, "id": spec.spec_id(document), "code": resolved.code})
        record.write(made, record.path_of(place["records"], row))
    record.path_of(place["records"], rows(2)[1]).write_text("{")  # damaged: for `bench run` to report
    planned = sweep(rows(4), dry_run=True, console=quiet(), **place)
    assert [outcome.status for outcome in planned] == ["already finished", "waiting", "waiting", "waiting"]
    assert not (place["home"] / "runs").exists()
    console = quiet()
    outcomes = sweep(rows(4), jobs=4, console=console, **place)
    assert [outcome.status for outcome in outcomes] == ["already finished"] + ["finished"] * 3
    assert outcomes[0].psnr_gap == make_record().psnr_gap
    assert not folders[0].exists() and "1 of 4 rows are finished already" in console.file.getvalue()
    outcomes = sweep(rows(1), jobs=1, force=True, console=quiet(), **place)
    assert outcomes[0].status == "finished" and folders[0].exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_lets_rows_save_and_leaves_no_process(place, number):
    folders = plan(place["home"], 4, _1={"seconds": 600}, _2={"seconds": 600})
    code = (
        f"import sys; sys.path.insert(0, {str(Path.cwd())!r})\n"
        "from pathlib import Path; from benchmark.declaring import registry; from benchmark.declaring.row import Row\n"
        "from benchmark.suites.sweep import sweep; from benchmark.suites.local import Local\n"
        f"sweep([Row(*row) for row in {[tuple(row) for row in rows(4)]}], jobs=2, suite='four', home=Path({str(place['home'])!r}),\n"
        f"      records=Path({str(place['records'])!r}), search=registry.roots([Path({str(ENTRIES)!r})]),\n"
        f"      engine=Local({command(place['home'])}), device='cpu')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    while not all((folder / "metrics.jsonl").exists() for folder in folders[1:3]):  # the third begins once the first is known to have ended
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=600)
    asked = ("KeyboardInterrupt", "signals.Asked")  # Ctrl-C as Python has it; any other signal as a person's question to stop
    assert process.returncode not in (0, None) and said.splitlines()[-1].endswith(asked)
    assert all((folder / "checkpoint").exists() for folder in folders[1:3])
    assert not (folders[3] / "began").exists()
    assert ("Stopped: 1 of 4 rows are finished, 2 were in progress, 1 had not begun. The same command goes on from there.") in said


def test_a_row_that_ignores_ctrl_c_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "STOP_SECONDS", 0.3)
    code = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN)\npathlib.Path(sys.argv[1]).touch(); time.sleep(99)"
    )
    job = Process([sys.executable, "-c", code, str(tmp_path / "deaf")])
    while not (tmp_path / "deaf").exists():
        assert job.poll() is None
    began = time.monotonic()
    sweeps._stop([Task(rows(1)[0], "x", STEPS, tmp_path, status="running", job=job)])
    assert job.poll() == -signal.SIGTERM and 0.3 <= time.monotonic() - began < 300


def test_a_row_that_does_not_resolve_stops_the_sweep_before_it_begins(place):
    plan(place["home"], 1)
    with pytest.raises(UsageError, match="dit_tinny"):
        sweep([rows(1)[0], rows(1)[0]._replace(model="dit_tinny")], jobs=1, console=quiet(), **place)
    with pytest.raises(UsageError, match="`jobs=0`"):
        sweep(rows(1), jobs=0, console=quiet(), **place)
    assert not (place["home"] / "runs").exists()


def test_finished_rows_reach_mlflow_through_one_process(place, monkeypatch):
    pytest.importorskip("mlflow", reason="the tracking extra is not installed")
    monkeypatch.setattr(sweeps, "MIRROR_SECONDS", 900.0)
    plan(place["home"], 2)
    console = quiet()
    sweep(rows(2), jobs=2, store=sweeps.default_store(place["home"]), console=console, **place)
    assert "lacks 2 of the runs" in console.file.getvalue() and "holds no spec.json" in console.file.getvalue()
    assert (place["home"] / "mlflow.db").exists()


def test_table_on_a_terminal_shows_every_row_and_an_eta(place):
    plan(place["home"], 3, _0={"until": "seen"}, _1={"fail_at": 2})

    class Screen(io.StringIO):
        def write(self, text):
            if "ETA" in text and "running" in text:
                (place["home"] / "seen").touch()  # the first row goes on once it was seen at work
            return super().write(text)

    console = Console(file=Screen(), force_terminal=True, width=120, height=30, color_system=None)
    sweep(rows(3), jobs=2, console=console, **place)
    drawn = console.file.getvalue()
    for text in (
        "waiting",
        "running",
        "done",
        "failed",
        "gap, dB",
        "ETA",
        "3/3",
        "The loss is NaN",
        "dit_tiny global on leaves_tiny, N=6, seed 2",
    ):
        assert text in drawn


def test_table_keeps_what_matters_where_the_terminal_is_low(place):
    plan(place["home"], 12, **{f"_{seed}": {"seconds": 0.0} for seed in range(12)})
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=10, color_system=None)
    sweep(rows(12), jobs=4, console=console, **place)
    assert "and 7 more rows" in console.file.getvalue()


def test_eta_counts_only_what_this_sweep_did(tmp_path):
    def task(status, step, first=0):
        return Task(rows(1)[0], "x", 100, tmp_path, status=status, step=step, first=first)

    # 10 s for half a row and a whole one; one and a half rows are left
    tasks = [task("finished", 100), task("running", 50), task("waiting", 0), task("already finished", 100), task("failed", 7)]
    assert eta(tasks, 10.0) == pytest.approx(10.0)
    # a resumed row counts from where it was: 0.25 rows in 10 s, 0.25 left
    assert eta([task("running", 75, first=50)], 10.0) == pytest.approx(10.0)
    assert eta([task("waiting", 0)], 10.0) is None and eta([task("finished", 100)], 10.0) is None
    assert (
        state(task("running", 0)) == "starting" and state(task("running", 43)) == "running 43%" and state(task("running", 100)) == "scoring"
    )
    said = [duration(seconds) for seconds in (31.4, 1500, 9000, 180_000, 400_000, 1.9e8)]
    assert said == ["31 s", "25 min", "2.5 h", "50 h", "5 days", "6 years"]


def test_progress_skips_half_lines_and_earlier_attempts(tmp_path):
    task = Task(rows(1)[0], "x", 100, tmp_path)
    lines = [
        {"step": 90, "time": 50.0, "metrics": {"loss": 9.0}},
        {"step": 40, "time": 200.0, "metrics": {"loss": 0.5}},
        {"step": 40, "time": 201.0, "metrics": {"psnr_gap": 0.25}},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 50, "ti')
    task.look()
    assert task.step == 40
    task.step, task.began, task.job = 0, 100.0, Process(["true"])
    task.look()
    assert (task.step, task.loss, task.psnr_gap) == (40, 0.5, 0.25)
    task.step, task.began = 0, 300.0
    task.look()
    assert task.step == 0
