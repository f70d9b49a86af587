"""benchmark/scoring/psnr.py against a float64 loop over the formulas of the paper, and closed forms."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark.networks.diffusion import random_key
from benchmark.recording.record import mean
from benchmark.scoring.partial import PartialScores
from benchmark.scoring.psnr import BATCH, batch_for, psnr, splits


class Toy(nn.Module):
    """A cheap network whose estimate depends on the image, the neighbourhood and the step."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.kernel = nn.Parameter(torch.randn(3, 3, 3, 3, generator=generator) * 0.2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.kernel, padding=1) * (1 + t.view(-1, 1, 1, 1) / 1000)


def images(count: int, seed: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture
def sides() -> tuple[Tensor, Tensor]:
    return images(3, 0), images(7, 1)


def test_curves_equal_the_formulas_written_out(sides: tuple[Tensor, Tensor]) -> None:
    """Eq. 2-4, one pixel after the other in float64, from nothing but the definition."""
    network, steps = Toy(), [0, 333, 666, 999]
    got = psnr(network, *sides, seed=4, steps=4, images=6)
    assert list(got.diffusion_steps) == steps
    assert (got.images_train, got.images_test, got.draws_train, got.draws_test) == (3, 6, 2, 1)
    for side, pool, draws in (("train", sides[0], 2), ("test", sides[1][:6], 1)):
        for place, t in enumerate(steps):
            abar = math.prod(1 - (1e-4 + (0.02 - 1e-4) * s / 999) for s in range(t + 1))
            sums = dict.fromkeys(("clipped", "unclipped", "literal", "noise_mse"), 0.0)
            for k in range(len(pool)):
                for draw in range(draws):
                    generator = torch.Generator().manual_seed(random_key("psnr", 4, side, k, draw, t))
                    noise = torch.randn(3, 4, 4, generator=generator)
                    x0 = pool[k].double() / 127.5 - 1
                    xt = math.sqrt(abar) * x0 + math.sqrt(1 - abar) * noise.double()
                    eps = network(xt.float()[None], torch.tensor([t]))[0].detach().double()
                    literal = xt - math.sqrt(1 - abar) * eps
                    unclipped = literal / math.sqrt(abar)
                    pairs = {
                        "clipped": (unclipped.clamp(-1, 1), x0),
                        "unclipped": (unclipped, x0),
                        "literal": (literal, x0),
                        "noise_mse": (eps, noise.double()),
                    }
                    for name, (a, b) in pairs.items():
                        sums[name] += sum((p - q) ** 2 for p, q in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)) / 48
            for name, total in sums.items():
                mse = total / (len(pool) * draws)
                want = mse if name == "noise_mse" else 10 * (math.log10(4) - math.log10(mse))
                assert getattr(getattr(got, name), side)[place] == pytest.approx(want, abs=2e-4), (side, t, name)


def test_result_does_not_depend_on_the_batch_size(sides: tuple[Tensor, Tensor]) -> None:
    whole = psnr(Toy(), *sides, seed=0, steps=5, images=7, batch=1000)
    for batch in (1, 3, 32):
        parts = psnr(Toy(), *sides, seed=0, steps=5, images=7, batch=batch)
        for name in ("clipped", "unclipped", "literal"):
            for side in ("train", "test"):
                a, b = getattr(getattr(whole, name), side), getattr(getattr(parts, name), side)
                assert max(abs(x - y) for x, y in zip(a, b, strict=True)) < 1e-4


def test_unclipped_gap_is_the_ratio_of_the_noise_errors(sides: tuple[Tensor, Tensor]) -> None:
    got = psnr(Toy(), *sides, seed=0, steps=5, images=7)
    for place, gap in enumerate(got.unclipped.gap):
        ratio = 10 * math.log10(got.noise_mse.test[place] / got.noise_mse.train[place])
        assert gap == pytest.approx(max(ratio, 0.0), abs=1e-3)


def test_a_network_that_knows_nothing_has_a_known_psnr() -> None:
    """eps_hat = 0 leaves the whole noise: the mean squared noise is 1, and the literal reading errs by x_t - x_0."""

    class Zero(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.zeros_like(x)

    got = psnr(Zero(), images(300, 0), images(300, 1), seed=0, steps=1, images=300)
    assert got.noise_mse.test[0] == pytest.approx(1.0, abs=0.05)
    assert got.clipped.gap[0] < 0.3


def test_models_and_subsets_meet_the_same_noise() -> None:
    """The first images of a larger subset are scored on the noise that they had in the smaller one."""

    class Echo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Tensor] = []

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            self.seen.append(x)
            return x

    few, many = Echo(), Echo()
    psnr(few, images(4, 0)[:2], images(4, 1), seed=0, steps=1, images=4, batch=1)
    psnr(many, images(4, 0), images(4, 1), seed=0, steps=1, images=4, batch=1)
    assert torch.equal(few.seen[0], many.seen[0])  # image 0, draw 0
    assert torch.equal(few.seen[2], many.seen[1])  # image 1, draw 0
    assert torch.equal(few.seen[4], many.seen[4])  # the first test image


def test_network_is_left_in_its_mode() -> None:
    network = Toy().train()
    psnr(network, images(2, 0), images(2, 1), seed=0, steps=1, images=2)
    assert network.training


def test_few_training_images_get_several_draws() -> None:
    train, test = splits(images(10, 0), images(300, 1), 300, 0)
    assert (len(train.images), train.draws, len(test.images), test.draws) == (10, 30, 300, 1)
    train, test = splits(images(1000, 0), images(300, 1), 300, 0)
    assert (len(train.images), train.draws) == (300, 1)


def test_mean() -> None:
    assert mean((1.0, 2.0, 6.0)) == 3.0


class Counting(Toy):
    """A network that counts its passes, is stopped in one of them, and refuses more images at a time than fit."""

    def __init__(self, stop_at: int | None = None, most: int = 1000) -> None:
        super().__init__()
        self.passes, self.stop_at, self.most = 0, stop_at, most

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.passes += 1
        if self.passes == self.stop_at:
            raise KeyboardInterrupt
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(x, t)


def test_a_scoring_that_was_killed_goes_on_and_ends_with_the_same_numbers(sides: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    """36 and 42 pairs in batches of 8: 5 and 6 batches. The tenth is never finished; nine are not computed again."""
    settings = {"seed": 1, "steps": 6, "images": 7, "batch": 8}
    whole, path = psnr(Counting(), *sides, **settings), tmp_path / "partial.safetensors"
    with pytest.raises(KeyboardInterrupt):
        psnr(Counting(stop_at=10), *sides, **settings, partial=PartialScores(path, "these weights", seconds=0))
    again = Counting()
    assert psnr(again, *sides, **settings, partial=PartialScores(path, "these weights", seconds=0)) == whole
    assert again.passes == 11 - 9
    path.write_bytes(path.read_bytes()[:-5])  # a damaged file, and then one of other weights, count as none
    for identity_now in ("these weights", "other weights"):
        other = Counting()
        assert psnr(other, *sides, **settings, partial=PartialScores(path, identity_now, seconds=0)) == whole
        assert other.passes == 11
    PartialScores(path, "").drop()
    assert list(tmp_path.iterdir()) == []


def test_a_partial_turn_of_several_processes_is_taken_again(tmp_path: Path) -> None:
    """Three batches are kept; two processes take them two at a time, so that the third belongs to a turn that is not whole."""
    first = PartialScores(tmp_path / "file", "x", seconds=1e9)
    parts = [torch.full((4, 2), float(i)) for i in range(3)]
    for i, part in enumerate(parts):
        first.keep("train", 2 * i, part)
    first.write()
    resumed = PartialScores(tmp_path / "file", "x", seconds=1e9)
    assert torch.equal(resumed.errors("train", 0, 4), torch.cat(parts[:2], dim=1))
    assert resumed.errors("train", 4, 4) is None
    resumed.keep("train", 4, torch.cat([parts[2], parts[0]], dim=1))
    resumed.write()
    final = PartialScores(tmp_path / "file", "x")
    assert torch.equal(final.errors("train", 0, 8), torch.cat([*parts, parts[0]], dim=1))


def test_a_batch_on_a_cpu_holds_as_many_pixels_whatever_their_size_where_the_network_is_of_linear_layers() -> None:
    """64 images of 8 x 8, which is what the committed rows of that size were scored with; convolutions take all at once."""
    linear = nn.Linear(4, 4)
    sizes = {side: batch_for(linear, torch.zeros(1, 3, side, side, dtype=torch.uint8)) for side in (2, 8, 16, 32, 64)}
    assert sizes == {2: BATCH, 8: 64, 16: 16, 32: 8, 64: 8}
    assert batch_for(Toy(), torch.zeros(1, 3, 16, 16)) == batch_for(linear, torch.zeros(1, 3, 16, 16, device="meta")) == BATCH


def test_a_batch_that_does_not_fit_is_scored_in_halves(sides: tuple[Tensor, Tensor]) -> None:
    whole, small = psnr(Toy(), *sides, seed=0, steps=5, images=7), Counting(most=9)
    parts = psnr(small, *sides, seed=0, steps=5, images=7)
    assert small.passes == 2 + 4 + 2 + 4  # 8 fit of the 30 pairs of one side, 9 of the 35 of the other: two attempts each
    for side in ("train", "test"):
        assert getattr(parts.clipped, side) == pytest.approx(getattr(whole.clipped, side), abs=1e-4)
