"""spec.json, what a run says of itself: written when it begins, read by whoever lists, mirrors or resumes it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmark.declaring.spec import AXES, Spec
from benchmark.errors import BenchError
from benchmark.files import write_text

FILE = "spec.json"


class Damaged(BenchError):
    """The description of a run cannot be read; what else lies in its folder may be sound."""


def read(folder: Path) -> dict[str, Any]:
    """Return what a run says of itself; raise Damaged, naming the file, where that is not the description of a run."""
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        _hold(isinstance(found, Mapping) and isinstance(found.get("spec"), Mapping), "it has no spec")
        spec = found["spec"]
        _hold(all(isinstance(spec.get(axis), Mapping) for axis in AXES), "its spec lacks an axis")
        _hold(all(isinstance(spec[axis].get("name"), str) and isinstance(spec[axis].get("config"), Mapping) for axis in AXES), "an entry")
        _hold(type(spec.get("subset")) is int and type(spec.get("seed")) is int, "its spec lacks subset or seed")
        _hold(isinstance(found.get("overrides"), list) and isinstance(found.get("id"), str), "it has no id or no overrides")
    except FileNotFoundError:
        raise Damaged(f"{folder} holds no {FILE}, so it is not a run.") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise Damaged(
            f"{path} is damaged ({problem}). What lies beside it is untouched: the command that began the run "
            "writes it anew and goes on from the last checkpoint."
        ) from None
    return dict(found)


def before(folder: Path, note: Callable[[str], None]) -> dict[str, Any] | None:
    """Return what an unfinished run says of itself, None where it has said nothing; a damaged one is noted and counts as none."""
    try:
        return read(folder) if (folder / FILE).exists() else None
    except Damaged as problem:
        note(str(problem))
        return None


def write(folder: Path, spec: Spec, images: Mapping[str, str], suite: str | None) -> None:
    """Write it; `images` are the digests of what the run is trained and tested on."""
    document = {
        "id": spec.id,
        "spec": spec.to_json(),
        "overrides": spec.overrides,
        "assumed": spec.assumed,
        "suite": suite,
        "data": dict(images),
        "code": spec.code,
    }
    write_text(folder / FILE, json.dumps(document, indent=1) + "\n")


def _hold(true: bool, otherwise: str) -> None:
    if not true:
        raise ValueError(otherwise)
