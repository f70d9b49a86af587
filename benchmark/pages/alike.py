"""Which records may stand in one table: of one meaning under every name, scored at the same steps, on the same images."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmark.declaring import kinds
from benchmark.declaring.spec import AXES
from benchmark.errors import BenchError
from benchmark.recording.record import Record

# Fields of `External` that are no part of how PSNR is taken: what a network estimates, and for whom the membership gap is measured.
OF_A_NETWORK = ("prediction", "noise_schedule", "convention", "cosine_steps", "sigma_data", "peers", "peer_images")


def check_names(records: Sequence[Record]) -> None:
    """Refuse records in which one name stands for two configurations: they would be averaged or compared in silence.

    A field that only some of the records have is no conflict: an entry may gain a field whose default means what was
    before. What a network trained elsewhere estimates is told by its recipe and is its own: it may differ from one model to another.
    """
    known: dict[tuple[str, str, str, str, str], tuple[Any, Record]] = {}
    for record in records:
        for axis in AXES:
            name, kind, config = (record.spec[axis][key] for key in ("name", "kind", "config"))
            own = {field: config.get(field) for field in OF_A_NETWORK} if kinds.named(kind) == "external" else {}
            for field, mine in {"kind": kinds.named(kind), **config, **own}.items():
                whose = record.row.model if field in own else ""
                theirs, other = known.setdefault((record.metric_version, axis, name, whose, field), (mine, record))
                if mine != theirs:
                    raise BenchError(
                        f"The {axis} '{name}' means two things: {field} = {theirs!r} in {_place(other)}, {mine!r} in "
                        f"{_place(record)}. Give the changed entry a name of its own, or run the older record again."
                    )


def check_steps(group: Sequence[Record]) -> None:
    """Refuse records of one table that were scored at different diffusion steps."""
    for record in group:
        if record.psnr.diffusion_steps != group[0].psnr.diffusion_steps:
            raise BenchError(
                f"{_place(record)} was scored at other diffusion steps than {_place(group[0])}, under the same recipe "
                "and metric version: they cannot share a table. Run the older one again."
            )


def other_images(records: Sequence[Record]) -> dict[str, str]:
    """Return, by id, the records whose images are not those of the others, and what they are.

    Of one dataset all records rest on one manifest: that of the most records. Under it a seed has one set of test images, and with N
    one training subset: what more than half of the records of that seed have; where no half agrees, nobody can tell.
    """
    apart: dict[str, str] = {}
    of_dataset = grouped(records, lambda record: record.row.dataset)
    for group in of_dataset.values():
        counts = Counter(record.data.manifest_sha256 for record in group)
        usual = min(counts, key=lambda digest: (-counts[digest], digest))
        apart |= {one.id: f"manifest {one.data.manifest_sha256[:8]}" for one in group if one.data.manifest_sha256 != usual}
    rest = [record for record in records if record.id not in apart]
    for what, key in (
        ("test", lambda record: (record.row.dataset, record.row.seed, record.half)),
        ("train", lambda record: (record.row.dataset, record.row.seed, record.row.subset, record.half)),
    ):
        for group in grouped(rest, key).values():
            digests = [getattr(record.data, f"{what}_sha256") for record in group]
            digest, count = Counter(digests).most_common(1)[0]
            if 2 * count > len(group):
                apart |= {one.id: f"{what} images {mine[:8]}" for one, mine in zip(group, digests, strict=True) if mine != digest}
    return apart


def one_draw(one: Record, other: Record) -> bool:
    """Whether a seed drew the same images, batches and noise for two runs: each kind of GPU has numbers of its own for it."""
    return _same_images(one, other) and _generator(one) == _generator(other)


def _generator(record: Record) -> str:
    device = record.training.device
    return "cpu" if device.startswith("cpu") else device


def _same_images(one: Record, other: Record) -> bool:
    """Whether two runs were tested on the same images and, where N is the same, trained on the same ones."""
    same_subset = one.spec["subset"] == other.spec["subset"]
    return one.data.test_sha256 == other.data.test_sha256 and (not same_subset or one.data.train_sha256 == other.data.train_sha256)


def grouped(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    """Return the records by a key, in their order."""
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return groups


def _place(record: Record) -> str:
    model, layout, dataset, subset, seed, recipe = record.row
    return f"{recipe}/{dataset}/{model}-{layout}-n{subset}-s{seed}.json"
