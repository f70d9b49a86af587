"""The storm: kills at file operations, ten processes on one row, a server that dies, a clock that jumps, a long sweep.

    python -m tests.storm.storm              all of it: 300 kills (make storm)
    python -m tests.storm.storm --short      a minute of CPU time at most, without the sweeps and the server
    --only kills,clock   --rows 100   --write docs/reliability.md   --keep runs/storm

Every result is compared with that of an undisturbed run: what varies is how long it took. Ends with 1 where one differs. What
a part found is kept in the folder that `--keep` names, and not sought again while the code is the same.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmark.declaring import registry
from benchmark.files import write_text
from benchmark.suites.worker import identity
from tests.conftest import ENTRIES
from tests.storm import scenarios as told
from tests.storm import server
from tests.storm.lives import DEFECT, begin, import_everything, live

BEGIN, END = "<!-- the storm's figures: `make storm` writes them -->", "<!-- end of the storm's figures -->"
LIVES, PAUSE = 6, 5.0  # in so many lives, so many seconds apart, a command whose children go on must end


class Row(NamedTuple):
    """What one part of the storm found."""

    what: str
    disturbed: str
    kept: str
    seconds: float


def kills(scenario: told.Scenario, points: int, room: Path) -> Row:
    """Kill a command twice at each of so many places, spread over its file operations; finish it and compare what it leaves."""
    began, before, calm = time.monotonic(), room / "before", room / "calm"
    before.mkdir(parents=True)
    scenario.prepare(before)
    shutil.copytree(before, calm)
    operations = told.finished(scenario.words(calm), calm).operations
    wanted = scenario.result(calm)
    killed = differ = 0
    drawn = random.Random(scenario.name)
    for point in range(points):
        home = room / f"at {point}"
        shutil.copytree(before, home)
        words = scenario.words(home)
        for place in (1 + point * operations // points, drawn.randint(1, operations)):
            ended = live(words, home, kill_at=place)
            assert ended.code != DEFECT, ended.said
            killed += ended.code == -signal.SIGKILL
        told.finished(words, home)
        differ += scenario.result(home) != wanted
        shutil.rmtree(home)
    return Row(
        f"kills: {scenario.name}", f"{killed} kills at {operations} file operations", _kept(differ, points), time.monotonic() - began
    )


def moments(scenario: told.Scenario, points: int, room: Path) -> Row:
    """Kill a command whose files are its children's at so many moments; what it began goes on without it. Finish it and compare."""
    began, before, calm = time.monotonic(), room / "before", room / "calm"
    before.mkdir(parents=True)
    scenario.prepare(before)
    shutil.copytree(before, calm)
    lasted = time.monotonic()
    told.finished(scenario.words(calm), calm)
    lasted = time.monotonic() - lasted
    wanted, differ = scenario.result(calm), 0
    for point in range(points):
        home = room / f"at {point}"
        shutil.copytree(before, home)
        pid = begin(scenario.words(home), home, 0)
        time.sleep(lasted * (point + 1) / (points + 1))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        _finish(scenario.words(home), home)
        differ += scenario.result(home) != wanted
        shutil.rmtree(home)
    return Row(
        f"kills: {scenario.name}", f"{points} kills at moments of its {lasted:.0f} s", _kept(differ, points), time.monotonic() - began
    )


def _finish(words: list[str], home: Path) -> None:
    """Live a command again until it ends well; while what a killed one began goes on, it may say so."""
    for _ in range(LIVES):
        ended = live(words, home)
        if ended.code == 0:
            return
        assert ended.code == 1 and "in progress in another process" in ended.said, ended.said
        time.sleep(PAUSE)
    told.finished(words, home)


def clock(room: Path) -> Row:
    """Train a row under a wall clock that jumps a week back and forth."""
    began = time.monotonic()
    (room / "calm").mkdir(parents=True)
    (room / "jumping").mkdir()
    told.finished(told.RUN, room / "calm")
    ended = live(told.RUN, room / "jumping", jump=7 * 86_400.0)
    assert ended.code == 0, ended.said
    differ = told.run_result(room / "calm") != told.run_result(room / "jumping")
    return Row("clock", "jumps of a week, back and forth, from call to call", _kept(differ, 1), time.monotonic() - began)


def crowd(room: Path, processes: int) -> Row:
    """Begin one row in many processes at once: one works, the others say so or wait, and one record comes out."""
    began, home, calm = time.monotonic(), room / "home", room / "calm"
    home.mkdir(parents=True)
    calm.mkdir()
    told.finished(told.RUN, calm)
    words = [[*told.RUN, "--wait"] if number % 2 else told.RUN for number in range(processes)]
    pids = [begin(word, home, number) for number, word in enumerate(words)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert set(codes) <= {0, 2} and all(code == 0 for code in codes[1::2]), codes  # 2: in progress in another process
    differ = told.run_result(home) != told.run_result(calm)
    return Row("crowd", f"{processes} processes on one row, half of them waiting", _kept(differ, 1), time.monotonic() - began)


def tracked(room: Path) -> Row:
    """Track a run on a server that is killed under it and comes back, and one on a server that fails."""
    began, right = time.monotonic(), server.killed(room / "killed") + server.failing(room / "failing")
    return Row("server", "killed in a run and begun anew; answers with errors alone", _kept(2 - right, 2), time.monotonic() - began)


def sweep(room: Path, rows: int) -> Row:
    """Run a suite of many rows, and hold the sweep's memory and open files after its tenth row against those at its end."""
    began, home = time.monotonic(), room / "home"
    home.mkdir(parents=True)
    told.write_suite(home, rows)
    words = ["sweep", "stormy", "--jobs", "2", "--registry", str(home / "mine"), "--device", "cpu", "--no-track"]
    pid, seen = begin(words, home, 0), list[tuple[int, int, int]]()
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        done = len(list((home / "leaderboard" / "records").rglob("*.json")))
        seen.append((done, _resident(pid), len(os.listdir(f"/proc/{pid}/fd"))))
        time.sleep(0.5)
    done = len(list((home / "leaderboard" / "records").rglob("*.json")))
    assert done == rows, (done, (room / "home.said0").read_text())
    early = next(one for one in seen if one[0] >= min(10, rows // 2))
    late = seen[-2]
    figures = (
        f"memory {early[1] / 1e6:.0f} MB after {early[0]} rows, {late[1] / 1e6:.0f} MB at the end; open files {early[2]} and {late[2]}"
    )
    assert late[1] < 1.1 * early[1] and late[2] <= early[2] + 2, figures
    return Row("long sweep", f"{rows} rows, two at a time", figures, time.monotonic() - began)


def main() -> int:
    """Let the storm loose, print what it found, and write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", default="kills,clock,crowd,server,sweep")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    import_everything(registry.roots([ENTRIES]))
    with tempfile.TemporaryDirectory(prefix="storm-") as name:
        found = _all(options, Path(name))
    total = sum(int(row.disturbed.split()[0]) for row in found if row.what.startswith("kills"))
    lines = ["| what | disturbed by | what came out | seconds |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.disturbed} | {row.kept} | {row.seconds:.0f} |" for row in found]
    text = "\n".join([*lines, "", f"{total} kills in all; {time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}."])
    print(text)
    if options.write:
        head, _, rest = options.write.read_text(encoding="utf-8").partition(BEGIN)
        write_text(options.write, f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    return int(any("DIFFER" in row.kept for row in found))


def _all(options: argparse.Namespace, room: Path) -> list[Row]:
    code, found = _code(), []
    for number, (name, part) in enumerate(_parts(options).items()):
        kept = options.keep / f"{name}.json" if options.keep else room / "none.json"
        known = json.loads(kept.read_text()) if kept.exists() else {}
        if known.get("code") != code:
            known = {"code": code, "row": part(room / str(number))}
            if options.keep:
                write_text(kept, json.dumps(known) + "\n")
        found.append(Row(*known["row"]))
        print(*found[-1], sep="; ", file=sys.stderr, flush=True)
    return found


def _parts(options: argparse.Namespace) -> dict[str, Callable[[Path], Row]]:
    """Return the parts of the storm that are asked for, the short ones first."""
    parts: dict[str, Callable[[Path], Row]] = {"clock": clock, "crowd": partial(crowd, processes=3 if options.short else 10)}
    if not options.short:
        parts |= {"server": tracked, f"sweep of {options.rows}": partial(sweep, rows=options.rows)}
    for one in told.scenarios():
        if points := one.points[0 if options.short else 1]:
            parts[f"kills of {one.name}"] = partial(moments if one.name == "bench sweep" else kills, one, points)
    return {name: part for name, part in parts.items() if name.split()[0] in options.only.split(",")}


def _code() -> str:
    """Return the digest of the code that the storm rages over, its own among it."""
    own = {path.name: path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))}
    return hashlib.sha256(json.dumps([identity([ENTRIES]).files, own], sort_keys=True).encode()).hexdigest()


def _kept(differ: int | bool, of: int) -> str:
    return f"DIFFER {int(differ)} of {of}" if differ else f"the same digest, {of} of {of}"


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # it has ended meanwhile
        return 0


if __name__ == "__main__":
    sys.exit(main())
