"""One row, a model under a layout at one N: what its page says, and the numbers that its charts and comparisons are made from."""

import shlex
from dataclasses import fields
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmark.declaring import closure
from benchmark.declaring.spec import AXES
from benchmark.pages import onsets, samples
from benchmark.pages.columns import null_words, reference_words
from benchmark.pages.site.pictures import Gallery
from benchmark.pages.site.view import day, flat, layout, readings
from benchmark.pages.standing import Standing
from benchmark.pages.statistics import estimate
from benchmark.pages.tables import Series
from benchmark.pages.text import amount, escaped, interval, plain, short_text
from benchmark.pages.unlabelled import unlabelled_note
from benchmark.recording import analyses, errors, levels
from benchmark.recording.curves import mean_curves
from benchmark.recording.record import CAP, Record, Score, path_of
from benchmark.recording.said import one_line

ANALYSES = {
    "jacobian": "Jacobian of the denoised image",
    "attention": "Attention maps",
    "representations": "Representations",
    "receptive-field": "Receptive field",
    "theory": "Agreement with denoisers in closed form",
}


def script(series: Series, page: str, samples_at: str, standing: Standing) -> dict[str, Any]:
    """Return the numbers of a row: its mean curves, and by seed what is paired with another row's."""
    first = _any(series)
    mark = standing.mark([first])
    return {
        "page": page,
        "title": title(series),
        "subset": first.row.subset,
        "curves": mean_curves(list(series.runs.values())),
        "seeds": {str(seed): _by_seed(run, seed, readings(series)) for seed, run in series.runs.items()},
        "spec": {key: value for key, value in flat(dict(first.spec)).items() if key != "seed"},
        "code": code(first),
        "standing": standing.code(first),
        "files": standing.files(first),
        "samples": samples_at,
        "mark": f"{mark.state}: {short_text(mark.reason, 500)}" if mark else "",
    }


def title(series: Series) -> str:
    """Return what a row is called."""
    return f"{short_text(series.model)} {layout(series)}, N = {_any(series).row.subset:,}"


def command(record: Record, registry: str = "") -> str:
    """Return the command that runs a record's row again."""
    row = record.row
    words = ["bench", "run", "--model", row.model, "--layout", row.layout, "--dataset", row.dataset, "--recipe", row.recipe]
    words += ["--subset", str(row.subset), "--seed", str(row.seed)]
    words += [part for override in record.overrides for part in ("--set", override)]
    return shlex.join(words + (["--registry", registry] if registry else []))


def code(record: Record) -> dict[str, str]:
    """Return what is known of the code behind a record: the digest of it all, and the kinds of its entries; empty without a digest."""
    if not record.code:
        return {}
    return {"digest": short_text(record.code)} | {where: short_text(kind) for where, kind in closure.family_of(record.spec, AXES).items()}


def page(series: Series, standing: Standing, records: Path, gallery: Gallery) -> dict[str, Any]:
    """Return what the template of a row's page shows."""
    runs, leaderboard = list(series.runs.values()), records.parent
    first = runs[0]
    submitted = standing.who(runs)
    registry = f"submissions/{submitted.name}/registry" if submitted and submitted.sources else ""
    return {
        "title": title(series),
        "model": one_line(series.model),
        "layout": layout(series),
        "row": first.row,
        "metric_version": one_line(first.metric_version),
        "ranked": first.ranked,
        "badges": standing.badges(runs),
        "mark": standing.mark(runs),
        "summary": _summary(series),
        "submitted": submitted,
        "command": one_line(command(first, registry)),
        "spec": flat({name: first.spec[name] for name in ("model", "layout", "dataset", "recipe")}),
        "assumed": sorted({one_line(line)[:500] for run in runs for line in run.assumed}),
        "seeds": [_seed_row(run, records) for run in runs],
        "facts": _facts(first),
        "digests": [_digests(run) for run in runs],
        "code": code(first),
        "scores": _scores(runs),
        "verified": [(run.row.seed, found) for run in runs if (found := standing.verification(run))],
        "proves": levels.PROVES,
        "pictures": _pictures(runs, leaderboard, gallery),
        "samples": sample_grid(runs, leaderboard, gallery),
    }


def sample_grid(runs: list[Record], leaderboard: Path, gallery: Gallery) -> str:
    """Return the samples of the first seed that has some, under the site; '' where none has."""
    found = (samples.grid_path(leaderboard, run) for run in runs)
    return next((gallery.file(path)[0] for path in found if path.is_file()), "")


def record_path(record: Record) -> str:
    """Return where the download of a record lies under the site."""
    return path_of(Path("records"), record.row, record.half).as_posix()


def _summary(series: Series) -> str:
    """Return the numbers of a row in one line."""
    gap, test = (estimate(list(series.values(name).values())) for name in ("psnr_gap", "psnr_test"))
    many = f" over {gap.n} seeds" if gap.n > 1 else ""
    said = [f"Gap {plain(gap.mean)} dB {interval(gap)}{many}", f"PSNR test {test.mean:.2f} dB"]
    for what, steps in (("PSNR test peaks", onsets.peaks(series.runs)), ("the membership gap opens", onsets.openings(series.runs))):
        said += [f"{what} at step {fmean(steps.values()):,.0f} ({min(steps.values()):,.0f} to {max(steps.values()):,.0f})"] if steps else []
    said += [without] if (without := unlabelled_note(series)) else []
    return "; ".join(said)


def _by_seed(run: Record, seed: int, others: dict[str, dict[int, float]]) -> dict[str, Any]:
    return {
        "test": run.data.test_sha256[:16],
        "train": run.data.train_sha256[:16],
        "gap": run.psnr_gap,
        "psnr_train": run.psnr_train,
        "psnr_test": run.psnr_test,
        "readings": {name: values[seed] for name, values in others.items() if seed in values},
        "trajectory": [[point.step, point.psnr_train, point.psnr_test, point.psnr_gap] for point in run.trajectory],
    }


def _seed_row(run: Record, records: Path) -> dict[str, str]:
    kept = errors.beside(path_of(records, run.row)).is_file()
    return {
        "seed": str(run.row.seed),
        "gap": plain(run.psnr_gap),
        "test": plain(run.psnr_test),
        "train": plain(run.psnr_train),
        "hours": f"{(run.training.wall_seconds + run.training.evaluation_seconds) / 3600:.3g}",
        "day": day(run.created),
        "record": record_path(run),
        "name": Path(record_path(run)).name,
        "errors": errors.beside(Path(record_path(run))).as_posix() if kept else "",
    }


def _facts(run: Record) -> dict[str, str]:
    spent, where = run.training, run.environment
    said = {
        "parameters": f"{amount(spent.parameters)} ({amount(spent.parameters_trainable)} trained)",
        "FLOPs of a forward pass": amount(spent.forward_flops),
        "training steps": f"{spent.steps:,}",
        "device": spent.device,
        "processes, threads": f"{spent.processes}, {spent.threads}",
        "peak memory": f"{amount(spent.peak_memory_bytes)}B",
        "resumed": f"{spent.resumed} times",
        "notes": "; ".join(spent.notes),
        f"steps at {CAP:g} dB, the largest PSNR": f"{len(capped)} of {len(run.psnr.diffusion_steps)}"
        if (capped := run.psnr.capped)
        else "",
    }
    said |= {field.name: str(getattr(where, field.name)) for field in fields(where)}
    return {name: short_text(value, 300) for name, value in said.items() if value}


def _digests(run: Record) -> dict[str, str]:
    return {
        "seed": str(run.row.seed),
        "spec": run.id,
        "weights": short_text(run.weights_sha256),
        "training images": short_text(run.data.train_sha256),
        "test images": short_text(run.data.test_sha256),
    }


def _scores(runs: list[Record]) -> list[dict[str, str]]:
    return [
        {
            "seed": str(run.row.seed),
            "name": short_text(name),
            "value": plain(score.value),
            "of": short_text(", ".join(part for part in (f"{score.samples:,} samples", *_against(name, score), score.version) if part)),
        }
        for run in runs
        for name, score in run.scores.items()
    ]


def _against(name: str, score: Score) -> tuple[str, str]:
    """Say what a score is held against: its reference, or its null."""
    null = f"over its null {plain(score.null)}" if score.null is not None else null_words(name, score).removeprefix(", ")
    return reference_words(score), null


def _pictures(runs: list[Record], leaderboard: Path, gallery: Gallery) -> list[dict[str, Any]]:
    """Return the pictures of the analyses of the first seed that has some."""
    for run in runs:
        folder = analyses.published_folder(leaderboard, run.row)
        drawn = sorted(folder.glob("*.svg")) if folder.is_dir() else []
        if drawn:
            return [
                {
                    "title": f"{ANALYSES.get(path.stem, path.stem)}, seed {run.row.seed}",
                    "alt": escaped(path.stem),
                    "paths": gallery.file(path),
                }
                for path in drawn
            ]
    return []


def _any(series: Series) -> Record:
    return next(iter(series.runs.values()))
