"""The rules of a record: valid, at its place, of the images that its manifest and its seed give, and of the errors beside it."""

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmark.declaring import closure, registry
from benchmark.declaring.equivalence import Standing, family_name, standing
from benchmark.declaring.spec import AXES
from benchmark.errors import BenchError, NotRun
from benchmark.recording import record
from benchmark.recording.record import Record

Rules = Iterator[tuple[str, Callable[[], str]]]


class Codes:
    """What the code of records is to the code that is here, found out once for all that are alike."""

    def __init__(self, search: tuple[Path, ...]) -> None:
        self._folders = [root / registry.FOLDERS[axis] for root in search if root != registry.STOCK for axis in AXES]
        self._found: dict[tuple[str, ...], Standing] = {}

    def standing(self, made: Record) -> Standing:
        """Say what a record's code is to this code."""
        key = (made.code, family_name(made.spec), *closure.family_of(made.spec, AXES).values())
        if key not in self._found:
            self._found[key] = standing(made.code, made.spec, AXES, self._folders)
        return self._found[key]


def rules(path: Path, records: Path | None, home: Path, codes: Codes) -> Rules:
    """Yield the rules of the record at `path`, found under the folder `records`; the images are those under `home`."""
    read: list[Record] = []

    def valid() -> str:
        read.append(record.read(path))
        if records and path != (belongs := record.path_of(records, read[0].row, read[0].half)):
            raise BenchError(f"its path must be its key: {belongs}. Move it there, or remove it.")
        return "a valid record"

    yield "record", valid
    if read:
        yield "images", lambda: check_images(read[0], home)
        yield "code", lambda: check_code(codes.standing(read[0]))
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


def check_images(made: Record, home: Path) -> str:
    """Raise BenchError where a record's images are not those that the manifest and the seed give; NotRun where nobody can tell."""
    from benchmark.images import manifest

    name, said = made.row.dataset, made.data.manifest_sha256
    if made.overrides:
        raise NotRun("it was changed with overrides, and its images may have been generated for it alone")
    pinned = manifest.read(manifest.pin(home, name))
    if pinned and pinned.digest != said:
        raise BenchError(
            f"its images are those of another manifest ({said[:12]}) than data/{name}.json ({pinned.digest[:12]}): it compares with "
            "no record of the pinned images. Remove it, or run its row on these."
        )
    here = manifest.read(manifest.beside(home, name))
    if here is None or not (manifest.packed_folder(home, name) / "images.npy").exists():
        raise NotRun(f"the images of '{name}' are not here")
    if here.digest != said:
        raise NotRun(f"the images of '{name}' here are others ({here.digest[:12]}) than the record's ({said[:12]})")
    from benchmark.images import labels  # numpy, which a look at records does without
    from benchmark.images.packing import Packed, open_images
    from benchmark.images.subsets import subset

    found = labels.read(home, here) if made.data.labels_sha256 else None
    packed = Packed(open_images(home, here), here, manifest.read_ids(home, here), found)
    given = subset(packed, name, made.row.subset, made.row.seed, made.half)
    for what, mine, wanted in (
        ("training images", made.data.train_sha256, given.digest),
        ("test images", made.data.test_sha256, given.test_digest),
        ("labels", made.data.labels_sha256, given.labels_digest),
    ):
        if wanted is not None and mine != wanted:
            raise BenchError(
                f"its {what} ({str(mine)[:12]}) are not those that the manifest and seed {made.row.seed} give ({wanted[:12]})."
            )
    return f"{made.row.subset:,} training and {len(given.test)} test images, as the manifest and the seed give"
