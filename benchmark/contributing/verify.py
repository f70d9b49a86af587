"""Is a record true? Four rising levels, each stating what it proves; foreign code runs from the second on.

Runs of the fourth level lie under build/verify/, apart from the project's runs and records; a killed one resumes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from torch import nn

from benchmark import run
from benchmark.contributing import check_record
from benchmark.contributing.check import check_entry
from benchmark.declaring import registry
from benchmark.declaring.equivalence import OtherCode
from benchmark.declaring.spec import AXES, Spec, from_record, resolve
from benchmark.errors import BenchError, NotRun
from benchmark.networks.cost import forward_flops, on_meta, parameters
from benchmark.networks.weights import fill, fitted
from benchmark.networks.weights_file import read
from benchmark.recording import record
from benchmark.recording.agreement import RESCORED, TOLERANCE, curve_differences, differences
from benchmark.recording.levels import LEVELS, LevelName
from benchmark.recording.record import Record
from benchmark.recording.verification import Level, Verification, digest
from benchmark.running import environment
from benchmark.running.place import Place
from benchmark.running.progress import Display
from benchmark.scoring.result import score
from benchmark.training.checkpoint import weights_digest

MINUTES = 30.0  # a row whose record says that it took longer is not trained again, unless that is asked for


@dataclass(frozen=True)
class Aside(Place):
    """A place whose runs lie apart, so that no run of the user's is taken for the proof of another."""

    def folder(self, spec: Spec) -> Path:
        """Return the folder of a run that proves something."""
        return self.home / "build" / "verify" / "runs" / spec.id


@dataclass(frozen=True)
class Bench:
    """Where and with what a record is verified."""

    place: Place  # of the user's runs: a record's own weights may lie there
    search: tuple[Path, ...]
    weights: Path | None = None
    minutes: float = MINUTES
    up_to: LevelName = "retrained"

    @property
    def aside(self) -> Aside:
        """The place of the runs that prove something."""
        fields = vars(self.place) | {"records": self.place.home / "build" / "verify" / "records"}
        return Aside(**fields)


def verify(path: Path, bench: Bench, display: Display) -> tuple[Record | None, Verification | None, list[Level]]:
    """Take the record at `path` up the levels, and stop at the first that does not hold.

    Return the record, None where it cannot be read, with its verification and the levels.
    """
    levels: list[Level] = []
    made: list[Record] = []
    steps: dict[LevelName, Callable[[], str]] = {
        "reported": lambda: _reported(path, bench, made),
        "rebuilt": lambda: _rebuilt(made[0], bench),
        "re-scored": lambda: _rescored(made[0], bench, display),
        "retrained": lambda: _retrained(made[0], bench, display),
    }
    stopped = ""
    for name in LEVELS:
        asked = LEVELS.index(name) <= LEVELS.index(bench.up_to)
        levels.append(_level(name, steps[name], stopped or ("" if asked else f"not asked for: `up_to={bench.up_to!r}`")))
        if levels[-1].outcome == "failed":
            stopped = f"{name} does not hold"
    if not made:
        return None, None, levels
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = Verification(schema=1, record_sha256=digest(made[0]), levels=tuple(levels), environment=environment.describe(), created=now)
    return made[0], told, levels


def _level(name: LevelName, prove: Callable[[], str], why_not: str) -> Level:
    if why_not:
        return Level(name=name, outcome="not run", note=why_not)
    try:
        return Level(name=name, outcome="ok", note=prove())
    except NotRun as reason:
        return Level(name=name, outcome="not run", note=str(reason))
    except BenchError as problem:
        return Level(name=name, outcome="failed", note=str(problem))
    except Exception as problem:  # an entry's own code may raise anything
        return Level(name=name, outcome="failed", note=f"{type(problem).__name__}: {problem}")


def _reported(path: Path, bench: Bench, made: list[Record]) -> str:
    one = record.read(path)
    made.append(one)
    if one.overrides:
        raise BenchError(f"It was changed by overrides ({', '.join(one.overrides)}): such a run has no row.")
    known = check_record.Known(bench.search, bench.place.home)
    notes = [
        _noted(check_record.check_images, one, known),
        _noted(check_record.check_code, known.standing(one)),
        _noted(check_record.check_errors, one, path),
    ]
    return "; ".join(["the record agrees with itself and the schema", *notes])


def _noted(rule: Callable[..., str], *words: object) -> str:
    try:
        return rule(*words)
    except NotRun as reason:
        return str(reason)


def _rebuilt(made: Record, bench: Bench) -> str:
    spec = _spec(made, bench)
    for axis in AXES:
        file = registry.find(axis, getattr(made.row, axis), bench.search)
        if registry.STOCK not in file.path.parents:
            check_entry(file.path, bench.search)
    total, trainable = parameters(on_meta(spec))
    flops = forward_flops(spec)
    said = (made.training.parameters, made.training.parameters_trainable, made.training.forward_flops)
    if (total, trainable, flops) != said:
        raise BenchError(
            f"The entry builds {total:,} parameters ({trainable:,} trainable) and {flops:,} FLOPs; the record says "
            f"{said[0]:,} ({said[1]:,}) and {said[2]:,}."
        )
    return f"{total:,} parameters, {flops:,} FLOPs a forward pass"


def _rescored(made: Record, bench: Bench, display: Display) -> str:
    spec = _spec(made, bench)
    subset = run.load_subset(spec, bench.place, display)
    for what, ours, theirs in (
        ("training images", subset.digest, made.data.train_sha256),
        ("test images", subset.test_digest, made.data.test_sha256),
        ("labels", subset.labels_digest, made.data.labels_sha256),
    ):
        if ours != theirs:
            raise BenchError(f"The {what} of the record are {str(theirs)[:12]}; the dataset and the seed give {str(ours)[:12]}.")
    network = _network(spec, made, bench, display)
    if weights_digest(network.state_dict()) != made.weights_sha256:
        raise BenchError(f"The weights are not those of the record ({made.weights_sha256[:12]}).")
    fresh = score(spec, bench.place, display, network, subset).measured
    problems = curve_differences(made.psnr, fresh.psnr)
    if made.unlabelled and fresh.unlabelled:
        problems += [f"without labels, {one}" for one in curve_differences(made.unlabelled.psnr, fresh.unlabelled.psnr)]
    if (made.unlabelled is None) != (fresh.unlabelled is None):
        problems.append("one of the two has numbers without labels, the other none")
    if problems:
        raise BenchError("The weights give other curves: " + "; ".join(problems))
    return f"every point of every curve within {RESCORED} dB"


def _network(spec: Spec, made: Record, bench: Bench, display: Display) -> nn.Module:
    """Return the record's network from a file of weights, else from the run that made it."""
    if bench.weights:
        network = run.build(spec).to(bench.place.device)
        given = fitted(read(bench.weights).weights, network.state_dict(), spec.images.channels, bench.weights).weights
        fill(network, given, bench.weights, spec.model.name)
        return network.eval()
    if not hasattr(run.build(spec), "fit") and not (bench.place.folder(spec) / "checkpoints").is_dir():
        raise NotRun("no weights are here: `weights_file=FILE` names them (safetensors)")
    return run.trained_network(spec, bench.place, display, None, made.weights_sha256)


def _retrained(made: Record, bench: Bench, display: Display) -> str:
    took = made.training.wall_seconds / 60
    if took > bench.minutes:
        raise NotRun(f"it took {took:,.0f} minutes there, and `minutes={bench.minutes:g}` is less")
    spec = _spec(made, bench)
    try:
        fresh = run.run(spec, bench.aside, display)
    except OtherCode:  # what is left of an earlier proof
        fresh = run.run(spec, bench.aside, display, force=True)
    if problems := [*differences(made, fresh, TOLERANCE)]:
        raise BenchError("Trained again it gives another record: " + "; ".join(problems))
    if fresh.weights_sha256 == made.weights_sha256:
        if problems := curve_differences(made.psnr, fresh.psnr):
            raise BenchError("Trained again it has the same weights and other curves: " + "; ".join(problems))
        return "the same weights, bit by bit"
    if _same_machine(made, fresh) and spec.same_numbers(made.code):
        raise BenchError(
            f"Trained again on the same kind of processor ({fresh.environment.processor}), by the same code, it has other weights "
            f"({fresh.weights_sha256[:12]}, not {made.weights_sha256[:12]})."
        )
    return f"within {TOLERANCE} dB of the gap, on {fresh.environment.processor} (recorded on {made.environment.processor})"


def _same_machine(one: Record, other: Record) -> bool:
    """Whether two records were made where the same code gives the same bits: processor, torch, threads, processes."""
    here, there = (
        (r.environment.processor, r.environment.torch, r.training.device, r.training.threads, r.training.processes, r.training.micro_batch)
        for r in (one, other)
    )
    return here == there and not (one.training.resumed or other.training.resumed)


def _spec(made: Record, bench: Bench) -> Spec:
    """Return the spec that the registry gives the record's row; it must be what was run."""
    row = made.row
    names = {axis: getattr(row, axis) for axis in AXES}
    spec = resolve(names, subset=row.subset, seed=row.seed, search=bench.search)
    if not spec.describes(made.spec):
        from_record(made.spec, search=bench.search)  # says what is not here, if that is it
        raise BenchError(f"The registry gives the row {spec.title} another configuration than the record has.")
    return spec


def problems(levels: Sequence[Level]) -> list[str]:
    """Return what does not hold, in words."""
    return [f"{level.name}: {level.note}" for level in levels if level.outcome == "failed"]
