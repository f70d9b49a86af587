"""The folder of a run: what describes it, and how it is emptied."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from benchmark.declaring.spec import Spec
from benchmark.errors import BenchError
from benchmark.files import write_text
from benchmark.running.place import Place, check_code


def describe(spec: Spec, place: Place, images: Mapping[str, str]) -> None:
    """Write spec.json, the run's own description; refuse to resume a run whose images, by their digests, have changed since."""
    path = place.folder(spec) / "spec.json"
    before = json.loads(path.read_text()) if path.exists() else None
    if before:
        check_code(f"The unfinished run {spec.id}", before.get("code", ""), spec, place)
    if before and before.get("data") != images:
        raise BenchError(
            f"The images of run {spec.id} have changed since it began ({before.get('data')} then, {images} now). "
            "Start it anew with `force=True`."
        )
    document = {
        "id": spec.id,
        "spec": spec.to_json(),
        "overrides": spec.overrides,
        "assumed": spec.assumed,
        "suite": place.suite,
        "data": images,
        "code": spec.code,
    }
    write_text(path, json.dumps(document, indent=1) + "\n")


def clear(folder: Path) -> None:
    """Remove what a run has left in its folder, but for what holds the folder."""
    for child in folder.iterdir():
        if child.name not in ("lock", "lease"):
            shutil.rmtree(child) if child.is_dir() else child.unlink()
