"""What a dataset takes on the disk, what it is used by, and its removal."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.declaring import registry
from benchmark.declaring.entries import load, load_suite
from benchmark.errors import BenchError, UsageError
from benchmark.files import PROJECT
from benchmark.images import manifest
from benchmark.images.loading import lock
from benchmark.running import description


@dataclass(frozen=True)
class Uses:
    """Suites with a row on a dataset, records and runs of it, and datasets that are made from it."""

    suites: tuple[str, ...]
    records: int
    runs: int
    datasets: tuple[str, ...]

    def __str__(self) -> str:
        named = [f"{what} {', '.join(names)}" for what, names in (("suites", self.suites), ("made into", self.datasets)) if names]
        counted = [
            f"{count:,} {what}{'' if count == 1 else 's'}" for what, count in (("record", self.records), ("run", self.runs)) if count
        ]
        return "; ".join(named + counted)

    def to_json(self) -> dict[str, Any]:
        """Return them as plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Removed:
    """What was removed: how many bytes, and what was left."""

    name: str
    bytes: int
    kept: tuple[str, ...]
    sentence: str


def bytes_of(name: str, home: Path) -> int:
    """Return the bytes that packed/<name>/ takes, 0 where it is not there; what a stopped packing left counts too."""
    return sum(path.stat().st_size for path in manifest.packed_folder(home, name).glob("*") if path.is_file())


def size_of(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:,.{0 if count >= 100 * factor else 1}f} {unit}"
    return f"{count} bytes"


def uses(home: Path, search: Sequence[Path] = (registry.STOCK,)) -> dict[str, Uses]:
    """Return what uses each dataset, by its name: of the suites of the registries, the records and the runs of a home."""
    roots = tuple(search)
    suites: dict[str, set[str]] = {}
    for suite in registry.entries("suite", roots):
        for row in load_suite(suite, roots).rows():
            suites.setdefault(row.dataset, set()).add(suite)
    made: dict[str, set[str]] = {}
    names = registry.entries("dataset", roots)
    for name, file in names.items():
        if of := getattr(load(file).config, "of", None):
            made.setdefault(of.name, set()).add(name)
    records = [path.parent.name for path in (home / "leaderboard" / "records").glob("*/*/*.json")]
    runs = [_dataset_of(path.parent) for path in (home / "runs").glob(f"*/{description.FILE}")]
    return {
        name: Uses(tuple(sorted(suites.get(name, ()))), records.count(name), runs.count(name), tuple(sorted(made.get(name, ()))))
        for name in {*names, *suites, *records, *filter(None, runs)}
    }


def remove(name: str, home: Path, search: Sequence[Path] = (registry.STOCK,), *, force: bool = False) -> Removed:
    """Remove packed/<name>/, what a stopped packing left included; pins and DVC's files stay.

    Raise UsageError where there is nothing, or where something needs the images and `force` is not given.
    """
    folder = manifest.packed_folder(home, name)
    if not folder.is_dir():
        raise UsageError(f"There are no packed images of '{name}' here. `benchmark.images.datasets.packed_names(...)` lists what there is.")
    pins = [path for path in (manifest.pin(home, name), folder.with_name(f"{name}.dvc")) if path.is_file()]
    if not force and (reasons := _reasons(name, home, tuple(search), pins)):
        raise UsageError(
            f"The images of '{name}' are {' and '.join(reasons)}. Nothing was removed. `force=True` removes the packed images all the same."
        )
    freed = bytes_of(name, home)
    with lock(home, name):
        try:
            shutil.rmtree(folder)
        except OSError as problem:
            raise BenchError(f"{problem.filename} cannot be removed: {problem.strerror}. Make it writable, then run again.") from None
    kept = tuple(str(path.relative_to(home)) for path in pins)
    return Removed(name, freed, kept, _sentence(name, freed, kept))


def _reasons(name: str, home: Path, search: tuple[Path, ...], pins: Sequence[Path]) -> list[str]:
    used = uses(home, search).get(name)
    committed = [path for path in (*pins, manifest.pin(PROJECT, name)) if path.is_file()]
    said = [f"pinned in {'data' if path.suffix == '.json' else 'packed'}/{path.name}" for path in committed[:1]]
    return said + ([f"used by {used}"] if used and str(used) else [])


def _sentence(name: str, freed: int, kept: Sequence[str]) -> str:
    stay = f" {' and '.join(kept)} stay{'s' if len(kept) == 1 else ''}: the same images can come back." if kept else ""
    return (
        f"Removed packed/{name}: {size_of(freed)}.{stay} {manifest.adding(name)} packs them again; generated ones come back by themselves."
    )


def _dataset_of(folder: Path) -> str | None:
    """Return the dataset of a run, None where a run that was cut off does not say."""
    try:
        return str(description.read(folder)["spec"]["dataset"]["name"])
    except description.Damaged:
        return None
