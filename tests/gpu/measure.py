"""All that a GPU is asked first: is it right, how fast is it, and the study on natural32. `make gpu`, up to half an hour.

Given again it goes on where it was, as long as code and card are the same; `--again` begins anew. Exit code 0: all that ran holds;
1: a check failed, or the study did; 3: there is no GPU.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmark.declaring.entries import load_suite
from benchmark.files import home, write_text
from benchmark.networks.numerics import set_up
from benchmark.recording import record
from benchmark.running import environment
from tests.gpu.correctness import CHECKS, Where
from tests.gpu.page import page
from tests.gpu.speed import lines

NO_GPU = 3
PARTS = ("correctness", "speed", "study")
SUITE = "study_natural32"


@dataclass
class Found:
    """What was found so far, kept after every line of it."""

    file: Path
    document: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, file: Path, facts: Mapping[str, str], *, again: bool) -> "Found":
        """Return what was found before by the same code on the same card, or nothing."""
        try:
            before = {} if again else json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = {}
        same = all(before.get(name) == value for name, value in facts.items() if name != "date")
        return cls(file, before if before and same else dict(facts))

    def keep(self, name: str, value: Any) -> None:
        """Keep a part."""
        self.document[name] = value
        write_text(self.file, json.dumps(self.document, indent=1) + "\n")


def main(words: list[str] | None = None) -> int:
    """Ask a GPU, or the CPU for the sake of the script."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.measure", description=__doc__)
    parser.add_argument(
        "--device", default="cuda", help="cuda, cuda:1, …; cpu runs the correctness alone, on small networks (default: cuda)"
    )
    parser.add_argument("--only", choices=PARTS, help="only this part")
    parser.add_argument("--check", choices=tuple(CHECKS), action="append", metavar="NAME", help="only this check of the correctness")
    parser.add_argument(
        "--minutes",
        type=float,
        default=30.0,
        metavar="M",
        help="for all of it: nothing is timed after them, and the study stops at a checkpoint (default: 30)",
    )
    parser.add_argument("--again", action="store_true", help="begin anew")
    parser.add_argument("--write", type=Path, metavar="PATH", help="write the page here; not from a CPU")
    options = parser.parse_args(words)
    until = time.monotonic() + 60 * options.minutes
    on_gpu = torch.device(options.device).type == "cuda"
    if on_gpu and not torch.cuda.is_available():
        print("There is no GPU here, so nothing was measured: `make gpu` needs a machine with one.", file=sys.stderr)
        return NO_GPU
    device = environment.choose_device(options.device)
    set_up(None if on_gpu else 1, home() / "runs" / "compiled", strict=False)
    facts = environment.describe()
    code = f"{(facts.commit or 'unknown')[:12]}{' with changes' if facts.modified else ''}"
    name = environment.device_name(device)
    about = {"device": name, "torch": facts.torch, "commit": code, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    found = Found.of(home() / "runs" / "gpu" / f"{device.type}.json", about, again=options.again)
    wanted = (options.only,) if options.only else PARTS if on_gpu else PARTS[:1]
    with TemporaryDirectory() as folder:
        where = Where(device, Path(folder))
        if "correctness" in wanted:
            correctness(where, found, options.check)
        if "speed" in wanted:
            speed(where, found, until)
    holds = all(one["holds"] for one in found.document.get("correctness", {}).values())
    if "study" in wanted:
        study(found, options.device, until, holds)
        holds = holds and found.document["study"]["done"]
    if options.write and on_gpu:
        write_text(options.write, page(found.document))
        write_text(options.write.with_suffix(".json"), json.dumps(found.document, indent=1) + "\n")
    return 0 if holds else 1


def correctness(where: Where, found: Found, only: list[str] | None) -> None:
    """Make the checks that were not made yet, and say each as it comes."""
    done = found.document.get("correctness", {})
    for number, (name, check) in enumerate(CHECKS.items(), 1):
        if name in done and done[name]["holds"] or only and name not in only:
            continue
        began = time.monotonic()
        try:
            one = {"holds": True, "said": check(where)}
        except Exception as problem:  # of whatever kind: the others are made all the same
            one = {"holds": False, "said": f"{type(problem).__name__}: {problem}"}
        done[name] = one
        found.keep("correctness", done)
        print(
            f"{number}/{len(CHECKS)} {name}: {'' if one['holds'] else 'NO. '}{one['said'][:300]} ({time.monotonic() - began:.0f} s)",
            flush=True,
        )


def speed(where: Where, found: Found, until: float) -> None:
    """Time what was not timed yet, the bars first, and keep each as it comes; nothing is begun after the time that is given."""
    for part, name, measure in lines(where):
        done = found.document.get(part, {})
        if name in done:
            continue
        if time.monotonic() > until:
            print(f"Stopped before {part}, {name}, after the minutes that were given; the same command goes on here.", flush=True)
            return
        found.keep(part, done | {name: (one := measure()._asdict())})
        print(f"{part}, {name}: {_said(one)}", flush=True)
        if where.large:
            torch.cuda.empty_cache()


def _said(one: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value:,.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in one.items())


def study(found: Found, device: str, until: float, holds: bool) -> None:
    """Run the study for the time that is left; it stops at a checkpoint, from which the same command goes on."""
    if not holds:
        found.keep("study", {"done": False, "said": "Not run: a check of the correctness failed."})
        return
    command = [sys.executable, "-m", "benchmark.cli", "sweep", SUITE, "--jobs", "1", "--device", device]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = running.communicate(timeout=max(1.0, until - time.monotonic()))[1]
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGINT)
        said = f"{running.communicate()[1]}\nStopped after the minutes that it was given."
    made = [made for row in load_suite(SUITE).rows() if (made := _record(row)) is not None]
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
    words = "Every row is run." if running.returncode == 0 else f"Not all of it ran (exit code {running.returncode}): {last}"
    found.keep("study", {"done": running.returncode == 0, "said": words, "rows": made})
    print(words, flush=True)


def _record(row: Any) -> dict[str, Any] | None:
    path = record.path_of(home() / "leaderboard" / "records", row)
    if not path.exists():
        return None
    one = record.read(path)
    kept = {"layout": row.layout, "subset": row.subset, "psnr_train": one.psnr_train, "psnr_test": one.psnr_test, "psnr_gap": one.psnr_gap}
    return kept | {"training": one.training.wall_seconds, "scoring": one.training.evaluation_seconds}


if __name__ == "__main__":
    sys.exit(main())
