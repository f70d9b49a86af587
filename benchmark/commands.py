"""What each command does: names to specs, specs to results, results to stdout. Heavy imports wait inside."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import registry
from benchmark.errors import BenchError, UsageError

if TYPE_CHECKING:
    from benchmark.record import Record
    from benchmark.run import Place
    from benchmark.spec import Spec

CHECKOUT = Path(__file__).resolve().parent.parent


def home() -> Path:
    """Return the folder that holds runs/, packed/, data/ and leaderboard/: BENCH_HOME, else the checkout."""
    named = os.environ.get("BENCH_HOME")
    if named:
        return Path(named).resolve()
    return CHECKOUT if (CHECKOUT / "pyproject.toml").exists() else Path.cwd()


def list_entries(options: argparse.Namespace) -> int:
    """`bench list`."""
    if options.what == "runs":
        return _list_runs(options)
    search = registry.roots(options.registry)
    axes = [options.what[:-1]] if options.what else list(registry.FOLDERS)
    found = {axis: registry.entries(axis, search) for axis in axes}
    if options.json:
        _print_json({f"{axis}s": [{"name": e.name, "description": e.description, "assumed": e.assumed, "file": str(e.path)}
                                  for e in files.values()] for axis, files in found.items()})
        return 0
    for axis, files in found.items():
        rows = [(e.name, e.description + (f" (assumed: {', '.join(e.assumed)})" if e.assumed else "")) for e in files.values()]
        _print_table(f"{axis}s", ("name", "what it is"), rows)
    return 0


def _list_runs(options: argparse.Namespace) -> int:
    rows = []
    for path in sorted((home() / "runs").glob("*/spec.json")):
        try:
            document = json.loads(path.read_text())
            spec, steps = document["spec"], document["spec"]["recipe"]["config"]["steps"]
            names = [spec[axis]["name"] for axis in ("model", "layout", "dataset", "recipe")]
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise BenchError(f"{path} is not the description of a run ({problem}). Remove its folder.") from None
        rows.append((document["id"], *names, spec["subset"], spec["seed"], _state(path.parent, steps), " ".join(document["overrides"])))
    columns = ("id", "model", "layout", "dataset", "recipe", "N", "seed", "state", "set")
    if options.json:
        _print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif rows:
        _print_table("runs", columns, rows)
    else:
        print("No runs yet. Start with: bench run --model dit_mini --layout global --dataset dead_leaves8 --subset 16 --recipe mini")
    return 0


def _state(folder: Path, steps: int) -> str:
    if (folder / "record.json").exists():
        return "finished"
    saved = sorted(path.name for path in (folder / "checkpoints").glob("[0-9]*"))
    return f"step {int(saved[-1])} of {steps}" if saved else "begun"


def run(options: argparse.Namespace) -> int:
    """`bench run`."""
    from benchmark import run as runs  # noqa: PLC0415  torch
    from benchmark.progress import Display  # noqa: PLC0415

    spec = _spec(options)
    place = _place(options)
    if options.dry_run:
        return _dry_run(spec, place, options)
    mirrors: list[Any] = []
    with Display() as display:
        done = None if options.force else runs.finished(spec, place)
        display.note(f"{spec.title}, recipe {spec.recipe.name} ({spec.id})" + (": already finished" if done else ""))
        with _mirrored(mirrors, display):
            result = runs.run(spec, place, display, force=options.force, started=lambda folder: _mirror(options, folder, mirrors))
    _print_record(result, place, options, "already finished" if done else "finished")
    return 0


@contextmanager
def _mirrored(mirrors: list[Any], display: Any) -> Iterator[None]:
    """Give MLflow at most ten seconds after the run, whatever became of it, and say once what it missed."""
    try:
        yield
    finally:
        for mirror in mirrors:
            if warning := mirror.finish():
                display.note(warning)


def _mirror(options: argparse.Namespace, folder: Path, mirrors: list[Any]) -> None:
    if not options.no_track:
        from benchmark import track  # noqa: PLC0415

        mirrors.append(track.start(folder, store=options.store or track.default_store(home())))


def evaluate(options: argparse.Namespace) -> int:
    """`bench evaluate`."""
    from benchmark import run as runs  # noqa: PLC0415
    from benchmark.progress import Display  # noqa: PLC0415

    folder = _run_folder(options.run)
    if not (folder / "record.json").exists():
        raise UsageError(f"The run {folder.name} is not finished, so there is nothing to score again. `bench run` finishes it.")
    place = _place(options)
    with Display() as display:
        result = runs.evaluate(folder, place, display, registry.roots(options.registry))
    _print_record(result, place, options, "scored again")
    return 0


def data_add(options: argparse.Namespace) -> int:
    """`bench data add`."""
    from benchmark import data, spec  # noqa: PLC0415
    from benchmark.progress import Display  # noqa: PLC0415

    entry = spec.load(registry.find("dataset", options.name, registry.roots(options.registry)))
    with Display() as display:
        added = data.add(entry.name, entry.config, home=home(), root=options.root, skip_corrupt=options.skip_corrupt,
                         limit=options.limit, progress=display.bar(f"packing {entry.name}"))
    if options.json:
        _print_json(added.to_json())
    else:
        print(added.sentence)
    return 0


def data_list(options: argparse.Namespace) -> int:
    """`bench data list`."""
    from benchmark import data  # noqa: PLC0415

    rows = [(name, file.description, *data.status(name, home())) for name, file in
            registry.entries("dataset", registry.roots(options.registry)).items()]
    columns = ("name", "what it is", "images", "state")
    if options.json:
        _print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        _print_table("datasets", columns, rows)
    return 0


def data_show(options: argparse.Namespace) -> int:
    """`bench data show`."""
    from benchmark import data  # noqa: PLC0415

    facts = data.facts(options.name, home())
    if options.json:
        _print_json(facts)
    else:
        _print_table(options.name, ("fact", "value"), [(key, str(value)) for key, value in facts.items()])
    return 0


def data_verify(options: argparse.Namespace) -> int:
    """`bench data verify`."""
    from benchmark import data  # noqa: PLC0415

    names = options.name or data.packed_names(home())
    problems = {name: data.verify(name, home=home()) for name in names}
    if options.json:
        _print_json(problems)
    elif not names:
        print("No dataset is packed here yet. `bench data add NAME --root PATH` packs one.")
    for name, found in problems.items():
        if not options.json:
            print(f"{name}: {'every byte as in its manifest' if not found else '; '.join(found)}")
    return 1 if any(problems.values()) else 0


def sweep(options: argparse.Namespace) -> int:
    """`bench sweep`."""
    from benchmark import spec, sweep as sweeps  # noqa: PLC0415

    search = registry.roots(options.registry)
    rows = list(spec.load_suite(options.suite, search).rows())
    extra = [word for root in options.registry for word in ("--registry", str(root.resolve()))]
    extra += ["--device", options.device] + (["--force"] if options.force else [])
    outcomes = sweeps.sweep(rows, suite=options.suite, home=home(), records=_records_of(options), search=search,
                            jobs=options.jobs, extra_flags=extra, dry_run=options.dry_run, force=options.force,
                            store=None if options.no_track else options.store or sweeps.default_store(home()))
    if options.json:
        _print_json([outcome._asdict() | {"row": outcome.row._asdict()} for outcome in outcomes])
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


def check(options: argparse.Namespace) -> int:
    """`bench check`."""
    from benchmark import check as checks  # noqa: PLC0415

    own = [path for path in (home() / "leaderboard" / "records",) if path.is_dir()]
    paths = options.files or [*own, *registry.roots(options.registry)]
    verdicts = checks.check(paths, registry.roots(options.registry))
    if options.json:
        _print_json([{"file": str(v.path), "problem": v.problem} for v in verdicts])
    else:
        for verdict in verdicts:
            if verdict.problem:
                print(f"{verdict.path}: {verdict.problem}")
        bad = sum(bool(verdict.problem) for verdict in verdicts)
        print(f"{len(verdicts)} checked, {bad} with problems" if bad else f"{len(verdicts)} checked, all well")
    return 1 if any(v.problem for v in verdicts) else 0


def leaderboard(options: argparse.Namespace) -> int:
    """`bench leaderboard`."""
    from benchmark import leaderboard as board  # noqa: PLC0415

    records = _records_of(options)
    if not records.is_dir():
        raise UsageError(f"There are no records at {records}. `bench sweep mini` makes the first ones.")
    out, published = options.out or records.parent, CHECKOUT / "leaderboard" / "published"
    if options.check:
        problems = board.stale(records, out, published)
        for problem in problems:
            print(problem)
        print(f"{out / 'README.md'} is {'not what the records give' if problems else 'what the records give'}")
        return 1 if problems else 0
    written = board.build(records, out, published)
    if options.json:
        _print_json(board.as_json(records))
        return 0
    _print(*board.summary(records))
    print(f"\nThe page: {_near(out / 'README.md')}")
    for path in written:
        if path.suffix == ".svg":
            print(f"A picture: {_near(path)}")
    return 0


def ui(options: argparse.Namespace) -> int:
    """`bench ui`."""
    from benchmark import track  # noqa: PLC0415

    return track.ui(home(), options.store or track.default_store(home()), options.host, options.port)


def track_sync(options: argparse.Namespace) -> int:
    """`bench track sync`."""
    from benchmark import track  # noqa: PLC0415

    store = options.store or track.default_store(home())
    folders = [_run_folder(name) for name in options.runs] or sorted(p.parent for p in (home() / "runs").glob("*/spec.json"))
    outcomes = track.sync(folders, store)
    if options.json:
        _print_json([{"run": name, "outcome": outcome} for name, outcome in outcomes])
    else:
        _print_table(f"into {store}", ("run", "outcome"), outcomes)
    return 1 if any(outcome.startswith("failed") for _, outcome in outcomes) else 0


def _spec(options: argparse.Namespace) -> "Spec":
    from benchmark import record, spec  # noqa: PLC0415

    search = registry.roots(options.registry)
    if options.record:
        if options.model or options.layout or options.dataset or options.overrides:
            raise UsageError("--record says what to run; --model, --layout, --dataset and --set cannot stand beside it.")
        stored = record.read(options.record)
        return spec.from_record(stored.spec, overrides=stored.overrides, assumed=stored.assumed, search=search)
    names = {axis: getattr(options, axis) for axis in ("model", "layout", "dataset", "recipe")}
    if missing := [axis for axis, name in names.items() if not name]:
        known = ", ".join(registry.entries(missing[0], search))
        raise UsageError(f"--{missing[0]} is missing. There is: {known}. For example: bench run --model dit_mini "
                         "--layout local_3x3_head --dataset dead_leaves8 --subset 16 --recipe mini")
    return spec.resolve(names, subset=options.subset, seed=options.seed, overrides=options.overrides, search=search)


def _place(options: argparse.Namespace) -> "Place":
    import torch  # noqa: PLC0415

    from benchmark.environment import choose_device  # noqa: PLC0415
    from benchmark.run import Place  # noqa: PLC0415

    if options.threads is not None:
        if options.threads < 1:
            raise UsageError(f"--threads {options.threads} must be at least 1.")
        torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False  # scores are fp32
    return Place(home=home(), records=_records_of(options), device=choose_device(options.device),
                 suite=getattr(options, "suite", None), checkpoint_seconds=getattr(options, "checkpoint_every", 60.0))


def _records_of(options: argparse.Namespace) -> Path:
    return options.records.resolve() if options.records else home() / "leaderboard" / "records"


def _run_folder(name: str) -> Path:
    """Return the folder of a run, named by path, id or the id's first digits."""
    if (Path(name) / "spec.json").exists():
        return Path(name).resolve()
    found = [path.parent for path in (home() / "runs").glob("*/spec.json") if path.parent.name.startswith(name)]
    if len(found) != 1:
        count = "No run's" if not found else f"{len(found)} runs'"
        raise UsageError(f"{count} id begins with '{name}'. `bench list runs` names them.")
    return found[0]


def _dry_run(spec: "Spec", place: "Place", options: argparse.Namespace) -> int:
    from benchmark import cost, data, run as runs  # noqa: PLC0415

    total, trainable = cost.parameters(cost.on_meta(spec))
    recipe = spec.recipe.config
    seconds = cost.step_seconds(spec, runs.build(spec).to(place.device), place.device)
    facts = {
        "id": spec.id, "parameters": total, "parameters_trainable": trainable, "forward_flops": cost.forward_flops(spec),
        "training_flops": 3 * cost.forward_flops(spec) * recipe.batch * recipe.steps,
        "training_memory_bytes": cost.training_memory_bytes(spec), "estimated_seconds": seconds * recipe.steps,
        "device": str(place.device), "data": data.status(data.packed_name(spec), place.home)[1],
        "attention": [layer.window or "global" for layer in spec.attention],
        "assumed": list(spec.assumed), "state": "finished" if runs.finished(spec, place) else "not finished",
    }
    if options.json:
        _print_json(facts | {"spec": spec.to_json()})
        return 0
    said = facts | {
        "parameters": f"{total:,}, {trainable:,} trainable", "forward_flops": f"{facts['forward_flops'] / 1e9:.3f} GFLOP an image",
        "training_flops": f"{facts['training_flops'] / 1e15:.3g} PFLOP", "training_memory_bytes": f"about {facts['training_memory_bytes'] / 2**30:.2f} GiB",
        "estimated_seconds": f"about {_duration(facts['estimated_seconds'])} of training on {place.device}, from a timed step of few images",
        "attention": " ".join(map(str, facts["attention"])) or "none that a layout addresses", "assumed": "\n".join(spec.assumed) or "nothing",
    }
    del said["parameters_trainable"]
    from benchmark.fields import to_json  # noqa: PLC0415

    rows = [(f"{axis}.{field}", str(value)) for axis in ("model", "layout", "dataset", "recipe")
            for field, value in [("name", getattr(spec, axis).name), *to_json(getattr(spec, axis).config).items()]]
    rows += [("subset", str(spec.subset)), ("seed", str(spec.seed))]
    _print_table("the spec", ("field", "value"), rows)
    _print_table("what it would cost", ("fact", "value"), [(key.replace("_", " "), str(value)) for key, value in said.items()])
    return 0


def _print_record(result: "Record", place: "Place", options: argparse.Namespace, status: str) -> None:
    from benchmark import record  # noqa: PLC0415

    published = record.path_of(place.records, result.row)
    path = place.home / "runs" / result.id / "record.json" if result.overrides else published
    if options.json:
        _print_json({"id": result.id, "status": status, "record": str(path), "psnr_train": result.psnr_train,
                     "psnr_test": result.psnr_test, "psnr_gap": result.psnr_gap, "weights_sha256": result.weights_sha256})
        return
    rows = [(str(p.step), f"{p.loss:.4f}", f"{p.psnr_train:.3f}", f"{p.psnr_test:.3f}", f"{p.psnr_gap:.3f}") for p in result.trajectory]
    score = (f"final, K={result.psnr.images_test}, {len(result.psnr.diffusion_steps)} diffusion steps", "",
             f"{result.psnr_train:.3f}", f"{result.psnr_test:.3f}", f"{result.psnr_gap:.3f}")
    title = f"{result.row.model} {result.row.layout} on {result.row.dataset}, N={result.row.subset}, seed {result.row.seed}"
    _print_table(title, ("step", "loss", "PSNR train, dB", "PSNR test, dB", "gap, dB"), [*rows, score])
    print(f"The record: {_near(path)}" + (" (not on the leaderboard, because of --set)" if result.overrides else ""))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _near(path: Path) -> str:
    """Return a path relative to the working directory where it lies below it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _print_table(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=escape(title), title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(escape(column), overflow="fold", no_wrap=column == columns[0])
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    _print(table)
    print()


def _print(*renderables: Any) -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    for renderable in renderables:
        console.print(renderable)
