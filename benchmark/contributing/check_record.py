"""The rules of a record: valid, at its place, of the images that its manifest and its seed give, and of the errors beside it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmark.declaring import closure, registry
from benchmark.declaring.equivalence import Standing, family_name, standing
from benchmark.declaring.row import Row
from benchmark.declaring.spec import AXES, Half
from benchmark.errors import BenchError, NotRun
from benchmark.images import manifest
from benchmark.images.manifest import Manifest
from benchmark.recording import record
from benchmark.recording.record import Record

Rules = Iterator[tuple[str, Callable[[], str]]]


class Given(NamedTuple):
    """The digests of the training and of the test images of a row, and how many the latter are."""

    train: str
    test: str
    tests: int


class Known:
    """What many records share, found out once: what their code is to the code that is here, and which images they are of."""

    def __init__(self, search: tuple[Path, ...], home: Path) -> None:
        self._folders = [root / registry.FOLDERS[axis] for root in search if root != registry.STOCK for axis in AXES]
        self._home = home
        self._codes: dict[tuple[str, ...], Standing] = {}
        self._pinned: dict[str, str | None] = {}
        self._here: dict[str, tuple[Manifest, str] | None] = {}
        self._given: dict[tuple[str, int, int, str | None], Given] = {}

    def standing(self, made: Record) -> Standing:
        """Say what a record's code is to this code."""
        key = (made.code, family_name(made.spec), *closure.family_of(made.spec, AXES).values())
        if key not in self._codes:
            self._codes[key] = standing(made.code, made.spec, AXES, self._folders)
        return self._codes[key]

    def pinned(self, name: str) -> str | None:
        """Return the digest of the manifest that is pinned under a name, None where there is none."""
        if name not in self._pinned:
            found = manifest.read(manifest.pin(self._home, name))
            self._pinned[name] = found.digest if found else None
        return self._pinned[name]

    def here(self, name: str) -> tuple[Manifest, str] | None:
        """Return the manifest of the images of that name that are here, and its digest; None where there are none."""
        if name not in self._here:
            found = manifest.read(manifest.beside(self._home, name))
            there = found and (manifest.packed_folder(self._home, name) / "images.npy").exists()
            self._here[name] = (found, found.digest) if found and there else None
        return self._here[name]

    def given(self, described: Manifest, row: Row, half: Half | None) -> Given:
        """Return the digests of the images that manifest and seed give a row."""
        key = (row.dataset, row.subset, row.seed, half)
        if key not in self._given:
            from benchmark.images.packing import Packed, open_images  # numpy, which a look at records does without
            from benchmark.images.subsets import subset

            packed = Packed(open_images(self._home, described), described, manifest.read_ids(self._home, described))
            found = subset(packed, row.dataset, row.subset, row.seed, half)
            self._given[key] = Given(found.digest, found.test_digest, len(found.test))
        return self._given[key]


def rules(path: Path, records: Path | None, known: Known) -> Rules:
    """Yield the rules of the record at `path`, found under the folder `records`."""
    read: list[Record] = []

    def valid() -> str:
        read.append(record.read(path))
        if records and path != (belongs := record.path_of(records, read[0].row, read[0].half)):
            raise BenchError(f"its path must be its key: {belongs}. Move it there, or remove it.")
        return "a valid record"

    yield "record", valid
    if read:
        yield "images", lambda: check_images(read[0], known)
        yield "code", lambda: check_code(known.standing(read[0]))
        yield "errors", lambda: check_errors(read[0], path)


def check_errors(made: Record, path: Path) -> str:
    """Raise BenchError where the errors beside the record at `path` cannot have given its curves; NotRun where there are none."""
    beside = path.with_suffix(".safetensors")  # as errors.beside says, but a look at records does without its numpy
    if not beside.is_file():
        raise NotRun("no errors of single images are beside it")
    from benchmark.recording import errors

    if found := errors.disagreements(made, errors.read(beside)):
        raise BenchError(f"the errors beside it ({beside.name}) give other numbers: {'; '.join(found)}. Remove them, or run the row again.")
    return "the errors beside it give its curves, within their rounding"


def check_code(found: Standing) -> str:
    """Say that a record's code is this code or equivalent to it; raise NotRun where it is older, or not here to be compared."""
    if found == "code not here":
        raise NotRun("the code of its entries is not here")
    if found == "older code":
        raise NotRun("older code: nothing shows that the code that is here gives these numbers")
    return found


def check_images(made: Record, known: Known) -> str:
    """Raise BenchError where a record's images are not those that the manifest and the seed give; NotRun where nobody can tell."""
    name, said = made.row.dataset, made.data.manifest_sha256
    if made.overrides:
        raise NotRun("it was changed with overrides, and its images may have been generated for it alone")
    if (pinned := known.pinned(name)) and pinned != said:
        raise BenchError(
            f"its images are those of another manifest ({said[:12]}) than data/{name}.json ({pinned[:12]}): it compares with "
            "no record of the pinned images. Remove it, or run its row on these."
        )
    if (here := known.here(name)) is None:
        raise NotRun(f"the images of '{name}' are not here")
    described, digest = here
    if digest != said:
        raise NotRun(f"the images of '{name}' here are others ({digest[:12]}) than the record's ({said[:12]})")
    given = known.given(described, made.row, made.half)
    for what, mine, wanted in (("training", made.data.train_sha256, given.train), ("test", made.data.test_sha256, given.test)):
        if mine != wanted:
            raise BenchError(
                f"its {what} images ({mine[:12]}) are not those that the manifest and seed {made.row.seed} give ({wanted[:12]})."
            )
    return f"{made.row.subset:,} training and {given.tests} test images, as the manifest and the seed give"
