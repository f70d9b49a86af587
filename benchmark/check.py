"""The contract of an entry and of a record: what the tests hold every one to, and `bench check` a stranger's."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmark import record, registry
from benchmark.contract import ImageShape
from benchmark.errors import BenchError, UsageError
from benchmark.fields import FieldError
from benchmark.spec import load
from benchmark.suite import Suite

SMALL = ImageShape(channels=3, resolution=8)  # what a backbone is tried on


class Verdict(NamedTuple):
    """What is wrong with a file, or None."""

    path: Path
    problem: str | None


def check(paths: list[Path], search: tuple[Path, ...]) -> list[Verdict]:
    """Hold every record (.json) and entry (.gin) among `paths`, folders included, to its contract."""
    return [Verdict(path, _problem(path, root, search)) for path, root in _files(paths)]


def check_entry(path: Path, search: tuple[Path, ...]) -> None:
    """Raise BenchError where an entry does not keep the contract of its axis."""
    axes = {folder: axis for axis, folder in registry.FOLDERS.items()}
    axis = axes.get(path.parent.name)
    if axis is None:
        raise UsageError(f"its folder '{path.parent.name}' is no axis. There is: {', '.join(axes)}.")
    file = registry.read(axis, path)
    if not file.description:
        raise UsageError("its first line is no comment: `bench list` prints that line as the description.")
    config = load(file).config
    rules: dict[str, Callable[[Any], None]] = {
        "model": check_backbone, "layout": check_layout, "dataset": check_dataset, "suite": lambda s: check_suite(s, search),
    }
    rules.get(axis, lambda config: None)(config)


def check_backbone(config: Any) -> None:
    """Raise BenchError where a backbone does not build on meta or does not keep the shape of its input."""
    import torch  # noqa: PLC0415  checking records must not cost this import

    from benchmark.contract import Attention  # noqa: PLC0415

    attention = tuple(Attention(window=3) for _ in range(config.attention_layers))
    with torch.device("meta"):
        network = config.build(SMALL, attention)
        x = torch.zeros(2, SMALL.channels, SMALL.resolution, SMALL.resolution)
        y = torch.zeros(2, dtype=torch.long) if getattr(config, "num_classes", 0) else None
        out = network(x, torch.zeros(2, dtype=torch.long), y)
    if out.shape != x.shape or out.dtype != x.dtype:
        raise BenchError(f"forward returns {tuple(out.shape)} {out.dtype} for {tuple(x.shape)} {x.dtype}; both must be equal.")


def check_layout(config: Any) -> None:
    """Raise BenchError where a layout does not give one Attention per layer of a backbone that is deep enough."""
    placed = config.place(64)
    if len(placed) != 64:
        raise BenchError(f"place(64) returns {len(placed)} layers; it must return one Attention for each.")


def check_dataset(config: Any) -> None:
    """Raise BenchError where a dataset declares images that no backbone takes, or an embedded one cannot be read."""
    if config.channels not in (1, 3) or config.resolution < 1:
        raise BenchError(f"{config.channels} channels at {config.resolution} pixels; 1 or 3 channels and at least 1 pixel are needed.")
    if config.embedded:
        source = config.open(None)
        image = source.read(source.ids[0])
        wanted = (config.channels, config.resolution, config.resolution)
        if image.shape != wanted or image.dtype.name != "uint8":
            raise BenchError(f"read returns {image.shape} {image.dtype.name}; {wanted} uint8 is declared.")


def check_suite(config: Suite, search: tuple[Path, ...]) -> None:
    """Raise BenchError where a row of a suite names something that does not exist."""
    for row in config.rows():
        for axis in ("model", "layout", "dataset", "recipe"):
            registry.find(axis, getattr(row, axis), search)


def _files(paths: list[Path]) -> Iterator[tuple[Path, Path | None]]:
    """Yield every file to check, and the folder of records that it was found under."""
    for path in paths:
        if path.is_dir():
            yield from ((file, path) for file in sorted(path.rglob("*.json")) if "published" not in file.parts)
            yield from ((file, None) for file in sorted(path.rglob("*.gin")))
        elif path.suffix in (".json", ".gin") and path.exists():
            yield path, None
        elif path.suffix in (".json", ".gin"):
            raise UsageError(f"There is no file {path}.")
        else:
            raise UsageError(f"{path} is neither a record (.json), an entry (.gin) nor a folder of them.")


def _problem(path: Path, root: Path | None, search: tuple[Path, ...]) -> str | None:
    try:
        if path.suffix == ".gin":
            check_entry(path, search)
        else:
            result = record.read(path)
            if root and path != record.path_of(root, result.row):
                return f"its path must be its key: {record.path_of(root, result.row)}"
    except (BenchError, FieldError) as problem:
        return str(problem)
    except Exception as problem:  # an entry's own code may raise anything; the file is named and the others are checked
        return f"{type(problem).__name__}: {problem}"
    return None
