"""What `bench run` and `bench evaluate` print of a record, and what they say where other code has made it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.commands.output import near, print_json, print_table, say
from benchmark.commands.place import training_words
from benchmark.commands.quality import score_rows
from benchmark.errors import BenchError

if TYPE_CHECKING:
    from benchmark.recording.record import Record, Unlabelled
    from benchmark.running.place import Place


def ran(run: "Callable[[], Record]") -> "Record":
    """Run, and say what to type where other code has made what is there."""
    from benchmark.declaring.equivalence import OtherCode

    try:
        return run()
    except OtherCode as problem:
        raise BenchError(
            f"{problem} --force trains it again; --accept-old-code takes it as it is; `bench reproduce --equivalent SUITE` shows, row by "
            "row of a suite, whether this code gives the same numbers, and writes it down."
        ) from None


def print_record(result: "Record", place: "Place", status: str, *, json: bool, path: Path | None = None) -> None:
    """Print a record, and where it lies: `path`, where it is not among the records or the runs."""
    from benchmark.declaring.fields import to_json
    from benchmark.recording import record

    published = record.path_of(place.records, result.row, result.half)
    path = path or (place.home / "runs" / result.id / "record.json" if result.overrides else published)
    if json:
        print_json(
            {
                "id": result.id,
                "status": status,
                "record": str(path),
                "metric_version": result.metric_version,
                "psnr_train": result.psnr_train,
                "psnr_test": result.psnr_test,
                "psnr_gap": result.psnr_gap,
                **({"unlabelled": _headline(result.unlabelled)} if result.unlabelled else {}),
                "weights_sha256": result.weights_sha256,
                "scores": to_json(result.scores),
            }
        )
        return
    rows = [(str(p.step), f"{p.loss:.4f}", f"{p.psnr_train:.3f}", f"{p.psnr_test:.3f}", f"{p.psnr_gap:.3f}") for p in result.trajectory]
    final = f"final, K={result.psnr.images_test}, {len(result.psnr.diffusion_steps)} diffusion steps"
    rows.append((f"{final}{', with labels' if result.metric_version == record.LABELS_VERSION else ''}", "", *_said(result)))
    if result.unlabelled:
        rows.append(("the same with no class", "", *_said(result.unlabelled)))
    title = result.row.title + (f", half {result.half}" if result.half else "")
    print_table(title, ("step", "loss", "PSNR train, dB", "PSNR test, dB", "gap, dB"), rows)
    if scores := score_rows(result):
        print_table("sample quality", ("score", "value", "samples", "reference", "extractor", "sampling", "version"), scores)
    say(f"The record: {near(path)}{_note(path == published, status, result.half)}")
    if status == "already finished" and result.training.steps and not (place.home / "runs" / result.id / "checkpoints").is_dir():
        say(f"Its weights are not here. {training_words(path, result.training.wall_seconds)}")


def _headline(scores: "Record | Unlabelled") -> dict[str, Any]:
    return {name: getattr(scores, name) for name in ("metric_version", "psnr_train", "psnr_test", "psnr_gap")}


def _said(scores: "Record | Unlabelled") -> tuple[str, str, str]:
    return f"{scores.psnr_train:.3f}", f"{scores.psnr_test:.3f}", f"{scores.psnr_gap:.3f}"


def _note(published: bool, status: str, half: str | None) -> str:
    """Say why a record is not on the leaderboard, where it is not."""
    if half:
        return f" (half {half}: `bench compare` holds it against the other half; not on the leaderboard)"
    if published:
        return ""
    return (
        " (not on the leaderboard: --publish NAME puts it there)" if status == "scored" else " (not on the leaderboard, because of --set)"
    )
