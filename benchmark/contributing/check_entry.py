"""The contract of an entry, rule by rule: of every entry, and of a layout, a dataset and a suite; a backbone's is a module of its own."""

from pathlib import Path
from typing import Any

from benchmark.contract import Attention, Entry
from benchmark.contributing.check_record import Rules
from benchmark.contributing.new import UNSAID
from benchmark.declaring import registry
from benchmark.declaring.entries import fault, load
from benchmark.declaring.suite import Suite
from benchmark.errors import BenchError, NotRun, UsageError, unknown


def rules_of_text(path: Path) -> Rules:
    """Yield what can be said of an entry from its text alone; nothing of it is run."""

    def reads() -> str:
        axis = _axis(path)
        if axis is None:
            raise UsageError(_no_axis(path))
        if why := fault(registry.read(axis, path)):
            raise BenchError(why)
        return "its text and that of its module; nothing was run"

    yield "reads", reads


def _axis(path: Path) -> str | None:
    return {folder: axis for axis, folder in registry.FOLDERS.items()}.get(path.resolve().parent.name)


def _no_axis(path: Path) -> str:
    return f"its folder '{path.resolve().parent.name}' is no axis. There is: {', '.join(registry.FOLDERS.values())}."


def rules(path: Path, search: tuple[Path, ...], light: bool, compiled: bool, home: Path) -> Rules:
    """Yield the rules of every entry, then, once it is loaded, those of its axis."""
    axis = _axis(path)
    loaded: list[Entry] = []

    def described() -> str:
        if axis is None:
            raise UsageError(_no_axis(path))
        if not (said := registry.read(axis, path).description):
            raise UsageError("its first line is no comment: that line is the description that every list of entries prints.")
        if UNSAID in said:
            raise NotRun("its first line is still the template's: say there in a few words what it is, for every list of entries")
        return said

    def loads() -> str:
        assert axis is not None  # asked for only then
        loaded.append(load(registry.read(axis, path)))
        return loaded[0].kind

    yield "described", described
    if axis is None:
        return
    yield "loads", loads
    if loaded:
        yield "documented", lambda: _documented(type(loaded[0].config))
        yield from _axis_rules(axis, loaded[0], search, light, compiled, home)


def _axis_rules(axis: str, entry: Entry, search: tuple[Path, ...], light: bool, compiled: bool, home: Path) -> Rules:
    config = entry.config
    if axis == "model":
        from benchmark.contributing import check_backbone

        yield from check_backbone.rules(config, light=light, compiled=compiled)
    elif axis == "layout":
        yield "places", lambda: check_layout(config)
    elif axis == "dataset":
        yield "declares", lambda: check_declared(config)
        yield "images", lambda: check_images(config)
        yield "enough", lambda: check_enough(entry.name, config, home)
    elif axis == "suite":
        yield "rows", lambda: check_suite(config, search)


def _documented(kind: type) -> str:
    said = kind.__doc__ or ""
    if not said.strip() or said.startswith(f"{kind.__name__}("):  # what dataclass writes where there is none
        raise BenchError(f"the class {kind.__name__} has no docstring: one line that says what it is.")
    return said.strip().splitlines()[0]


def check_layout(config: Any) -> str:
    """Raise BenchError where a layout does not give one Attention per layer of a backbone that is deep enough."""
    placed = config.place(64)
    if len(placed) != 64 or not all(isinstance(layer, Attention) for layer in placed):
        raise BenchError(f"place(64) returns {len(placed)} layers; it must return one Attention for each.")
    if config.place(64) != placed:
        raise BenchError("place(64) returns something else the second time.")
    rules = [layer.window or type(layer.pattern).__name__ for layer in placed if layer.local]
    return f"{len(rules)} local layers of 64, windows {', '.join(map(str, rules)) or 'none'}"


def check_declared(config: Any) -> str:
    """Raise BenchError where a dataset declares images that no backbone takes."""
    if config.channels not in (1, 3) or config.resolution < 1:
        raise BenchError(f"{config.channels} channels at {config.resolution} pixels; 1 or 3 channels and at least 1 pixel are needed.")
    return f"{config.channels}x{config.resolution}x{config.resolution}, preprocessing '{config.preprocessing}'"


def check_images(config: Any) -> str:
    """Raise BenchError where an embedded dataset is not stable, or an image of it is not what it declares."""
    if not config.embedded:
        raise NotRun("its images come from a folder: `benchmark.images.datasets.add(...)` reads them")
    if (of := getattr(config, "of", None)) and not of.config.embedded:
        raise NotRun(f"its images are made from those of '{of.name}', which come from a folder")
    source, again = config.open(None), config.open(None)
    if list(source.ids) != list(again.ids) or source.fingerprint != again.fingerprint:
        raise BenchError("opened twice, it has other ids or another fingerprint.")
    if len(set(source.ids)) != len(source.ids) or not all(isinstance(name, str) for name in source.ids):
        raise BenchError("its ids must be text, each once.")
    wanted = (config.channels, config.resolution, config.resolution)
    for name in (source.ids[0], source.ids[-1]):
        image, second = source.read(name), again.read(name)
        if image.shape != wanted or image.dtype.name != "uint8":
            raise BenchError(f"read returns {image.shape} {image.dtype.name}; {wanted} uint8 is declared.")
        if (image != second).any():
            raise BenchError(f"image {name} has other bytes the second time.")
    return f"{len(source.ids):,} images, the same when read twice"


def check_enough(name: str, config: Any, home: Path) -> str:
    """Raise BenchError where a dataset has too few images to hold some out and train on the rest."""
    from benchmark.images import enough
    from benchmark.images.loading import packed_here

    if of := getattr(config, "of", None):  # made from as many images of another one
        return check_enough(of.name, of.config, home)
    here = None if config.embedded else packed_here(name, home)
    if here is None and not config.embedded:
        raise NotRun(f"its images are not here; {enough.least(config)}")
    count = here.count if here else len(config.open(None).ids)
    if said := enough.too_few(count, config):
        raise BenchError(said)
    return f"{count:,} images, {enough.held_out(config)} of them for testing"


def check_suite(config: Suite, search: tuple[Path, ...]) -> str:
    """Raise BenchError where a row of a suite names something that does not exist."""
    rows = list(config.rows())
    for axis in ("model", "layout", "dataset", "recipe"):
        known = registry.entries(axis, search)
        for name in {getattr(row, axis) for row in rows} - known.keys():
            raise unknown(axis, name, known)
    return f"{len(rows)} rows"
