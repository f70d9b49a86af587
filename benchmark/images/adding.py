"""A folder of images to packed and pinned ones, once: what is taken, and whether anything changed since."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmark.contract import Dataset, Derived, ImageError, LeftOut, Source
from benchmark.errors import UsageError
from benchmark.images import labels, manifest, stock
from benchmark.images.added import Added, packed, reason, remarks, unchanged
from benchmark.images.distributions import sentence
from benchmark.images.loading import lock, opened, packed_here, verify
from benchmark.images.manifest import Manifest
from benchmark.images.packing import Note, Progress, open_images, pack
from benchmark.images.partial import discard
from benchmark.images.reading import read, read_all
from benchmark.images.subsets import order

SMALL_SHARE = 0.01  # of what lies there: more that is left out unexpectedly must be accepted
LOOKED_AT = 500  # images last changed, and as many others, whose content is compared where paths and sizes are the same
NAMED = 5  # images that differ, in a sentence


def add(
    name: str,
    dataset: Dataset,
    *,
    home: Path,
    root: Path | None,
    skip_corrupt: bool = False,
    accept: bool = False,
    limit: int | None = None,
    resolution: int | None = None,
    keep: Manifest | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Added:
    """Pack the images of a dataset and pin them in data/<name>.json; do nothing where both are there already.

    The source is compared by the path and size of every file and the content of some, those last changed first.
    `limit` takes that many images, chosen by their hash. More than SMALL_SHARE left out must be accepted.
    `resolution` is the entry's to fix: another one is refused. A packing that was stopped goes on where it was.
    Where `keep` is given, those of its images are taken that a larger source holds; raise UsageError on others, and change nothing.
    """
    _check_request(name, dataset, root, limit, resolution)
    if note and root:
        note(f"Looking through {root} for the images of '{name}'.")
    with lock(home, name), opened(name, dataset, root, home) as (source, made_of):
        source = stock.among(keep, source) if keep else source
        chosen, left_out = _chosen(name, source, limit)
        if not accept:
            _check_share(name, len(chosen), left_out)
        before = manifest.read(manifest.pin(home, name)) or manifest.read(manifest.beside(home, name))
        if here := _already(name, dataset, source, home, limit, skip_corrupt):
            discard(manifest.packed_folder(home, name))  # of a packing that was killed when all was in place
            return unchanged(here, remarks(here, dataset, source, left_out) + _labelled(here, dataset, source, home), left_out)
        if keep:
            stock.check_ids(keep, chosen)  # at once: a packing may take hours
        made = pack(
            name,
            dataset,
            source,
            home=home,
            skip_corrupt=skip_corrupt,
            limit=limit,
            ids=chosen,
            made_of=made_of,
            pinned=True,
            accept=lambda made: stock.check_images(keep, made) if keep else None,
            progress=progress,
            note=note,
        )
        labelled = _labelled(made, dataset, source, home)
    left_out = _with_unreadable(left_out, made)
    return packed(made, before, remarks(made, dataset, source, left_out) + labelled, left_out)


def _already(name: str, dataset: Dataset, source: Source, home: Path, limit: int | None, skip_corrupt: bool) -> Manifest | None:
    """Return the manifest of what is packed, where it is as pinned and packing the source would give it again; else None."""
    here = manifest.read(manifest.beside(home, name))
    if here is None or here != manifest.read(manifest.pin(home, name)) or here.difference(dataset) is not None:
        return None
    if (here.fingerprint, here.limit) != (source.fingerprint, limit) or (here.skipped and not skip_corrupt):
        return None
    return None if verify(name, home=home) or _other_content(name, dataset, source, here, home) else here


def _labelled(made: Manifest, dataset: Dataset, source: Source, home: Path) -> str:
    """Write the labels of packed images beside them, where their dataset has classes, and say so; those made from others have theirs."""
    if not (classes := labels.classes_of(dataset)) or isinstance(dataset, Derived):
        return ""
    return f" {labels.sentence(labels.write(home, made, manifest.read_ids(home, made), source, classes, pinned=True))}"


def compare(name: str, dataset: Dataset, *, home: Path, root: Path | None, progress: Progress | None = None) -> list[str]:
    """Read every image of a source again and return what is not as it is packed; empty where all is."""
    here = packed_here(name, home)
    if here is None:
        return [f"there are no packed images of that name; {manifest.adding(name)} packs them"]
    with opened(name, dataset, root, home) as (whole, _):
        source = stock.among(here, whole)
        chosen, _ = _chosen(name, source, here.limit)
        skipped = {one.id for one in here.skipped}
        ids = [image_id for image_id in chosen if image_id not in skipped]
        if ids != list(manifest.read_ids(home, here)):
            return [f"{root} holds {len(ids):,} images by other names than the {here.count:,} that are packed"]
        differing, images = [], open_images(home, here)
        with closing(read_all(source, ids, 0)) as found:
            for index, (image_id, image) in enumerate(found):
                if isinstance(image, ImageError):
                    differing.append(str(image))
                elif not np.array_equal(image, images[index]):
                    differing.append(f"{image_id}: other pixels")
                if progress and ((index + 1) % 64 == 0 or index + 1 == len(ids)):
                    progress(index + 1, len(ids))
    more = [f"and {len(differing) - NAMED:,} more"] if len(differing) > NAMED else []
    return differing[:NAMED] + more


def _chosen(name: str, source: Source, limit: int | None) -> tuple[Sequence[str], tuple[LeftOut, ...]]:
    """Return the ids to take, and what is left out of what lies there."""
    left_out = tuple(getattr(source, "left_out", ()))
    if limit is None or limit >= len(source.ids):
        return source.ids, left_out
    chosen = [source.ids[i] for i in sorted(order(name, 0, source.ids)[:limit])]
    return chosen, (*left_out, LeftOut("not among those that `limit=...` takes", len(source.ids) - limit, (), expected=True))


def _check_share(name: str, taken: int, left_out: Sequence[LeftOut]) -> None:
    unexpected = [one for one in left_out if not one.expected]
    count = sum(one.count for one in unexpected)
    if count > SMALL_SHARE * (taken + count) or any(one.asked for one in unexpected):
        raise UsageError(
            f"Dataset '{name}': {count:,} of {taken + count:,} would be left out ({'; '.join(map(reason, unexpected))}). "
            "Nothing was changed. Unpack, convert or remove them; or take the others alone: `accept=True`."
        )


def _other_content(name: str, dataset: Dataset, source: Source, here: Manifest, home: Path) -> bool:
    """Tell whether an image of the source, among those last changed and some others, is not the one that is packed."""
    if dataset.embedded:
        return False
    ids = manifest.read_ids(home, here)
    index = {image_id: place for place, image_id in enumerate(ids)}
    some = [ids[i] for i in order(name, 0, ids)[:LOOKED_AT]]
    images = open_images(home, here)
    for image_id in dict.fromkeys([*list(getattr(source, "newest", ()))[:LOOKED_AT], *some]):
        if image_id in index:
            image = read(source, image_id)
            if isinstance(image, ImageError) or not np.array_equal(image, images[index[image_id]]):
                return True
    return False


def _check_request(name: str, dataset: Dataset, root: Path | None, limit: int | None, resolution: int | None) -> None:
    if dataset.embedded and (root is not None or limit is not None):
        raise UsageError(f"'{name}' is generated, not read from files: leave `root=...` and `limit=...` out.")
    if not dataset.embedded and root is None:
        raise UsageError(
            f"'{name}' is packed from files: {manifest.adding(name)} names the folder that holds them.{sentence(name, dataset)}"
        )
    if limit is not None and limit < 1:
        raise UsageError(f"`limit={limit}` must be at least 1.")
    if resolution not in (None, dataset.resolution):
        raise UsageError(_other_resolution(name, dataset, resolution))


def _other_resolution(name: str, dataset: Dataset, resolution: int | None) -> str:
    begin = (
        f"`resolution={resolution}`: the images of '{name}' are {dataset.resolution}x{dataset.resolution}, and its name "
        "stands for them in every record"
    )
    if dataset.embedded:
        return f"{begin}. A run with `overrides=['dataset.resolution={resolution}']` generates others, under a name of their own."
    return (
        f"{begin}. Copy its .gin file as datasets/{name}_{resolution}.gin into a folder of your own, change `resolution` "
        f"there, and add its images: {manifest.adding(f'{name}_{resolution}')}, with that folder as `registry=[DIR]`."
    )


def _with_unreadable(left_out: tuple[LeftOut, ...], made: Manifest) -> tuple[LeftOut, ...]:
    if not made.skipped:
        return left_out
    first = tuple(one.id for one in made.skipped[:NAMED])
    return (*left_out, LeftOut("unreadable (the manifest names them)", len(made.skipped), first))
