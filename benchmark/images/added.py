"""What became of adding images, and how it is said: what was taken, what was left out and why, what is no longer as it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmark.contract import Dataset, LeftOut, Source
from benchmark.images import manifest
from benchmark.images.enough import too_few
from benchmark.images.manifest import Manifest


@dataclass(frozen=True)
class Added:
    """What `add` did: packed images for the first time, again with other or with equal bytes, or had nothing to do."""

    manifest: Manifest
    outcome: Literal["new", "changed", "restored", "unchanged"]
    sentence: str
    left_out: tuple[LeftOut, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the outcome, what was left out, and the facts of the manifest as plain JSON."""
        left_out = [{"reason": one.reason, "count": one.count, "first": list(one.first)} for one in self.left_out]
        return {"outcome": self.outcome} | manifest.facts(self.manifest) | {"taken": self.manifest.count, "left_out": left_out}


def unchanged(here: Manifest, remarks: str, left_out: tuple[LeftOut, ...]) -> Added:
    """Return that there was nothing to do."""
    said = (
        f"{here.name}: nothing to do. Its {here.count:,} images are packed, no file's path or size has changed, nor the content of "
        f"those looked at, and every byte is as pinned. To pack anew, remove packed/{here.name}."
    )
    return Added(here, "unchanged", said + remarks, left_out)


def packed(made: Manifest, before: Manifest | None, remarks: str, left_out: tuple[LeftOut, ...]) -> Added:
    """Return what became of a packing, beside what was pinned or packed before it."""
    said = f"{made.name}: packed {made.count:,} images of {made.resolution}x{made.resolution}"
    if before is None:
        pinned = f"sha256 {made.sha256[:12]}, pinned in data/{made.name}.json"
        return Added(made, "new", f"{said}, {pinned}.{remarks}", left_out)
    if before.same_images(made):
        return Added(made, "restored", f"{said}, the same bytes as before.{remarks}", left_out)
    change = f"it had {before.count:,} images, sha256 {before.sha256[:12]}, and has sha256 {made.sha256[:12]} now"
    if before.sha256 == made.sha256:
        change = "its bytes are the same and its ids are others, so that its subsets are too (was `root=...` the folder of before?)"
    return Added(made, "changed", f"{said}, a new version: {change}. Results on the two are not comparable.{remarks}", left_out)


def counted(taken: int, left_out: Sequence[LeftOut]) -> str:
    """Say how many images were taken, and how much was left out for which reason."""
    if not left_out:
        return f" Taken: {taken:,}; left out: nothing."
    return f" Taken: {taken:,}; left out: {sum(one.count for one in left_out):,} ({'; '.join(map(reason, left_out))})."


def remarks(made: Manifest, dataset: Dataset, source: Source, left_out: Sequence[LeftOut]) -> str:
    """Return what follows the first sentence: counts, another distribution, too few images."""
    few = too_few(made.count, dataset)
    return counted(made.count, left_out) + _unlike_official(dataset, source) + (f" {few}" if few else "")


def reason(one: LeftOut) -> str:
    """Say how many were left out for one reason, and the first of them."""
    more = ", …" if one.count > len(one.first) else ""
    return f"{one.count:,} {one.reason}: {', '.join(one.first)}{more}"


def _unlike_official(dataset: Dataset, source: Source) -> str:
    """Say where a source is not the official distribution of the dataset, or has more or fewer images."""
    said, official, found = "", getattr(dataset, "official_count", None), len(source.ids)
    if distribution := getattr(source, "distribution", None):
        said += f" They were read from {distribution}, not from the official distribution: the manifest says so, and subsets may differ."
    if official not in (None, found):
        said += (
            f" The source has {found:,} images, the official distribution {official:,}: results are comparable with those on "
            "the same images alone (`benchmark.images.datasets.facts(...)` has their sha256)."
        )
    return said
