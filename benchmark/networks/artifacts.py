"""Files made offline that an entry needs, named by digest: artifacts/<name>-<first 12 digits of its sha256>.safetensors.

An entry names the whole digest in a field and takes the tensors when it is built, so that the id of a run says which
ones it used. They are looked for in the home folder, then in the checkout, which holds those of its own entries.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.contract import FieldError
from benchmark.files import PROJECT, write_bytes

DIGEST = re.compile(r"[0-9a-f]{64}")
FOLDER = "artifacts"


def folders() -> tuple[Path, ...]:
    """Return where artifacts are looked for: under BENCH_HOME if that is set, then in the checkout."""
    named = os.environ.get("BENCH_HOME")
    return tuple(home / FOLDER for home in ([Path(named).resolve()] if named else []) + [PROJECT])


def save(home: Path, name: str, tensors: Mapping[str, Any], provenance: Mapping[str, Any]) -> tuple[Path, str]:
    """Write named tensors and where they come from, atomically; return the file and its sha256."""
    from safetensors.torch import save as packed

    # One key: the file format keeps several in no particular order, and equal content must have equal bytes.
    metadata = {"provenance": json.dumps(provenance, sort_keys=True, allow_nan=False)}
    content = packed({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, metadata)
    digest = hashlib.sha256(content).hexdigest()
    path = home / FOLDER / f"{name}-{digest[:12]}.safetensors"
    write_bytes(path, content)
    return path, digest


def find(digest: str) -> Path | None:
    """Return the file that an artifact of this digest would be, by its name alone; None where there is none."""
    named = (path for folder in folders() for path in sorted(folder.glob(f"*-{digest[:12]}.safetensors")))
    return next(named, None)


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of an artifact, without reading the tensors; raise FieldError if damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
    except (OSError, SafetensorError) as problem:
        raise FieldError(f"the artifact {path} cannot be read: {problem}. Restore it or make it again") from None


def tensors(path: Path, digest: str) -> dict[str, Any]:
    """Return the tensors of an artifact by name; raise FieldError where its bytes are not those of the digest."""
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError as problem:
        raise FieldError(f"the artifact {path} cannot be read: {problem.strerror}") from None
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise FieldError(f"the artifact {path} has the sha256 {found}, but {digest} is asked for. Restore it or make it again")
    return load(content)


def provenance(path: Path) -> dict[str, Any]:
    """Return where an artifact comes from."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["provenance"])
