"""benchmark/running/lease.py: one holder at a time, whatever is killed, stopped or asleep; real processes on a real folder."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmark.errors import BenchError, UsageError
from benchmark.running import lease
from benchmark.running.lease import Held, Lost, held
from benchmark.running.lease_files import Folder
from tests.conftest import TINY

SECONDS = 1.5

# Takes the lease, then counts into a file until told otherwise; it asks the lease before every line it writes.
HOLDER = """
import sys, time
from pathlib import Path
from benchmark.running.lease import Lost, held
from benchmark.running.lease_files import Folder
folder, name = Path(sys.argv[1]), sys.argv[2]
with held(Folder(folder / "lease"), "The run x", note=print) as lease:
    print("held", flush=True)
    try:
        while not (folder / "end").exists():
            lease.check()
            with (folder / "written").open("a") as file:
                file.write(f"{name} {time.time()}\\n")
            time.sleep(0.02)
    except Lost as problem:
        print(f"lost: {problem}", flush=True)
        sys.exit(7)
"""


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setenv("BENCH_LEASE_SECONDS", str(SECONDS))


def holder(folder, name):
    return subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), name], stdout=subprocess.PIPE, text=True)


def wait_for(process, word, stream=None):
    for line in stream or process.stdout:
        if line.startswith(word):
            return line
    raise AssertionError(f"{word!r} was never said; exit code {process.wait()}")


def writers(folder):
    return [line.split()[0] for line in (folder / "written").read_text().splitlines()]


def test_one_holder_at_a_time_and_the_next_one_after_its_end(tmp_path):
    files = Folder(tmp_path)
    with held(files, "The run x") as mine:
        mine.check()
        with (
            pytest.raises(Held, match=f"The run x is in progress in another process, process {os.getpid()} on") as refused,
            held(files, "The run x"),
        ):
            pass
        assert refused.value.exit_code == 2
    began = time.monotonic()
    with held(files, "The run x") as mine:
        mine.check()
    assert time.monotonic() - began < SECONDS / 2  # a released lease needs no watching
    assert os.listdir(tmp_path) == ["000002.json"] and json.loads((tmp_path / "000002.json").read_text())["released"]


def test_a_killed_holder_is_replaced_after_the_time_it_declared(tmp_path):
    process = holder(tmp_path, "first")
    wait_for(process, "held")
    process.kill()
    process.wait()
    said, began = [], time.monotonic()
    with held(Folder(tmp_path / "lease"), "The run x", note=said.append) as mine:
        mine.check()
        taken = time.monotonic() - began
    assert SECONDS <= taken < SECONDS + 2
    assert len(said) == 1 and f"held by process {process.pid} on" in said[0] and "taken over after 2 s without one" in said[0]


def test_a_holder_of_this_machine_that_left_no_lock_needs_no_watching(tmp_path):
    process = holder(tmp_path, "first")
    wait_for(process, "held")
    process.kill()
    process.wait()
    began = time.monotonic()
    with held(Folder(tmp_path / "lease"), "The run x", alone=True):
        assert time.monotonic() - began < SECONDS / 2


def test_a_paused_holder_that_wakes_up_stops_without_writing(tmp_path):
    first = holder(tmp_path, "first")
    wait_for(first, "held")
    time.sleep(0.2)
    first.send_signal(signal.SIGSTOP)
    try:
        second = holder(tmp_path, "second")
        wait_for(second, "held")
        time.sleep(0.3)
        before = writers(tmp_path)
    finally:
        first.send_signal(signal.SIGCONT)
    assert "was taken over by another process" in wait_for(first, "lost:")
    assert first.wait(10) == 7
    time.sleep(0.3)
    (tmp_path / "end").touch()
    assert second.wait(10) == 0
    after = writers(tmp_path)
    changes = [b for a, b in zip(after, after[1:], strict=False) if a != b]
    assert changes == ["second"] and len(after) > len(before)
    assert json.loads(next((tmp_path / "lease").iterdir()).read_text())["released"]  # the loser left the other's lease alone


def test_of_many_that_find_a_stale_lease_one_gets_it(tmp_path):
    (tmp_path / "lease").mkdir()
    (tmp_path / "lease/000041.json").write_text(json.dumps({"owner": "gone", "host": "far", "count": 3, "seconds": 0.5}))
    processes = [holder(tmp_path, str(i)) for i in range(4)]
    time.sleep(0.1)
    deadline = time.monotonic() + 60
    while sum(process.poll() is None for process in processes) > 1:  # the others are refused
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (tmp_path / "end").touch()
    assert sorted(process.wait(10) for process in processes) == [0, 1, 1, 1]
    assert len(set(writers(tmp_path))) == 1
    assert os.listdir(tmp_path / "lease") == ["000042.json"]


def test_waiting_for_the_holder_instead_of_being_refused(tmp_path):
    first = holder(tmp_path, "first")
    wait_for(first, "held")
    threading.Timer(1.0, (tmp_path / "end").touch).start()
    said = []
    with held(Folder(tmp_path / "lease"), "The run x", wait=True, note=said.append):
        assert first.wait(1) == 0
    assert said == [f"The run x is in progress in another process, process {first.pid} on {os.uname().nodename}. Waiting for it to end."]


def test_numbers_never_go_down_and_a_late_creation_loses(tmp_path):
    files = Folder(tmp_path)
    with held(files, "x"):
        pass
    with held(files, "x"):
        # who saw number 0 or 1 long ago, and creates the next number only now, finds a higher one
        assert not files.create("000002.json", b"{}")
        late = lease.Lease(files, "x", SECONDS)
        assert not late._create(1)
        assert os.listdir(tmp_path) == ["000002.json"]


def test_a_folder_that_goes_away_ends_the_holder(tmp_path):
    with (
        pytest.raises(Lost, match=r"The run x cannot be reached any more: .*lease: it is gone.*run the same command"),
        held(Folder(tmp_path / "lease"), "The run x") as mine,
    ):
        for path in (tmp_path / "lease").iterdir():
            path.unlink()
        (tmp_path / "lease").rmdir()
        mine.check()  # a second has not passed: the files are not asked
        time.sleep(SECONDS / 2 + 0.1)
        mine.check()


def test_a_folder_that_refuses_is_said_at_once(tmp_path):
    (tmp_path / "lease").write_text("a file")
    with (
        pytest.raises(BenchError, match=r"The run x cannot be held: .*lease: .*Free space or make it writable"),
        held(Folder(tmp_path / "lease"), "The run x"),
    ):
        pass


def test_without_hard_links_creation_is_exclusive_all_the_same(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)  # what a file system without them answers
    files = Folder(tmp_path)
    assert files.create("000001.json", b"one") and not files.create("000001.json", b"two")
    assert files.read("000001.json") == b"one" and os.listdir(tmp_path) == ["000001.json"]


@pytest.mark.parametrize("word", ["0", "-3", "soon", "1e9"])
def test_a_senseless_time_is_refused(tmp_path, monkeypatch, word):
    monkeypatch.setenv("BENCH_LEASE_SECONDS", word)
    with pytest.raises(UsageError, match=f"BENCH_LEASE_SECONDS={word} must be"), held(Folder(tmp_path), "x"):
        pass


def elsewhere(run: Path):
    """Make a run's lease look like that of another machine, and its lock be out of reach."""
    (run / "lock").unlink()
    path = next((run / "lease").glob("[0-9]*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "elsewhere", "name": "node7"}))


def begin(home, *words):
    command = [sys.executable, "-m", "benchmark.cli", "run", *TINY, "--no-track", "--checkpoint-every", "0.05", *words]
    return subprocess.Popen(command, env=os.environ | {"BENCH_HOME": str(home)}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def training(home):
    deadline = time.monotonic() + 60
    while not (found := list(home.glob("runs/*/checkpoints/0*"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found[0].parents[1]


def test_a_run_taken_over_from_a_paused_machine_is_finished_once(home, bench):
    steps = ("--set", "recipe.steps=600", "--set", "recipe.trajectory=(600,)")
    first = begin(home, *steps)
    run = training(home)
    first.send_signal(signal.SIGSTOP)
    elsewhere(run)
    try:
        second = bench("run", *TINY, "--no-track", *steps)
        assert second.returncode == 0, second.stderr
        assert "is held by process" in second.stderr and "on node7" in second.stderr
        result = (run / "record.json").read_bytes()
        checkpoints = sorted(path.stat().st_mtime_ns for path in run.glob("checkpoints/*/*"))
        metrics = (run / "metrics.jsonl").read_bytes()
    finally:
        first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=30)
    assert first.returncode == 1 and "was taken over by another process" in said and "Traceback" not in said
    assert (run / "record.json").read_bytes() == result and (run / "metrics.jsonl").read_bytes() == metrics
    assert sorted(path.stat().st_mtime_ns for path in run.glob("checkpoints/*/*")) == checkpoints


def test_a_run_waits_for_a_living_one_where_asked_to(home, bench):
    first = begin(home)
    training(home)
    first.send_signal(signal.SIGSTOP)
    try:
        refused = bench("run", *TINY, "--no-track")
        assert refused.returncode == 2 and "in progress in another process" in refused.stderr
        second = begin(home, "--wait", "--json")
        wait_for(second, "The run", second.stderr)
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait(30) == 0 and second.wait(30) == 0
    assert json.loads(second.stdout.read())["record"] and len(list(home.glob("records/**/*.json"))) <= 1
    log = next(home.glob("runs/*/metrics.jsonl")).read_text().splitlines()
    assert max(json.loads(line)["step"] for line in log) == 40 and sum('"psnr_gap"' in line for line in log) == 3  # trained once
