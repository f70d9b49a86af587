"""Numbers to one JSON record: what was run, what came out, in which environment. Schema version 1.

The schema is published as benchmark/recording/record.schema.json, which a test holds equal to these classes.
"""

import json
import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from benchmark.contract import Count, FieldError, Positive, Range, checked
from benchmark.declaring.fields import added, conform, from_json, json_schema, to_json
from benchmark.declaring.registry import NAME
from benchmark.declaring.row import Row
from benchmark.declaring.spec import AXES, Half, spec_id
from benchmark.errors import BenchError, UsageError
from benchmark.files import write_text

METRIC_VERSION = "psnr-1"
LABELS_VERSION = "psnr-1-labels"  # the network is given the label of every image
NO_CLASS_VERSION = "psnr-1-no_class"  # a network that takes labels is given that of no class
MEMBERSHIP_VERSION = "membership-1"
CAP = 100.0  # dB: the largest PSNR of a step (recording/errors.py says why)
RECORDS = Path("leaderboard/records")

Seconds = Annotated[float, Range(least=0)]
LARGEST_FILE, LARGEST_NUMBER = 8_000_000, 1e100

NonNegative = Annotated[float, Range(least=0)]
Values = tuple[float, ...]


def mean(values: Values) -> float:
    """Return the mean over the diffusion steps."""
    return math.fsum(values) / len(values)


@checked
class Curves:
    """One value per diffusion step, on training and on test images."""

    train: Values
    test: Values

    def validate(self) -> None:
        if len(self.train) != len(self.test) or not self.train:
            raise FieldError(f"train and test have {len(self.train)} and {len(self.test)} values; both need one per step")

    @property
    def gap(self) -> Values:
        """max(train - test, 0) at every step (Eq. 2)."""
        return tuple(max(a - b, 0.0) for a, b in zip(self.train, self.test, strict=True))


@checked
class Psnr:
    """PSNR in dB at every scored diffusion step, in the three readings of the paper's Eq. 3, and the epsilon MSE.

    clipped: x0_hat = clip((x_t - sqrt(1-abar) eps_hat) / sqrt(abar), -1, 1), the headline; unclipped: the same without
    the clip; literal: x_t - sqrt(1-abar) eps_hat, as printed. noise_mse: mean squared error of eps_hat.
    """

    diffusion_steps: tuple[Count, ...]
    images_train: Positive
    images_test: Positive
    draws_train: Positive  # noise draws per image
    draws_test: Positive
    clipped: Curves
    unclipped: Curves
    literal: Curves
    noise_mse: Curves

    def validate(self) -> None:
        for name in ("clipped", "unclipped", "literal", "noise_mse"):
            if len(getattr(self, name).train) != len(self.diffusion_steps):
                raise FieldError(f"{name} needs one value for each of the {len(self.diffusion_steps)} diffusion steps")

    @property
    def psnr_train(self) -> float:
        """Mean over the diffusion steps on training images, clipped reading, dB."""
        return mean(self.clipped.train)

    @property
    def psnr_test(self) -> float:
        """Mean over the diffusion steps on test images, clipped reading, dB."""
        return mean(self.clipped.test)

    @property
    def psnr_gap(self) -> float:
        """The headline: the mean over the diffusion steps of max(train - test, 0), dB."""
        return mean(self.clipped.gap)

    @property
    def capped(self) -> tuple[int, ...]:
        """The places of the diffusion steps that stand at the largest PSNR, clipped reading, on training or on test images."""
        pairs = zip(self.clipped.train, self.clipped.test, strict=True)
        return tuple(place for place, pair in enumerate(pairs) if max(pair) > CAP - 1e-6)


@checked
class PeerCurve:
    """PSNR, clipped reading, on the images of one peer that no other peer trains on, with the noise that belongs to that peer; dB.

    One value per diffusion step; none where fewer images are left (`left`) than the membership gap needs.
    """

    seed: Count
    left: Count
    images: Count
    draws: Count  # noise draws per image
    sha256: str  # of the images' bytes
    psnr: Values


@checked
class Membership:
    """What the membership gap is computed from, with the other peers' records: a curve for each peer, its own among them."""

    version: str
    diffusion_steps: tuple[Count, ...]
    peers: tuple[PeerCurve, ...]

    def validate(self) -> None:
        for peer in self.peers:
            if len(peer.psnr) != (len(self.diffusion_steps) if peer.images else 0):
                raise FieldError(f"the curve of peer {peer.seed} has {len(peer.psnr)} values of {len(self.diffusion_steps)}")


@checked
class Unlabelled:
    """PSNR of a network that takes labels, given that of no class: the same images and noise as with labels; means in dB."""

    metric_version: str
    psnr_train: float
    psnr_test: float
    psnr_gap: NonNegative
    psnr: Psnr

    def validate(self) -> None:
        _check_means(self, self.psnr)


@checked
class Point:
    """Training loss (mean since the point before) and mean PSNR, clipped reading, at one training step; dB."""

    step: Count
    loss: NonNegative
    psnr_train: float
    psnr_test: float
    psnr_gap: NonNegative
    psnr_test_halves: Values = added(())  # on the test images 0, 2, 4, … and on 1, 3, 5, …
    psnr_peers: tuple[float | None, ...] = added(())  # on the images of each peer, in their order; None: too few


@checked
class Score:
    """One sample-quality number and all it depends on; `reference_digest` is empty where it has no reference.

    `small` marks a number of too few samples, or against too few reference images, to be compared with others. `null` is
    what images that were never trained on gave in the same call; where it stands, `value` is divided by it.
    """

    value: float
    sd: NonNegative | None
    samples: Positive
    extractor: str
    weights_digest: str | None
    reference_digest: str
    version: str
    reference_samples: Count = 0
    sampling: str = ""  # sampler, steps and seed
    small: bool = False
    reference_trained_on: Count | None = added(None)  # reference images that a suite's row or this run trains on; None: not counted
    null: Annotated[float, Range(above=0)] | None = added(None)

    @property
    def terms(self) -> "Score":
        """All that must agree before two numbers are compared: the score without its number."""
        return replace(self, value=0.0, sd=None, null=None if self.null is None else 1.0)


@checked
class Budget:
    """The budget as it was spent; 0 steps where a network is fitted in closed form."""

    steps: Count
    device: str
    threads: Positive
    wall_seconds: Seconds
    evaluation_seconds: Seconds
    peak_memory_bytes: Count
    resumed: Count
    parameters: Count
    parameters_trainable: Count
    forward_flops: Count  # of one image, 2 per multiply-add
    processes: Positive = added(1)  # of the last sitting, as the three fields below
    micro_batch: Count = added(0)  # images at a time in each process, 0: all of its share
    recompute: bool = added(False)  # activations were computed again in the backward pass
    kernels: dict[str, tuple[str, ...]] = added({})  # of the attention layers, by device and type
    notes: tuple[str, ...] = added(())  # what was done another way than asked
    deterministic: bool | None = added(None)  # what torch cannot compute so was an error; None: not said, it warned and went on
    kernel_milliseconds: dict[str, tuple[float, ...]] = added({})  # forward, and with the backward pass, where they were measured


@checked
class Data:
    """The images, by digest (sha256 of the uint8 bytes)."""

    manifest_sha256: str
    train_sha256: str
    test_sha256: str
    dropped_duplicates: Count
    labels_sha256: str | None = added(None)  # of the training and the test images' labels (uint16), where the network takes them


@checked
class Environment:
    """Where it ran."""

    benchmark: str
    commit: str | None
    modified: bool | None  # the checkout had changes that are not in `commit`
    python: str
    torch: str
    platform: str
    processor: str


@checked
class Stored:
    """One entry of a spec as it is stored."""

    name: str
    kind: str
    config: dict[str, Any]


@checked
class Record:
    """One run, measured: psnr_train, psnr_test and psnr_gap are the means over the diffusion steps, clipped reading, dB."""

    schema: Literal[1]
    id: str
    metric_version: str
    spec: dict[str, Any]
    overrides: tuple[str, ...]
    assumed: tuple[str, ...]
    psnr_train: float
    psnr_test: float
    psnr_gap: NonNegative
    psnr: Psnr
    trajectory: tuple[Point, ...]
    scores: dict[str, Score]
    training: Budget
    data: Data
    weights_sha256: str
    environment: Environment
    created: str
    membership: Membership | None = added(None)
    code: str = added("")  # digest of the code that the numbers rest on (declaring/closure.py)
    unlabelled: Unlabelled | None = added(None)  # beside the numbers with labels, which have a metric version of their own

    def validate(self) -> None:
        """Refuse a record that contradicts itself."""
        for axis in AXES:
            stored = from_json(Stored, self.spec.get(axis), f"spec.{axis}")
            if not NAME.fullmatch(stored.name):
                raise FieldError(f"spec.{axis}.name = {stored.name!r} must be letters, digits, '_', '.' and '-'")
        for key, least in (("subset", 1), ("seed", 0)):
            conform(self.spec.get(key), Annotated[int, Range(least=least)], f"spec.{key}")
        if "half" in self.spec:
            conform(self.spec["half"], Half, "spec.half")
        if self.id != spec_id(self.spec):
            raise FieldError(f"id = {self.id} is not the id of its spec ({spec_id(self.spec)})")
        _check_means(self, self.psnr)

    @cached_property
    def row(self) -> Row:
        """The run by name, as a suite declares it."""
        names = {axis: self.spec[axis]["name"] for axis in AXES}
        return Row(**names, subset=self.spec["subset"], seed=self.spec["seed"])

    @property
    def half(self) -> Half | None:
        """The half of the pool it was trained on, None where it was the whole pool."""
        return self.spec.get("half")

    @property
    def ranked(self) -> bool:
        """Whether the record may be compared with others."""
        return bool(self.spec["recipe"]["config"].get("ranked", True))


def _check_means(of: Unlabelled | Record, curves: Psnr) -> None:
    """Refuse a headline that is not the mean of its curve."""
    means = {"psnr_train": curves.clipped.train, "psnr_test": curves.clipped.test, "psnr_gap": curves.clipped.gap}
    for name, values in means.items():
        if abs(getattr(of, name) - sum(values) / len(values)) > 1e-6:
            raise FieldError(f"{name} = {getattr(of, name)} is not the mean of its curve ({sum(values) / len(values)})")


def path_of(records: Path, row: Row, half: Half | None = None) -> Path:
    """Return where the record of a row lies: its path is its key. One row under two recipes is two records.

    A run on a half is no row of a suite or of a table: it lies beside the row's own record, under a name of its own.
    """
    suffix = f"-half_{half}" if half else ""
    return records / row.recipe / row.dataset / f"{row.model}-{row.layout}-n{row.subset}-s{row.seed}{suffix}.json"


def write(record: Record, path: Path) -> None:
    """Write a record atomically; the constructor has validated it."""
    write_text(path, text_of(record))


def text_of(record: Record) -> str:
    """Return a record as its file holds it."""
    return json.dumps(to_json(record), indent=1, allow_nan=False) + "\n"


def parsed(text: str) -> Record:
    """Return the record that a file's text holds; raise ValueError naming the field that is wrong."""
    if len(text) > LARGEST_FILE:
        raise FieldError(f"it has {len(text):,} characters; a record has at most {LARGEST_FILE:,}")
    document = json.loads(text, parse_constant=_refuse_constant, parse_int=_whole, parse_float=_number, object_pairs_hook=_each_once)
    return from_json(Record, document)


def read(path: Path) -> Record:
    """Read and validate a record; raise BenchError naming the file and the field."""
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise FieldError(f"it has {size:,} bytes; a record has at most {LARGEST_FILE:,}")
        if not path.is_file():  # a pipe or a device would be read for ever
            raise FieldError("it is no file")
        return parsed(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"There is no record at {path}. `benchmark.records()` reads those that are there.") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise BenchError(f"The record {path} cannot be read: {problem}") from None
    except (ValueError, RecursionError) as problem:
        raise BenchError(
            f"The record {path} is not valid: {problem}. Restore it (`git checkout -- FILE`), or remove it and run its row again."
        ) from None


def read_all(records: Path) -> list[Record]:
    """Read every record under a folder, in path order; raise where one lies at another record's place."""
    found = []
    for path in sorted(records.rglob("[!.]*.json")):
        record = read(path)
        if path != (belongs := path_of(records, record.row, record.half)):
            raise BenchError(f"The record {path} belongs at {belongs}: its path must be its key. Move it there, or remove it.")
        found.append(record)
    return found


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a record."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Record"} | json_schema(Record)


def _whole(text: str) -> int:
    if len(text) > 19:
        raise FieldError(f"a whole number of {len(text)} digits is no count")
    return int(text)


def _number(text: str) -> float:
    """Return a number; refuse one that no measurement gives and whose square no computer holds."""
    value = float(text)
    if not abs(value) < LARGEST_NUMBER:
        raise FieldError(f"{text[:40]} is larger than any measurement")
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; refuse one that says something twice, of which a reader would take either."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise FieldError(f"'{twice[:80]}' stands in it twice")
    return found


def _refuse_constant(name: str) -> float:
    raise FieldError(f"{name} is not a number that JSON or this benchmark allows")


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))
