"""The folder of a run: what describes it, and how it is emptied."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmark.declaring.spec import Spec
from benchmark.errors import BenchError
from benchmark.running import description
from benchmark.running.place import Place, check_code


def describe(spec: Spec, place: Place, images: Mapping[str, str], note: Callable[[str], None]) -> None:
    """Write spec.json, the run's own description; refuse to resume a run whose images, by their digests, have changed since.

    A damaged one is noted and written anew: what a run rests on stands in its checkpoint, too.
    """
    folder = place.folder(spec)
    if before := description.before(folder, note):
        check_code(f"The unfinished run {spec.id}", before.get("code", ""), spec, place)
        check_images(spec, before.get("data"), images)
    description.write(folder, spec, images, place.suite)


def check_images(spec: Spec, before: Any, images: Mapping[str, str]) -> None:
    """Raise BenchError where a run began with images of other digests."""
    if before != images:
        raise BenchError(
            f"The images of run {spec.id} have changed since it began ({before} then, {images} now). Start it anew with `force=True`."
        )


def clear(folder: Path) -> None:
    """Remove what a run has left in its folder, but for what holds the folder."""
    for child in folder.iterdir():
        if child.name not in ("lock", "lease"):
            shutil.rmtree(child) if child.is_dir() else child.unlink()
