"""A finished run by whatever names it: its record, and the place where its weights are."""

from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.recording import record
from benchmark.recording.record import Record
from benchmark.running.place import Place, here


@dataclass(frozen=True)
class Finished:
    """A run's record, and the place that holds runs/<its id>/."""

    record: Record
    place: Place


def find(run: str | Path | Record, device: str = "auto") -> Finished:
    """Return the finished run of that id, first digits of an id, folder, record or record's file.

    Raise UsageError where there is no such run, or where its record is here and its weights are not.
    """
    place = here(device)
    if isinstance(run, Record):
        return _with_weights(run, place)
    path = Path(run)
    if path.is_file():
        stored = record.read(path)
        return _with_weights(stored, _place_of(path.parent, place) if path.name == "record.json" else place)
    if path.is_dir():
        if not (path / "record.json").exists():
            raise UsageError(f"{path} is not the folder of a finished run: it holds no record.json.")
        return _with_weights(record.read(path / "record.json"), _place_of(path, place))
    return _with_weights(_by_id(str(run), place), place)


def _by_id(name: str, place: Place) -> Record:
    """Return the one record, of the run folders or of the leaderboard, whose id begins with `name`."""
    here = [record.read(path) for path in (place.home / "runs").glob("*/record.json") if path.parent.name.startswith(name)]
    found = {one.id: one for one in [*here, *(one for one in record.read_all(place.records) if one.id.startswith(name))]}
    if not name or len(found) != 1:
        count = "No finished run's" if not found else f"{len(found)} runs'"
        raise UsageError(f"{count} id begins with '{name}'. `benchmark.records()` names the runs that have a record.")
    return next(iter(found.values()))


def _place_of(folder: Path, place: Place) -> Place:
    """Return the place that a run's folder belongs to: HOME/runs/<id>."""
    return replace(place, home=folder.resolve().parents[1])


def _with_weights(stored: Record, place: Place) -> Finished:
    """Refuse a record whose weights are not here, and say how to train it; what is fitted in closed form has none to keep."""
    kept = stored.training.steps > 0 or _elsewhere(stored)
    if kept and not any((place.home / "runs" / stored.id / "checkpoints").glob("*")):
        raise UsageError(_untrained(stored))
    return Finished(stored, place)


def _untrained(stored: Record) -> str:
    row = stored.row
    begin = (
        f"The weights of the run {stored.id} ({row.model} {row.layout} on {row.dataset}, N={row.subset}, seed {row.seed}) are not here: "
        "its record holds numbers alone."
    )
    if _elsewhere(stored):
        return f"{begin} They were trained elsewhere, and nothing here can train them."
    names = ", ".join(f"{axis}={getattr(row, axis)!r}" for axis in ("model", "layout", "dataset", "recipe", "subset", "seed"))
    half = f", half={stored.half!r}" if stored.half else ""
    overrides = f", overrides={list(stored.overrides)!r}" if stored.overrides else ""
    return f"{begin} This trains it: `benchmark.run(benchmark.resolve({names}{half}{overrides}), force=True)`"


def _elsewhere(stored: Record) -> bool:
    """Tell whether a record is of weights from elsewhere: its recipe has no steps of training."""
    return "steps" not in stored.spec["recipe"]["config"]
