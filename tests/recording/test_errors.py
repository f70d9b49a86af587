"""The errors beside a record: the curves and the page's numbers come back from them, within what float16 rounding allows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark.errors import BenchError
from benchmark.images.datasets import Subset
from benchmark.images.subsets import Peer
from benchmark.pages.membership import membership_gaps
from benchmark.pages.tables import tabulate
from benchmark.recording import errors
from benchmark.recording.record import Record
from benchmark.scoring.measure import by_image, measure, on_device
from benchmark.scoring.result import headline
from tests.records import make_record

SEEDS = (3, 4, 5)
Kept = dict[str, dict[str, np.ndarray]]  # by record, by side


class Shrinking(nn.Module):
    """A network that estimates so much of x as the noise."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.share * x


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], Kept]:
    """Two layouts, three seeds that are each other's peers: records, and what is read back of their errors."""
    generator = np.random.default_rng(0)
    images = {seed: generator.integers(0, 256, (3, 3, 4, 4), dtype=np.uint8) for seed in (*SEEDS, 99)}
    peers = tuple(Peer(seed, 3, images[seed], f"digest {seed}") for seed in SEEDS)
    records, kept, folder = [], {}, tmp_path_factory.mktemp("kept")
    for layout, share in (("global", 0.9), ("local_3x3_head", 0.8)):
        for seed in SEEDS:
            subset = Subset(3, seed, None, (), (), (), images[seed], images[99], "", "", "", 0, peers)
            network = Shrinking(share + seed / 100)
            measured = measure(network, on_device(subset, torch.device("cpu")), seed=seed, steps=5, most=3, peer_pairs=6)
            made = make_record(layout=layout, seed=seed)
            made = replace(made, psnr=measured.psnr, membership=measured.membership, **headline(measured.psnr))
            path = folder / f"{layout}-{seed}.safetensors"
            errors.write(path, {side: by_image(found) for side, found in measured.errors.items()}, made.id, measured.psnr.diffusion_steps)
            records.append(made)
            kept[made.id] = errors.read(path)
    return records, kept


def bound(matrix: np.ndarray) -> float:
    """The most that float16 moves the mean over the steps of a PSNR from this matrix, from the numbers' own spacing."""
    return float(
        np.mean(
            [max(high - value, value - low) for (low, high), value in zip(errors.psnr_ranges(matrix), errors.psnr(matrix), strict=True)]
        )
    )


def test_the_pages_numbers_come_back_from_the_errors(scored: tuple[list[Record], Kept]) -> None:
    records, kept = scored
    (page,), (again,) = tabulate(records), tabulate([errors.recomputed(one, kept[one.id]) for one in records])
    assert [row.series.layout for row in page.rows] == [row.series.layout for row in again.rows] and len(page.rows) == 2
    moved = {(one.row.layout, one.row.seed): {side: bound(matrix) for side, matrix in kept[one.id].items()} for one in records}
    mean = {layout: {side: np.mean([moved[layout, seed][side] for seed in SEEDS]) for side in ("train", "test")} for layout, _ in moved}
    for ours, theirs in zip(page.rows, again.rows, strict=True):
        of = mean[ours.series.layout]
        assert 0 < of["train"] < 4.3e-3 and 0 < of["test"] < 4.3e-3
        assert abs(ours.psnr_train.mean - theirs.psnr_train.mean) <= of["train"]
        assert abs(ours.psnr_test.mean - theirs.psnr_test.mean) <= of["test"]
        assert abs(ours.psnr_gap.mean - theirs.psnr_gap.mean) <= of["train"] + of["test"]  # max(., 0) moves no further
        assert ours.psnr_gap.mean != theirs.psnr_gap.mean  # rounded: nothing was copied
        mine, back = (membership_gaps(row.series.runs) for row in (ours, theirs))
        assert mine.keys() == back.keys() == set(SEEDS)
        for seed in SEEDS:
            unseen = [moved[ours.series.layout, other][f"peer {seed}"] for other in SEEDS if other != seed]
            assert abs(mine[seed] - back[seed]) <= moved[ours.series.layout, seed][f"peer {seed}"] + np.mean(unseen)
    (ours, theirs), total = (
        ([row for row in one.rows if row.equal_steps] for one in (page, again)),
        sum(map(sum, (m.values() for m in mean.values()))),
    )
    assert len(ours) == 1 and abs(ours[0].equal_steps.estimate.mean - theirs[0].equal_steps.estimate.mean) <= total


def test_a_range_holds_every_number_that_rounds_to_the_matrix() -> None:
    roots = np.random.default_rng(0).uniform(1e-7, 2.0, (7, 400)) ** np.linspace(1, 4, 400)  # down to where float16 is coarse, and to 0
    for exact in (roots, np.nextafter(1 + 2.0**-11, 1) * np.ones((1, 3)), (1 - 2.0**-12) * np.ones((1, 3))):
        ranges = errors.psnr_ranges(exact.astype(np.float16))
        for (low, high), mse in zip(ranges, np.square(exact).mean(axis=0), strict=True):
            assert low <= errors.decibel(mse) <= high
    width = [high - low for low, high in errors.psnr_ranges(roots[:, :100].clip(1e-3).astype(np.float16))]
    assert max(width) <= 40 * np.log10(1 + 2.0**-11) + 1e-4 + 2 * errors.SLACK


def test_what_a_record_did_not_give_is_told(scored: tuple[list[Record], Kept], tmp_path: Path) -> None:
    records, kept = scored
    one, matrices = records[0], kept[records[0].id]
    assert errors.disagreements(one, matrices) == []
    louder = dict(matrices) | {"test": matrices["test"] * np.float16(1.01)}
    (said,) = errors.disagreements(one, louder)
    assert "PSNR test at 5 of 5 diffusion steps" in said
    assert "the record has" in errors.disagreements(one, {"test": matrices["test"]})[0]
    assert "float32" in errors.disagreements(one, matrices | {"train": matrices["train"].astype(np.float32)})[0]
    assert len(errors.disagreements(records[1], matrices)) > 1  # of another seed


def test_only_what_gives_the_record_is_kept_beside_it(scored: tuple[list[Record], Kept], tmp_path: Path) -> None:
    (one, other, *_), kept = scored
    path = tmp_path / "records" / "row.json"
    assert not errors.keep(tmp_path, one, path)  # a run without the file
    errors.write(tmp_path / errors.FILE, kept[one.id], one.id, one.psnr.diffusion_steps)
    assert not errors.keep(tmp_path, other, path) and not errors.beside(path).exists()
    assert errors.keep(tmp_path, one, path) and errors.keep(tmp_path, one, path)
    assert errors.disagreements(one, errors.read(tmp_path / "records" / "row.safetensors")) == []
    errors.beside(path).write_bytes(b"no tensors")
    with pytest.raises(BenchError, match="cannot be read"):
        errors.read(errors.beside(path))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn])
def test_numbers_of_a_type_that_numpy_does_not_know_are_named(kind: torch.dtype, tmp_path: Path) -> None:
    save_file({"train": torch.ones(3, 5).to(kind)}, tmp_path / "odd.safetensors")
    with pytest.raises(BenchError, match="odd.safetensors cannot be read"):
        errors.read(tmp_path / "odd.safetensors")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("side", "said"), [(np.zeros((0, 5)), "not one float16"), (np.full((3, 5), np.nan), "no finite numbers")])
def test_errors_that_are_none_are_named(side: np.ndarray, said: str, scored: tuple[list[Record], Kept]) -> None:
    made = scored[0][0]
    (found,) = errors.disagreements(made, scored[1][made.id] | {"test": side.astype(np.float16)})
    assert said in found
