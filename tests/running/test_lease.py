"""benchmark/running/lease.py: one holder at a time, whatever is killed, stopped or asleep; real processes on a real folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.errors import BenchError, UsageError
from benchmark.running import lease
from benchmark.running.lease import Held, Lost, held
from benchmark.running.lease_files import Folder
from tests.conftest import TINY
from tests.stopping import stopped

SECONDS = 1.5
LONG = 60.0  # a lease that is not lost where a busy machine keeps its holder from renewing it

# Takes the lease, then counts into a file until told otherwise; it asks the lease before every line it writes, and is stopped,
# where it is asked to, before it asks.
HOLDER = """
import os, signal, sys, time
from pathlib import Path
from benchmark.running.lease import Lost, held
from benchmark.running.lease_files import Folder
folder, name = Path(sys.argv[1]), sys.argv[2]
with held(Folder(folder / "lease"), "The run x", note=print) as lease:
    print("held", flush=True)
    try:
        while not (folder / "end").exists():
            if (folder / "pause").exists():
                (folder / "pause").unlink()
                os.kill(os.getpid(), signal.SIGSTOP)
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


@pytest.fixture
def spawn():
    """Start a process with more variables in its environment; none outlives the test."""
    started = []

    def start(command, variables, stderr):
        environment = os.environ | variables
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def holder(spawn):
    """Start a process that holds the lease of a folder for so many seconds without a renewal."""

    def start(folder, name, seconds=SECONDS):
        command = [sys.executable, "-c", HOLDER, str(folder), name]
        return spawn(command, {"BENCH_LEASE_SECONDS": str(seconds)}, subprocess.DEVNULL)

    return start


def wait_for(process, word, stream=None):
    for line in stream or process.stdout:
        if line.startswith(word):
            return line
    raise AssertionError(f"{word!r} was never said; exit code {process.wait()}")


def writers(folder):
    path = folder / "written"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def paused(process):
    """Wait until a process is stopped, as the one of a machine that sleeps."""
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])


def until(true):
    deadline = time.monotonic() + 600
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def not_watched(seconds):
    raise AssertionError("the lease is watched")


def test_one_holder_at_a_time_and_the_next_one_after_its_end(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_LEASE_SECONDS", str(4 * SECONDS))
    files = Folder(tmp_path)
    with held(files, "The run x") as mine:
        mine.check()
        with (
            pytest.raises(Held, match=f"The run x is in progress in another process, process {os.getpid()} on") as refused,
            held(files, "The run x"),
        ):
            pass
        assert refused.value.exit_code == 2
    monkeypatch.setattr(time, "sleep", not_watched)
    with held(files, "The run x") as mine:
        mine.check()
    assert os.listdir(tmp_path) == ["000002.json"] and json.loads((tmp_path / "000002.json").read_text())["released"]


def test_a_killed_holder_is_replaced_after_the_time_it_declared(tmp_path, holder):
    process = holder(tmp_path, "first", seconds=2 * SECONDS)
    wait_for(process, "held")
    process.kill()
    process.wait()
    said, began = [], time.monotonic()
    with held(Folder(tmp_path / "lease"), "The run x", note=said.append) as mine:
        mine.check()
        taken = time.monotonic() - began
    assert taken >= 2 * SECONDS
    assert len(said) == 1 and f"held by process {process.pid} on" in said[0] and "taken over after 3 s without one" in said[0]


def test_a_holder_of_this_machine_that_left_no_lock_needs_no_watching(tmp_path, holder, monkeypatch):
    process = holder(tmp_path, "first")
    wait_for(process, "held")
    process.kill()
    process.wait()
    monkeypatch.setattr(time, "sleep", not_watched)
    with held(Folder(tmp_path / "lease"), "The run x", alone=True) as mine:
        mine.check()


def test_a_paused_holder_that_wakes_up_stops_without_writing(tmp_path, holder):
    first = holder(tmp_path, "first")
    until(lambda: "first" in writers(tmp_path))
    (tmp_path / "pause").touch()
    paused(first)
    second = holder(tmp_path, "second", seconds=LONG)
    until(lambda: "second" in writers(tmp_path))
    before = writers(tmp_path)
    first.send_signal(signal.SIGCONT)
    assert "was taken over by another process" in wait_for(first, "lost:")
    assert first.wait(600) == 7
    until(lambda: len(writers(tmp_path)) > len(before) + 1)
    (tmp_path / "end").touch()
    assert second.wait(600) == 0
    after = writers(tmp_path)
    changes = [b for a, b in zip(after, after[1:], strict=False) if a != b]
    assert changes == ["second"]
    assert json.loads(max((tmp_path / "lease").glob("*.json")).read_text())["released"]  # the loser left the other's lease alone


class Asleep(Folder):
    """The folder of a machine that falls asleep while it renews, and wakes up when another one has taken over."""

    def replace(self, name, content):
        if self.names() == [name]:
            self.create("000002.json", b'{"owner": "other"}')
            time.sleep(SECONDS / 2 + 0.1)
        super().replace(name, content)


def test_a_renewal_that_was_slept_through_confirms_nothing(tmp_path):
    mine = lease.Lease(Asleep(tmp_path), "The run x", SECONDS)
    mine.take(alone=False, wait=False, note=print)
    mine._renew(patient=True)
    with pytest.raises(Lost, match="was taken over by another process"):
        mine.check()


def test_of_many_that_find_a_stale_lease_one_gets_it(tmp_path, holder):
    (tmp_path / "lease").mkdir()
    (tmp_path / "lease/000041.json").write_text(json.dumps({"owner": "gone", "host": "far", "count": 3, "seconds": 0.5}))
    processes = [holder(tmp_path, str(i), seconds=6 * SECONDS) for i in range(4)]
    until(lambda: sum(process.poll() is None for process in processes) == 1 and writers(tmp_path))  # the others are refused
    (tmp_path / "end").touch()
    assert sorted(process.wait(600) for process in processes) == [0, 1, 1, 1]
    assert len(set(writers(tmp_path))) == 1
    assert os.listdir(tmp_path / "lease") == ["000042.json"]


def test_waiting_for_the_holder_instead_of_being_refused(tmp_path, holder):
    first = holder(tmp_path, "first", seconds=4 * SECONDS)
    wait_for(first, "held")
    said = []

    def note(text):
        said.append(text)
        (tmp_path / "end").touch()

    with held(Folder(tmp_path / "lease"), "The run x", wait=True, note=note):
        assert first.wait(600) == 0
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


@pytest.fixture
def begin(home, spawn):
    """Start a command of the tiny row."""
    return lambda *command: spawn(command, {"BENCH_HOME": str(home)}, subprocess.PIPE)


def test_a_run_taken_over_from_a_paused_machine_is_finished_once(home, bench, begin):
    words = ("run", *TINY, "--no-track", "--set", "recipe.steps=100", "--set", "recipe.trajectory=(100,)")
    first = begin(*stopped(1, signal.SIGSTOP, *words, "--checkpoint-every", "0.05"))
    paused(first)
    (run,) = (home / "runs").iterdir()
    elsewhere(run)
    second = bench(*words)
    assert second.returncode == 0, second.stderr
    assert "is held by process" in second.stderr and "on node7" in second.stderr
    result = (run / "record.json").read_bytes()
    checkpoints = sorted(path.stat().st_mtime_ns for path in run.glob("checkpoints/*/*"))
    metrics = (run / "metrics.jsonl").read_bytes()
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=600)
    assert first.returncode == 1 and "was taken over by another process" in said and "Traceback" not in said
    assert (run / "record.json").read_bytes() == result and (run / "metrics.jsonl").read_bytes() == metrics
    assert sorted(path.stat().st_mtime_ns for path in run.glob("checkpoints/*/*")) == checkpoints


def test_a_run_waits_for_a_living_one_where_asked_to(home, typed_here, begin):
    words = ("run", *TINY, "--no-track")
    first = begin(*stopped(10, signal.SIGSTOP, *words))
    paused(first)
    refused = typed_here(*words)
    assert refused.returncode == 2 and "in progress in another process" in refused.stderr
    second = begin(sys.executable, "-m", "benchmark.cli", *words, "--wait", "--json")
    wait_for(second, "The run", second.stderr)
    first.send_signal(signal.SIGCONT)
    assert first.wait(600) == 0 and second.wait(600) == 0
    assert json.loads(second.stdout.read())["record"] and len(list(home.glob("records/**/*.json"))) <= 1
    log = next(home.glob("runs/*/metrics.jsonl")).read_text().splitlines()
    assert max(json.loads(line)["step"] for line in log) == 40 and sum('"psnr_gap"' in line for line in log) == 3  # trained once
