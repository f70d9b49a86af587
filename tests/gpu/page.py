"""What `make gpu` found, as docs/performance-gpu.md; and what that page says before any GPU was there."""

from collections.abc import Mapping
from typing import Any

from tests.gpu.bars import bars
from tests.gpu.speed import BARRED, BATCH, OTHERS

HEAD = """# Performance and correctness on a GPU

Written by `make gpu` (`python -m tests.gpu.measure`) from what it found, kept in [performance-gpu.json](performance-gpu.json)."""
NOTHING = """
**Nothing has run on a GPU yet**, neither this script on one nor any row of the leaderboard. What is known without one is in
[training.md](training.md#on-a-gpu-what-holds-and-what-has-run); `make gpu-check` assembles the attention kernels for an H100, without one.

On a machine with a GPU, `make gpu` takes up to half an hour and, given again, goes on where it was:

1. correctness: the checks of [tests/gpu/correctness.py](../tests/gpu/correctness.py), each with a figure. On a CPU the same checks
   are `python -m tests.gpu.measure --device cpu`, which proves the script and nothing about a GPU;
2. speed: whole training steps in images a second beside a plain DiT, and attention kernels side by side;
3. the study on natural32, where its images are there (`bench data add natural32 --root PATH`).

Where there is no GPU it says so in one sentence and ends with exit code 3.
"""


def page(found: Mapping[str, Any]) -> str:
    """Return the page of what was found, in the words of `measure`; of nothing, what is to be done."""
    if not found:
        return f"{HEAD}\n{NOTHING}"
    about = f"{found['device']}, PyTorch {found['torch']}, commit {found['commit']}, {found['date']}."
    lines = [HEAD, "", f"{about} {found['note']}" if "note" in found else about]
    return "\n".join([*lines, *_correctness(found), *_bars(found), *_speed(found), *_parts(found), *_layers(found), *_study(found), ""])


def _correctness(found: Mapping[str, Any]) -> list[str]:
    checks = found.get("correctness", {})
    rows = [f"| {name} | {'yes' if one['holds'] else '**no**'} | {_cell(one['said'])} |" for name, one in checks.items()]
    return ["", "## Correctness", "", *(["| check | holds | found |", "|-|-|-|", *rows] if rows else ["Not run."])]


def _bars(found: Mapping[str, Any]) -> list[str]:
    """Tell of each bar whether it is met; of one that is missed, by which measurement; of one without a measurement, that it is not run."""
    lines = ["", "## The bars", "", f"Steps in bf16, compiled by blocks, batch {BATCH}; the least is arithmetic for an H100.", ""]
    rows = bars(found.get("steps", {}), found.get("profiles", {}))
    return [*lines, "| step | images/s | at least | |", "|-|-|-|-|", *rows]


def _speed(found: Mapping[str, Any]) -> list[str]:
    lines = ["", "## Training steps", ""]
    if not (steps := found.get("steps", {})):
        return [*lines, "Not run."]
    lines += ["| model | layout | type | compiled | batch | images/s | attention |", "|-|-|-|-|-|-|-|"]
    for one in steps.values():
        lines.append(
            f"| {one['model']} | {one['layout']} | {one['precision']} | {_cell(one['compiled'])} | {one['batch']} | "
            f"{one['images_per_second']:,.0f} | {_cell(one['kernels'])} |"
        )
    return [*lines, "", "0 images/s: that way failed, with the error named.", *_missing(steps)]


def _missing(steps: Mapping[str, Any]) -> list[str]:
    """Name the ways that were not timed, by row."""
    missing: dict[str, list[str]] = {}
    for way in (*BARRED, *OTHERS):
        if " ".join(way) not in steps:
            missing.setdefault(f"{way.model}, {way.layout}", []).append(f"{way.precision} {way.asked}")
    rows = "; ".join(f"{row} ({', '.join(ways)})" for row, ways in missing.items())
    return [f"Not run: {rows}."] if rows else []


def _parts(found: Mapping[str, Any]) -> list[str]:
    """Tell of what a step is made, where it was looked at."""
    lines: list[str] = []
    if parts := found.get("parts", {}):
        lines += [
            "",
            "## Widths",
            "",
            f"Parts of DiT-XS/1's step in bf16, batch {BATCH}, at their own width and padded to rows of 16 bytes, ms.",
        ]
        lines += ["", "| part | own width | padded | |", "|-|-|-|-|"]
        lines += [
            f"| {one['what']} | {one['own']:.2f} | {one['padded']:.2f} | {one['own'] / one['padded']:.1f}x |" for one in parts.values()
        ]
    for one in found.get("profiles", {}).values():
        whole = one["milliseconds"]
        lines += ["", f"## Where a step of {one['model']}, {one['layout']}, goes", ""]
        lines += [f"In bf16, compiled by blocks, batch {one['batch']}, by torch's profiler: {whole:.1f} ms of kernels.", ""]
        lines += ["| kernels | ms | of the step |", "|-|-|-|"]
        lines += [f"| {name} | {ms:.1f} | {ms / whole:.0%} |" for name, ms in one["groups"].items()]
    return lines


def _layers(found: Mapping[str, Any]) -> list[str]:
    lines = ["", "## Windows", ""]
    if not (layers := found.get("layers", {})):
        return [*lines, "Not run."]
    lines += [
        "Forward, and with the backward pass, ms; 32 x 32 tokens, 4 heads of 64, 8 images.",
        "",
        "| window | type | kernels |",
        "|-|-|-|",
    ]
    for one in layers.values():
        times = "; ".join(f"{name} {forward:.2f}, {both:.2f}" for name, (forward, both) in one["milliseconds"].items())
        lines.append(f"| {one['window']} | {one['precision']} | {times} |")
    return lines


def _study(found: Mapping[str, Any]) -> list[str]:
    study = found.get("study", {})
    lines = ["", "## The study on natural32", "", _cell(study.get("said", "Not run."))]
    if rows := study.get("rows", []):
        lines += ["", "| layout | N | PSNR train | PSNR test | gap, dB | training, s | scoring, s |", "|-|-|-|-|-|-|-|"]
        lines += [
            f"| {one['layout']} | {one['subset']:,} | {one['psnr_train']:.2f} | {one['psnr_test']:.2f} | {one['psnr_gap']:.2f} | "
            f"{one['training']:.0f} | {one['scoring']:.0f} |"
            for one in rows
        ]
    return lines


def _cell(text: str) -> str:
    """Return text that breaks no table."""
    return " ".join(text.split()).replace("|", "/")[:400]
