"""Which row: the flags that name it, and the spec that they stand for."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.commands.flags import half_flag
from benchmark.declaring import registry
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from benchmark.declaring.spec import Half, Spec


@dataclass(frozen=True)
class RowOptions:
    """A row as it was typed: by its names, or by a record of it."""

    model: str | None
    layout: str | None
    dataset: str | None
    recipe: str
    subset: int | None
    seed: int
    overrides: tuple[str, ...]
    registry: tuple[Path, ...]
    half: "Half | None" = None
    record: Path | None = None

    @property
    def named(self) -> str:
        """The row in the words that were typed."""
        if self.record:
            return str(self.record)
        return f"{' '.join(filter(None, (self.model, self.layout, 'on' if self.dataset else '', self.dataset)))}, recipe {self.recipe}"


def row_flags(parser: argparse.ArgumentParser) -> None:
    """Add what names a row: the axes, --subset, --seed, --half, --recipe, --set, --record."""
    for axis, text in (("model", "network"), ("layout", "attention layout"), ("dataset", "images")):
        parser.add_argument(f"--{axis}", metavar="NAME", help=f"{text}: a name from `bench list {axis}s`")
    parser.add_argument(
        "--subset", type=int, metavar="N", help="training images (default: what the recipe is made for, as `bench list recipes` says)"
    )
    parser.add_argument("--seed", type=int, metavar="K", default=0, help="shuffle, initialisation and noise (default: 0)")
    half_flag(parser)
    parser.add_argument("--recipe", metavar="NAME", default="paper", help="budget and evaluation (default: paper)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="AXIS.FIELD=VALUE",
        dest="overrides",
        help="change one field for this run; such a run is kept out of the leaderboard",
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="run what this record describes, instead of naming it")


def row_of(options: argparse.Namespace) -> RowOptions:
    """Return the row that was typed."""
    return RowOptions(**_shared(options), half=options.half, record=options.record)


def row_elsewhere(options: argparse.Namespace) -> RowOptions:
    """Return the row that weights from elsewhere are scored as: of the whole pool, by its names."""
    return RowOptions(**_shared(options))


def spec_of(row: RowOptions) -> "Spec":
    """Return the spec of a row; say what is missing, and what there is."""
    from benchmark.declaring import spec
    from benchmark.recording import record

    search = registry.roots(row.registry)
    if row.record:
        if row.model or row.layout or row.dataset or row.overrides:
            raise UsageError("--record says what to run; --model, --layout, --dataset and --set cannot stand beside it.")
        stored = record.read(row.record)
        if "steps" not in stored.spec["recipe"]["config"]:
            raise UsageError(f"{row.record} is of a network trained elsewhere: there is no recipe to run.")
        return spec.from_record(stored.spec, overrides=stored.overrides, assumed=stored.assumed, search=search)
    names = {axis: getattr(row, axis) for axis in ("model", "layout", "dataset", "recipe")}
    if missing := [axis for axis, name in names.items() if not name]:
        known = ", ".join(registry.entries(missing[0], search))
        raise UsageError(
            f"--{missing[0]} is missing. There is: {known}. For example: bench run --model dit_mini "
            "--layout local_3x3_head --dataset dead_leaves8 --subset 16 --recipe mini"
        )
    return spec.resolve(names, subset=row.subset, seed=row.seed, half=row.half, overrides=row.overrides, search=search)


def _shared(options: argparse.Namespace) -> dict[str, Any]:
    names = {name: getattr(options, name) for name in ("model", "layout", "dataset", "recipe", "subset", "seed")}
    return names | {"overrides": tuple(options.overrides), "registry": tuple(options.registry)}
