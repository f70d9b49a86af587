"""Real records of made-up runs: what the tests of records and of the leaderboard have to hand."""

from collections.abc import Mapping

from benchmark.declaring.spec import spec_id
from benchmark.recording.analyses import Analysis
from benchmark.recording.record import (
    Budget,
    Curves,
    Data,
    Environment,
    Point,
    Psnr,
    Record,
)

ENVIRONMENT = Environment(
    benchmark="0.1.0", commit=None, modified=None, python="3.11", torch="2.15", platform="Linux x86_64", processor="none"
)
BUDGET = Budget(
    steps=10,
    device="cpu",
    threads=1,
    wall_seconds=1.0,
    evaluation_seconds=0.5,
    peak_memory_bytes=1,
    resumed=0,
    parameters=10,
    parameters_trainable=9,
    forward_flops=100,
)
DATA = Data(manifest_sha256="0" * 64, train_sha256="1" * 64, test_sha256="2" * 64, dropped_duplicates=0)


def make_record(
    *,
    model: str = "dit_mini",
    layout: str = "global",
    dataset: str = "dead_leaves8",
    recipe: str = "mini",
    subset: int = 16,
    seed: int = 0,
    train: tuple[float, ...] = (20.0, 10.0),
    test: tuple[float, ...] = (19.0, 10.5),
    trajectory: tuple[tuple[int, float, float], ...] = (),
    ranked: bool = True,
    metric_version: str = "psnr-1",
) -> Record:
    """Return a valid record with these curves (dB per diffusion step) and trajectory (step, PSNR train, PSNR test)."""
    spec = {
        axis: {"name": name, "kind": f"made.up:{axis}", "config": {}}
        for axis, name in (("model", model), ("layout", layout), ("dataset", dataset))
    }
    spec |= {
        "recipe": {"name": recipe, "kind": "benchmark.recipe:Recipe", "config": {"ranked": ranked, "steps": 10}},
        "subset": subset,
        "seed": seed,
    }
    curves = Curves(train=train, test=test)
    measured = Psnr(
        diffusion_steps=tuple(range(len(train))),
        images_train=4,
        images_test=4,
        draws_train=1,
        draws_test=1,
        clipped=curves,
        unclipped=curves,
        literal=curves,
        noise_mse=Curves(train=(0.1,) * len(train), test=(0.2,) * len(train)),
    )
    points = tuple(Point(step=s, loss=0.1, psnr_train=a, psnr_test=b, psnr_gap=max(a - b, 0.0)) for s, a, b in trajectory)
    return Record(
        schema=1,
        id=spec_id(spec),
        metric_version=metric_version,
        spec=spec,
        overrides=(),
        assumed=(),
        psnr_train=sum(train) / len(train),
        psnr_test=sum(test) / len(test),
        psnr_gap=sum(curves.gap) / len(train),
        psnr=measured,
        trajectory=points,
        scores={},
        training=BUDGET,
        data=DATA,
        weights_sha256="3" * 64,
        environment=ENVIRONMENT,
        created="2026-01-01T00:00:00+00:00",
    )


def make_analysis(of: Record, what: str, numbers: Mapping[str, float], settings: Mapping[str, object] | None = None) -> Analysis:
    """Return an analysis of the very weights of a record."""
    return Analysis(
        what=what,
        schema=1,
        run=of.id,
        spec=of.row._asdict(),
        weights_sha256=of.weights_sha256,
        settings=dict(settings or {}),
        numbers=dict(numbers),
        seconds=1.0,
    )
