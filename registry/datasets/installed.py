"""Files that an installed package carries, held to the sha256 that a dataset is made from."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from benchmark.contract import ImageError, install


class Carried(NamedTuple):
    """A file of a package: the name of what is installed, the package, the path below it, and the file's sha256."""

    distribution: str
    package: str
    path: str
    sha256: str


def content(file: Carried) -> bytes:
    """Return the bytes of a file; the package is not imported. Raise ImageError where they are missing or others."""
    found = find_spec(file.package)
    if found is None or not found.submodule_search_locations:
        raise ImageError(f"its images come with {file.distribution}: {install('data')}")
    path = Path(found.submodule_search_locations[0], file.path)
    try:
        read = path.read_bytes()
    except OSError as problem:
        raise ImageError(f"{path} of {file.distribution} {version(file.distribution)} cannot be read: {problem.strerror}") from None
    if (digest := hashlib.sha256(read).hexdigest()) != file.sha256:
        raise ImageError(
            f"{path} of {file.distribution} {version(file.distribution)} has the sha256 {digest}, and this dataset is made from "
            f"{file.sha256}: install the {file.distribution} of requirements.lock"
        )
    return read
