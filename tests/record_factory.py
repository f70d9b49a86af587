"""The records of whole suites for the tests of the leaderboard: made-up curves that look like real ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.declaring.spec import spec_id
from benchmark.recording import record
from benchmark.recording.record import Data, Point, Record, Score
from tests.records import make_record

FALL = tuple(34.0 - 2.4 * i for i in range(10))  # PSNR falls with the diffusion step
SHAPE = (0.0, 0.1, 0.4, 1.0, 2.0, 2.5, 2.0, 1.2, 0.6, 0.2)  # where a gap opens; its mean is 1


def point(step: int, psnr_train: float, psnr_gap: float) -> Point:
    """A point of a trajectory."""
    return Point(step=step, loss=0.1, psnr_train=psnr_train, psnr_test=psnr_train - psnr_gap, psnr_gap=psnr_gap)


def made(
    gap: float = 1.0,
    *,
    model: str = "dit_mini",
    layout: str = "global",
    dataset: str = "dead_leaves8",
    subset: int = 16,
    seed: int = 0,
    recipe: str = "mini",
    fit: float = 0.0,
    trajectory: Sequence[Point] | None = None,
    ranked: bool = True,
    metric_version: str = record.METRIC_VERSION,
    scores: dict[str, Score] | None = None,
    images: str = "",
    steps: int = 2000,
    overrides: tuple[str, ...] = (),
    assumed: tuple[str, ...] = (),
) -> Record:
    """Make one record whose mean gap is `gap` and whose PSNR train lies `fit` dB above the usual."""
    train = tuple(value + fit for value in FALL)
    test = tuple(value - gap * opened for value, opened in zip(train, SHAPE, strict=True))
    plain = make_record(
        model=model,
        layout=layout,
        dataset=dataset,
        recipe=recipe,
        subset=subset,
        seed=seed,
        train=train,
        test=test,
        ranked=ranked,
        metric_version=metric_version,
    )
    if trajectory is None:
        trajectory = [point(steps * part // 4, plain.psnr_train - 4 + part, gap * part / 4) for part in (1, 2, 3, 4)]
    recipe_entry = plain.spec["recipe"] | {"config": {"steps": steps, "batch": 8, "ranked": ranked}}
    spec = plain.spec | {"recipe": recipe_entry, "dataset": plain.spec["dataset"] | {"config": {"resolution": 8}}}
    data = Data(
        manifest_sha256=_sha(dataset),
        train_sha256=_sha(dataset, subset, seed, images),
        test_sha256=_sha(dataset, images),
        dropped_duplicates=0,
    )
    spent = replace(plain.training, steps=steps, parameters=119_000, forward_flops=12_700_000)
    return replace(
        plain,
        id=spec_id(spec),
        spec=spec,
        trajectory=tuple(trajectory),
        data=data,
        training=spent,
        scores=scores or {},
        overrides=overrides,
        assumed=assumed,
    )


def suites() -> list[Record]:
    """The rows of the mini and small suites with gaps like the explored ones; the windowed runs fit more slowly."""
    rows = [
        (16, 0, 1.02, 0.80),
        (16, 1, 0.75, 0.48),
        (16, 2, 1.30, 1.03),
        (64, 0, 0.085, 0.063),
        (512, 0, 0.004, 0.004),
    ]
    found = [made(a, subset=n, seed=s) for n, s, a, _ in rows]
    found += [made(b, subset=n, seed=s, layout="local_3x3_head", fit=-0.3) for n, s, _, b in rows]
    small = [
        ("global", 0, (5.35, 7.17, 6.01)),
        ("local_3x6_head", -1.5, (4.98, 6.81, 5.44)),
        ("local_3x6_tail", 0, (5.60, 7.10, 6.20)),
        ("local_3x6_mix", 0.2, (5.52, 7.29, 5.98)),
    ]
    return found + [
        made(gap, model="dit_small", layout=layout, subset=8, seed=seed, recipe="small", fit=fit, steps=6000)
        for layout, fit, gaps in small
        for seed, gap in enumerate(gaps)
    ]


def save(records: Sequence[Record], folder: Path) -> Path:
    """Write every record at its place and return the folder."""
    for one in records:
        record.write(one, record.path_of(folder, one.row))
    return folder


def _sha(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()
