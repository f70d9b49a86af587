"""Whether other code gives the same numbers: one row of each family is trained again and held against its record.

Its weights must be equal to the last bit, its curves to ROUNDING: what is the same mean, summed in another order.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from benchmark import run
from benchmark.declaring import registry
from benchmark.declaring.equivalence import ROUNDING, Proof, add, family_name, proofs
from benchmark.declaring.fields import to_json
from benchmark.declaring.row import Row
from benchmark.declaring.spec import Spec, from_record
from benchmark.errors import BenchError
from benchmark.recording import record
from benchmark.recording.record import Record, path_of
from benchmark.running.progress import Display
from benchmark.suites.reproduce import Bench, resumable


class Finding(NamedTuple):
    """What became of a family: `rows` records speak through `row`, the cheapest of them."""

    family: str
    rows: int
    row: str
    outcome: Literal["same code", "equal", "different", "failed"]
    note: str


class Member(NamedTuple):
    """A committed record, where it lies, and its spec under this code."""

    record: Record
    path: Path
    spec: Spec

    @property
    def settled(self) -> bool:
        """Whether its code is this code, or known to be equivalent."""
        return self.spec.same_numbers(self.record.code)


def prove(
    rows: Sequence[Row], place: Bench, display: Display, *, committed_in: Path, search: tuple[Path, ...] = (registry.STOCK,)
) -> list[Finding]:
    """Prove family by family; what is equal goes into the ledger at once, and into its records where they have no digest."""
    families = _families(rows, committed_in, search)
    bar, found = display.bar("families"), []
    for number, (family, members) in enumerate(families.items()):
        bar(number, len(families), family)
        found.append(_prove(family, members, place, display))
    bar(len(families), len(families))
    return found


def _families(rows: Sequence[Row], committed_in: Path, search: tuple[Path, ...]) -> dict[str, list[Member]]:
    found: dict[str, list[Member]] = {}
    for path in (path_of(committed_in, row) for row in rows):
        if path.exists():
            made = record.read(path)
            spec = from_record(made.spec, overrides=made.overrides, assumed=made.assumed, search=search)
            found.setdefault(family_name(made.spec), []).append(Member(made, path, spec))
    return found


def _prove(family: str, members: list[Member], place: Bench, display: Display) -> Finding:
    spoken_for = [one for one in members if not one.record.code and _proved(family, one.spec)]
    for one in spoken_for:
        record.write(dataclasses.replace(one.record, code=one.spec.code), one.path)
    open_ones = [one for one in members if not one.settled and one not in spoken_for]
    if not open_ones:
        note = f"{len(spoken_for)} records stand by the proof of their family" if spoken_for else "nothing to prove"
        return Finding(family, len(members), "", "same code", note)
    cheapest = min(open_ones, key=lambda one: one.record.training.wall_seconds)
    row = cheapest.spec.title
    try:
        fresh = run.run(cheapest.spec, place, display, force=not resumable(cheapest.spec, place))
    except BenchError as problem:
        return Finding(family, len(members), row, "failed", str(problem))
    if why := difference(cheapest.record, fresh):
        return Finding(family, len(members), row, "different", why)
    code, today = cheapest.spec.code, datetime.now(UTC).date().isoformat()
    add(
        Proof(
            family=family, before=before, after=code, row=row, weights_sha256=fresh.weights_sha256, curves_sha256=curves_digest(fresh),
            apart=apart(cheapest.record, fresh),
            torch=fresh.environment.torch, processor=fresh.environment.processor, date=today,
        )
        for before in sorted({one.record.code for one in open_ones})
    )  # fmt: skip
    for one in open_ones:
        if not one.record.code:
            record.write(dataclasses.replace(one.record, code=code), one.path)
    return Finding(family, len(members), row, "equal", f"weights {fresh.weights_sha256[:12]}, the same; {len(open_ones)} records stand")


def _proved(family: str, spec: Spec) -> bool:
    """Tell whether a row of the family that is older than digests was shown to be equal to this code."""
    return any(one.family == family and not one.before and spec.same_numbers(one.after) for one in proofs())


def difference(committed: Record, fresh: Record) -> str | None:
    """Say in what a fresh record's images, weights, curves or trajectory are not the committed one's, or None."""
    images = [vars(one.data) | {"manifest_sha256": ""} for one in (committed, fresh)]
    if images[0] != images[1]:
        what = "images"
    elif committed.weights_sha256 != fresh.weights_sha256:
        what = "weights"
    elif not apart(committed, fresh) <= ROUNDING:
        what = "curves"
    else:
        return None
    ours = f"the gap is {committed.psnr_gap:.6f} dB there and {fresh.psnr_gap:.6f} dB here"
    return f"the {what} differ; {ours}. Its rows must be run again, or the change taken back."


def apart(committed: Record, fresh: Record) -> float:
    """Return the largest difference between the curves and trajectories of two records, in dB (of noise_mse and loss: as they are).

    Infinite where they are not of the same steps.
    """
    ours, theirs = _numbers(fresh), _numbers(committed)
    if len(ours) != len(theirs):
        return math.inf
    return max((abs(a - b) for a, b in zip(ours, theirs, strict=True)), default=0.0)


def _numbers(made: Record) -> list[float]:
    curves = [made.psnr.clipped, made.psnr.unclipped, made.psnr.literal, made.psnr.noise_mse]
    points = [value for point in made.trajectory for value in (point.step, point.loss, point.psnr_train, point.psnr_test, point.psnr_gap)]
    peers = [value for peer in made.membership.peers for value in peer.psnr] if made.membership else []
    return [*made.psnr.diffusion_steps, *peers, *(value for curve in curves for value in (*curve.train, *curve.test)), *points]


def curves_digest(made: Record) -> str:
    """Return the sha256 over the PSNR curves and the trajectory of a record."""
    document = {"psnr": to_json(made.psnr), "trajectory": to_json(made.trajectory)}
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
