"""A stock name stands for the images that are pinned under it: other images need a name of their own."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from benchmark.contract import Source
from benchmark.errors import UsageError
from benchmark.files import PROJECT
from benchmark.images import manifest
from benchmark.images.manifest import Manifest


def pinned(name: str, home: Path) -> Manifest | None:
    """Return the pin of a stock dataset: that of the home, else the one that the project ships; None where there is none."""
    return manifest.read(manifest.pin(home, name)) or manifest.read(manifest.pin(PROJECT, name))


def among(keep: Manifest, source: Source) -> Source:
    """Return the source with the pinned images alone, where it holds them all and others beside them."""
    if keep.ids is None or keep.limit is not None or not hasattr(source, "only"):
        return source
    wanted = {*keep.ids, *(one.id for one in keep.skipped)}
    chosen = [image_id for image_id in source.ids if image_id in wanted]
    return source.only(chosen) if len(chosen) == len(wanted) < len(source.ids) else source


def check_ids(keep: Manifest, ids: Sequence[str]) -> None:
    """Raise UsageError where a source has other images than the pinned ones, by their ids; those that were skipped aside."""
    skipped = {one.id for one in keep.skipped}
    kept = [image_id for image_id in ids if image_id not in skipped]
    if keep.ids_sha256:
        same = hashlib.sha256(manifest.encoded_ids(kept)).hexdigest() == keep.ids_sha256
    else:
        same = kept == list(keep.ids or map(str, range(keep.count)))
    if not same:
        raise UsageError(_refusal(keep, f"there are {len(kept):,} in the folder, by other names"))


def check_images(keep: Manifest, made: Manifest) -> None:
    """Raise UsageError where packed images are not the pinned ones."""
    if not keep.same_images(made):
        raise UsageError(_refusal(keep, f"those in the folder have the sha256 {made.sha256[:12]}"))


def _refusal(keep: Manifest, found: str) -> str:
    name = keep.name
    begin = f"The name '{name}' stands for the {keep.count:,} images pinned in data/{name}.json (sha256 {keep.sha256[:12]})"
    if keep.embedded:
        return (
            f"{begin}, and this version of the code generates others. `keep=None` pins these; records of '{name}' then compare with none."
        )
    return (
        f"{begin}, and every record of it is of those; {found}. Nothing was changed. Give yours a name of their own: "
        "`benchmark.contributing.new.write('dataset', 'my_photos', template=FOLDER, root=DIR)`, then "
        f"{manifest.adding('my_photos')}, with that folder as `registry=[DIR]`. `keep=None` pins them under "
        f"'{name}' all the same; no record of '{name}' compares with yours then."
    )
