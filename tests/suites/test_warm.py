"""Rows that are forked: each a process of its own, with its own files, exit code and signals, whatever becomes of the others."""

import gc
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from benchmark.declaring import registry
from benchmark.declaring.row import Row
from benchmark.files import importing
from benchmark.suites import warm
from benchmark.suites.child import COMMAND, Process
from benchmark.suites.engine import Site
from benchmark.suites.local import Local
from benchmark.suites.warm import Gone, Warm, serve

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rows are forked on Linux alone")

PUPIL = """
import os, signal, sys, time
from pathlib import Path
def main(words):
    if words[0] == "say":
        print(" ".join(words[1:]), os.getpgid(0) == os.getpid(), sys.argv[1:] == words)
        print("told", file=sys.stderr)
        return 3
    if words[0] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if words[0] == "raise":
        raise ValueError("of this row alone")
    try:
        Path(words[1]).write_text(str(os.getpid()))
        time.sleep(float(words[2]))
    except KeyboardInterrupt:
        return 130
    Path(words[1] + " ended").touch()
    return 0
"""


@pytest.fixture
def nest(tmp_path):
    """A process that has imported a command which is none of ours, and nothing else."""
    (tmp_path / "pupil.py").write_text(PUPIL)
    around = os.environ | importing()
    made = Warm("pupil", around | {"PYTHONPATH": os.pathsep.join([around["PYTHONPATH"], str(tmp_path)])}, imported=())
    yield made
    made.close()


def until(true, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def ended(job):
    until(lambda: job.poll() is not None)
    return job.poll()


def test_each_row_has_its_own_words_files_group_and_end(nest, tmp_path):
    jobs = [Process(words, warm=nest) for words in (["say", "one"], ["die"], ["raise"], ["say", "two"], ["wait", str(tmp_path / "a"), "0"])]
    assert [ended(job) for job in jobs] == [3, -signal.SIGKILL, 1, 3, 0]
    said = [job.output() for job in jobs]
    assert said[0] == ("one True True\n", "told\n") and said[3] == ("two True True\n", "told\n")
    assert said[1] == ("", "") and "ValueError: of this row alone" in said[2][1]


def test_a_row_hears_the_ctrl_c_that_the_sweep_passes_on(nest, tmp_path):
    jobs = [Process(["wait", str(tmp_path / name), "60"], warm=nest) for name in "ab"]
    until(lambda: all((tmp_path / name).exists() for name in "ab"))
    jobs[0].signal(signal.SIGINT)
    assert ended(jobs[0]) == 130 and jobs[1].poll() is None
    jobs[1].signal(signal.SIGTERM)
    assert ended(jobs[1]) == -signal.SIGTERM


def test_rows_go_on_without_the_sweep(nest, tmp_path):
    Process(["wait", str(tmp_path / "a"), "0.5"], warm=nest)
    nest.close()
    until((tmp_path / "a ended").exists)


def test_a_row_of_which_nobody_can_tell_is_ended_and_said_to_be(nest, tmp_path):
    job = Process(["wait", str(tmp_path / "a"), "60"], warm=nest)
    row = int(until(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text()))
    os.kill(nest._process.pid, signal.SIGKILL)
    assert ended(job) == -signal.SIGKILL
    stat = Path(f"/proc/{row}/stat")
    until(lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z")
    with pytest.raises(Gone, match="has ended"):
        Process(["say", "more"], warm=nest)


def test_an_answer_that_a_ctrl_c_left_behind_is_told_again(nest):
    job = Process(["say", "one"], warm=nest)
    until(lambda: nest._answer(nest._say({"ended": job._process.pid})) == 3)
    nest._say({"ended": job._process.pid})  # its answer is read by nobody
    assert ended(job) == 3


def test_where_no_row_can_be_forked_each_imports_everything_anew(tmp_path):
    said, local = [], Local()
    local.open(Site(tmp_path, tmp_path / "records", registry.roots([]), said.append, suite="four", device="cpu"), 1)
    local._warm = Warm("no_such_command", os.environ | importing(), imported=())
    for count in (1, 2):
        job = local.launch(Row("dit_mini", "global", "dead_leaves8", 16, count, "mini"), "an id", 0)
        words = Path(f"/proc/{job._process.pid}/cmdline")  # empty for a moment, while the kernel puts another program in its place
        until(lambda words=words: words.read_text().split("\0")[: len(COMMAND)] == [*COMMAND])
        job.signal(signal.SIGKILL)
        assert ended(job) == -signal.SIGKILL
    local.close()
    assert said == ["From here on every row imports everything anew: the process that forks them has ended (exit code 1)."]


def test_no_row_is_forked_from_code_that_has_changed(tmp_path, monkeypatch):
    (tmp_path / "pupil_here.py").write_text(PUPIL)
    (tmp_path / "code.py").touch()
    monkeypatch.setattr(warm, "CODE", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    answering = threading.Thread(target=serve, args=(theirs, "pupil_here", ()))
    answering.start()
    with ours, tempfile.TemporaryFile() as out:
        assert ours.recv(10) == b"{}"
        (tmp_path / "code.py").write_text("changed = True\n")
        socket.send_fds(ours, [json.dumps({"words": ["say"], "number": 1}).encode()], [out.fileno(), out.fileno()])
        assert json.loads(ours.recv(100)) == {"number": 1, "value": None}
    answering.join(30)
    assert not answering.is_alive()
    gc.unfreeze()
