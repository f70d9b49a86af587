"""The manifest of packed images: what they are, in which order, and the sha256 that they must have.

It lies beside the array that it describes (packed/<name>/manifest.json). What `bench data add` added is pinned by a
second copy that git tracks (data/<name>.json); what an embedded dataset generates on first use is not. The ids of more
than LISTED images lie in a file of their own (packed/<name>/ids.json), and the manifest holds its sha256.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from benchmark.contract import Dataset
from benchmark.declaring import kinds
from benchmark.declaring.fields import FieldError, Positive, added, checked, from_json, to_json
from benchmark.declaring.registry import NAME
from benchmark.errors import BenchError, UsageError
from benchmark.files import write_bytes

LISTED = 20_000  # ids that a manifest holds itself
ORDERING = "image i of the array is ids[i]; ids null: the decimal index i; a subset sorts by sha256('dataset:seed:id')"
FOLLOWING = ORDERING.replace("'dataset:seed:id'", "'follows:seed:id'")

_DIGEST = re.compile(r"[0-9a-f]{64}")


@checked
class Skipped:
    """An image of the source that could not be read and was left out on request."""

    id: str
    reason: str


@checked
class Manifest:
    """What packed/<name>/images.npy holds; `sha256` is over the bytes of the images, without the file's header."""

    format: Literal[1]
    name: str
    kind: str  # of the dataset, in the spelling that digests are made from
    config: dict[str, Any]
    embedded: bool
    count: Positive
    channels: Positive
    resolution: Positive
    ids: tuple[str, ...] | None  # None: the decimal indices
    ordering: str
    sha256: str
    preprocessing: str
    fingerprint: str  # of the source: every id and size
    limit: Positive | None
    skipped: tuple[Skipped, ...]
    duplicates: tuple[tuple[str, ...], ...]  # ids of images with the same bytes
    ids_sha256: str | None = added(None)  # of ids.json, where that file holds the ids
    follows: str | None = added(None)  # the dataset whose order the subsets take
    held_out: Positive | None = added(None)  # images for testing, where they are not HELD_OUT
    held_out_from: str | None = added(None)  # how the ids begin of the images that are for testing alone
    left_out: dict[str, Positive] = added({})  # of an embedded dataset: how many images its own rule left out, by reason
    distribution: str | None = added(None)  # what they were read from, where that is not the official distribution
    made_of: str | None = added(None)  # sha256 of the images of another dataset that these were made from

    def validate(self) -> None:
        """Check what no single field can."""
        if self.ids is not None and len(set(self.ids)) != self.count:
            raise FieldError(f"ids holds {len(set(self.ids))} different ids, but count = {self.count}")
        if self.ids is not None and self.ids_sha256 is not None:
            raise FieldError("ids and ids_sha256 cannot both be given")
        for field in ("sha256", "fingerprint", "ids_sha256", "made_of"):
            if getattr(self, field) is not None and not _DIGEST.fullmatch(getattr(self, field)):
                raise FieldError(f"{field} = {getattr(self, field)!r} must be 64 hex digits")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the array: N x C x R x R."""
        return self.count, self.channels, self.resolution, self.resolution

    @property
    def digest(self) -> str:
        """The sha256 of the manifest's canonical JSON."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def same_images(self, other: "Manifest") -> bool:
        """Return whether both describe the same bytes under the same ids."""
        return (self.sha256, self.ids, self.ids_sha256) == (other.sha256, other.ids, other.ids_sha256)

    def document(self) -> dict[str, Any]:
        """Return the manifest as plain JSON, as it is stored and hashed; what not every manifest has is left out where it is None."""
        return to_json(self)

    def difference(self, dataset: Dataset) -> str | None:
        """Return in what the images were made otherwise than `dataset` declares, or None."""
        made = {"kind": kinds.hashed(self.kind), "preprocessing": self.preprocessing} | self.config
        wanted = {"kind": kind_of(dataset), "preprocessing": dataset.preprocessing} | to_json(dataset)
        differing = [field for field in made | wanted if made.get(field) != wanted.get(field)]
        return ", ".join(f"{f} = {made.get(f)!r} instead of {wanted.get(f)!r}" for f in differing) or None


def facts(described: Manifest) -> dict[str, Any]:
    """Return what a manifest says, without its ids."""
    left_out = ("ids", "duplicates", "skipped", "format")
    facts = {key: value for key, value in described.document().items() if key not in left_out}
    copies = sum(len(group) - 1 for group in described.duplicates)
    skipped = [one.id for one in described.skipped]
    return facts | {"manifest_sha256": described.digest, "duplicates": copies, "skipped": skipped}


def kind_of(dataset: Dataset) -> str:
    """Return the kind of a dataset in the spelling that digests are made from: a manifest's bytes are hashed as they are."""
    return kinds.hashed(kinds.kind_of(type(dataset)))


def packed_folder(home: Path, name: str) -> Path:
    """Return the folder of the packed images of that name."""
    if not NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot name a dataset: use letters, digits, _ . and -, not beginning with . or -.")
    return home / "packed" / name


def beside(home: Path, name: str) -> Path:
    """Return the path of the manifest that lies beside the array."""
    return packed_folder(home, name) / "manifest.json"


def ids_file(home: Path, name: str) -> Path:
    """Return the path of the ids of more than LISTED images."""
    return packed_folder(home, name) / "ids.json"


def pin(home: Path, name: str) -> Path:
    """Return the path of the manifest that git tracks."""
    packed_folder(home, name)
    return home / "data" / f"{name}.json"


def adding(name: str, *, generated: bool = False) -> str:
    """Return the call that packs the images of a dataset, as messages name it."""
    return f"`benchmark.images.datasets.add({name!r}, ...)`" if generated else f"`benchmark.images.datasets.add({name!r}, ..., root=PATH)`"


def read(path: Path) -> Manifest | None:
    """Read a manifest, None where there is none; raise BenchError naming what is wrong with a damaged one."""
    try:
        return from_json(Manifest, json.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise BenchError(f"The manifest {path} cannot be read: {problem.strerror}.") from None
    except (ValueError, RecursionError) as problem:  # JSON, UTF-8 and fields: all ValueErrors
        restore = "Restore it with git" if path.parent.name == "data" else f"Restore it: {adding(path.parent.name)}"
        raise BenchError(f"The manifest {path} is damaged: {problem}. {restore}, or remove it and add the images again.") from None


def write(path: Path, manifest: Manifest) -> None:
    """Write a manifest atomically."""
    write_bytes(path, encoded(manifest))


def encoded(manifest: Manifest) -> bytes:
    """Return the content of a manifest's file, one id a line so that git shows what changed."""
    return (json.dumps(manifest.document(), indent=1, ensure_ascii=False) + "\n").encode()


def encoded_ids(ids: Sequence[str]) -> bytes:
    """Return the content of ids.json, one id a line."""
    return (json.dumps(list(ids), indent=0) + "\n").encode("ascii")


def read_ids(home: Path, described: Manifest) -> Sequence[str]:
    """Return the id of every image in the order of the array; raise BenchError where ids.json is not as described."""
    if described.ids_sha256 is None:
        return tuple(map(str, range(described.count))) if described.ids is None else described.ids
    path = ids_file(home, described.name)
    again = f"{adding(described.name)} packs them again."
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise BenchError(f"The ids {path} cannot be read: {problem.strerror}. {again}") from None
    if (found := hashlib.sha256(content).hexdigest()) != described.ids_sha256:
        raise BenchError(f"The ids {path} are damaged: their sha256 is {found}, the manifest says {described.ids_sha256}. {again}")
    ids = tuple(json.loads(content))
    if len(set(ids)) != described.count:
        raise BenchError(f"The ids {path} are {len(set(ids)):,} different ones, the manifest says {described.count:,}. {again}")
    return ids
