"""The membership gap: whose images, which noise, known answers; from the scoring to the numbers that records give."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.contract import ImageShape
from benchmark.images.datasets import Subset
from benchmark.images.peers import least
from benchmark.images.subsets import Peer
from benchmark.networks.diffusion import random_key
from benchmark.pages.membership import gaps_along, membership_gaps
from benchmark.pages.statistics import estimate
from benchmark.recording import errors as kept
from benchmark.recording.record import Point, Record
from benchmark.scoring.measure import Measured, by_image, measure, of_trajectory, on_device
from registry.backbones.reference import EmpiricalOptimal, Wiener
from tests.records import make_record

CPU = torch.device("cpu")


class Toy(nn.Module):
    """A cheap network whose estimate depends on the image, the neighbourhood and the step."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(seed)) * 0.2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.kernel, padding=1) * (1 + t.view(-1, 1, 1, 1) / 1000)


def images(count: int, seed: int, side: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def subset(seed: int, peers: dict[int, np.ndarray], test: np.ndarray) -> Subset:
    """The subset of one of several seeds that share no image."""
    made = tuple(Peer(peer, len(own), own, f"digest {peer}") for peer, own in peers.items())
    train = peers[seed]
    return Subset(len(train), seed, None, (), (), (), train, test, "", "", "", 0, made)


def scored(network: nn.Module, seed: int, peers: dict[int, np.ndarray], **sizes: int) -> Measured:
    return measure(
        network, on_device(subset(seed, peers, images(8, 99)), CPU), seed=seed, **({"steps": 4, "most": 8, "peer_pairs": 6} | sizes)
    )


def record_of(seed: int, measured: Measured, trajectory: tuple[Point, ...] = ()) -> Record:
    return replace(make_record(seed=seed), membership=measured.membership, trajectory=trajectory)


def fitted(spec: EmpiricalOptimal | Wiener, train: np.ndarray) -> nn.Module:
    network = spec.build(ImageShape(3, train.shape[2]), ())
    network.fit(torch.from_numpy(train))
    return network.eval()


def test_every_run_meets_a_peers_images_with_the_peers_noise() -> None:
    """One pixel after the other in float64, from nothing but the definition."""
    peers = {3: images(2, 0), 5: images(3, 1)}
    for own in peers:  # whoever scores
        measured = scored(Toy(0), own, peers)
        assert [peer.seed for peer in measured.membership.peers] == [3, 5]
        for peer in measured.membership.peers:
            count, draws = len(peers[peer.seed]), 6 // len(peers[peer.seed])
            assert (peer.images, peer.draws) == (count, draws)
            for place, t in enumerate((0, 333, 666, 999)):
                abar = math.prod(1 - (1e-4 + (0.02 - 1e-4) * s / 999) for s in range(t + 1))
                total = 0.0
                for k in range(count):
                    for draw in range(draws):
                        key = random_key("psnr", peer.seed, f"peer {peer.seed}", k, draw, t)
                        noise = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(key)).double()
                        x0 = torch.from_numpy(peers[peer.seed][k]).double() / 127.5 - 1
                        xt = math.sqrt(abar) * x0 + math.sqrt(1 - abar) * noise
                        eps = Toy(0)(xt.float()[None], torch.tensor([t]))[0].detach().double()
                        clean = ((xt - math.sqrt(1 - abar) * eps) / math.sqrt(abar)).clamp(-1, 1)
                        total += float(sum((a - b) ** 2 for a, b in zip(clean.flatten().tolist(), x0.flatten().tolist(), strict=True))) / 48
                want = 10 * (math.log10(4) - math.log10(total / count / draws))
                assert peer.psnr[place] == pytest.approx(want, abs=2e-4)


def test_the_gap_from_records_is_the_mean_of_seen_less_unseen() -> None:
    peers = {0: images(3, 0), 1: images(3, 1), 4: images(3, 2)}
    measured = {seed: scored(Toy(seed), seed, peers) for seed in peers}
    found = membership_gaps({seed: record_of(seed, one) for seed, one in measured.items()})
    curves = {seed: {peer.seed: peer.psnr for peer in one.membership.peers} for seed, one in measured.items()}
    for i in peers:
        differences = [a - b for j in peers if j != i for a, b in zip(curves[i][i], curves[j][i], strict=True)]
        assert found[i] == pytest.approx(sum(differences) / len(differences), abs=1e-9)
    assert any(value < 0 for value in found.values())  # signed: these networks saw nothing


def test_too_few_images_and_missing_peers_leave_a_seed_out() -> None:
    few = np.zeros((0, 3, 4, 4), dtype=np.uint8)
    peers = {0: images(3, 0), 1: few}
    runs = {seed: record_of(seed, scored(Toy(seed), seed, peers | {seed: peers[seed]})) if len(peers[seed]) else None for seed in peers}
    alone = {0: runs[0]}
    assert membership_gaps(alone) == {}
    assert [(peer.images, peer.psnr) for peer in runs[0].membership.peers][1] == (0, ())
    other = record_of(1, scored(Toy(1), 0, {0: peers[0], 1: few}))
    assert set(membership_gaps({0: runs[0], 1: other})) == {0}
    changed = replace(other.membership.peers[0], sha256="other images")
    other = replace(other, membership=replace(other.membership, peers=(changed, other.membership.peers[1])))
    assert membership_gaps({0: runs[0], 1: other}) == {}


@pytest.mark.parametrize(("size", "want"), [(1, 1), (4, 3), (8, 6), (16, 12), (21, 16), (64, 16), (512, 16)])
def test_how_many_images_are_enough(size: int, want: int) -> None:
    assert least(size) == want


def test_an_optimal_denoiser_of_one_image_has_a_known_gap() -> None:
    """It always answers with its image: seen, the error is what rounding leaves; unseen, the distance of the two images."""
    peers = {0: images(1, 0, 8), 1: images(1, 1, 8)}
    steps = 3
    measured = {
        seed: measure(
            fitted(EmpiricalOptimal(), own),
            on_device(subset(seed, peers, images(2, 9, 8)), CPU),
            seed=seed,
            steps=steps,
            most=2,
            peer_pairs=2,
        )
        for seed, own in peers.items()
    }
    found = membership_gaps({seed: record_of(seed, one) for seed, one in measured.items()})
    a, b = (peers[seed].astype(np.float64) / 127.5 - 1 for seed in (0, 1))
    unseen = 10 * math.log10(4 / np.square(a - b).mean())
    for seed, value in found.items():
        seen = next(peer.psnr for peer in measured[seed].membership.peers if peer.seed == seed)
        assert min(seen) > 90
        assert value == pytest.approx(sum(seen) / steps - unseen, abs=0.02)


def test_a_denoiser_fitted_on_other_images_has_no_gap() -> None:
    generator = np.random.default_rng(0)
    smooth = np.kron(generator.integers(0, 256, (264, 3, 2, 2)), np.ones((1, 1, 4, 4))).astype(np.uint8)
    peers = {0: smooth[:32], 1: smooth[32:64]}
    elsewhere = {0: smooth[64:164], 1: smooth[164:]}
    runs = {
        seed: record_of(
            seed,
            measure(
                fitted(Wiener(), elsewhere[seed]),
                on_device(subset(seed, peers, smooth[64:72]), CPU),
                seed=seed,
                steps=6,
                most=8,
                peer_pairs=64,
            ),
        )
        for seed in peers
    }
    found = membership_gaps(runs)
    assert len(found) == 2 and all(abs(value) < 0.15 for value in found.values())


def test_a_point_of_the_trajectory_keeps_the_halves_and_the_peers() -> None:
    peers = {0: images(3, 0), 1: images(3, 1)}
    points = {}
    for seed in peers:
        measured = scored(Toy(seed), seed, peers)
        point = of_trajectory(measured)
        even, odd = (measured.errors["test"][0, first::2, 0].mean(dim=0) for first in (0, 1))
        want = [sum(10 * math.log10(4 / mse) for mse in half.tolist()) / 4 for half in (even, odd)]
        assert point["psnr_test_halves"] == pytest.approx(want, abs=1e-9)
        points[seed] = Point(step=10, loss=0.0, psnr_train=1.0, psnr_test=1.0, psnr_gap=0.0, **point)
    runs = {seed: record_of(seed, scored(Toy(seed), seed, peers), (points[seed],)) for seed in peers}
    along, final = gaps_along(runs), membership_gaps(runs)
    assert {seed: steps[10] for seed, steps in along.items()} == pytest.approx(final, abs=1e-9)


def test_the_numbers_of_a_record_follow_from_the_kept_errors(tmp_path: Path) -> None:
    peers = {0: images(3, 0), 1: images(3, 1)}
    measured = scored(Toy(0), 0, peers)
    path = tmp_path / kept.FILE
    kept.write(path, {name: by_image(found) for name, found in measured.errors.items()}, "id", measured.psnr.diffusion_steps)
    found = kept.read(path)
    assert found["train"].shape == (3, 4) and found["train"].dtype == np.float16
    assert kept.psnr(found["train"]) == pytest.approx(measured.psnr.clipped.train, abs=5e-3)
    assert kept.psnr(found["test"]) == pytest.approx(measured.psnr.clipped.test, abs=5e-3)
    for peer in measured.membership.peers:
        assert kept.psnr(found[f"peer {peer.seed}"]) == pytest.approx(peer.psnr, abs=5e-3)


@pytest.mark.parametrize("spread_of_networks", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("seeds", [3, 6])
def test_the_interval_over_seeds_covers(spread_of_networks: float, seeds: int) -> None:
    """The m_i share networks; still the t-interval of their mean holds the truth in at least 93 of 100 experiments.

    PSNR of network i on the images of k: difficulty of k + quality of i + the gap where i = k + noise.
    """
    generator, covered, repetitions, truth = np.random.default_rng(0), 0, 3000, 0.3
    for _ in range(repetitions):
        psnr = generator.normal(0, 1.0, seeds)[None] + generator.normal(0, spread_of_networks, seeds)[:, None]
        psnr = psnr + generator.normal(0, 0.1, (seeds, seeds)) + np.diag(truth + generator.normal(0, 0.3, seeds))
        gaps = [psnr[i, i] - np.delete(psnr[:, i], i).mean() for i in range(seeds)]
        found = estimate(gaps)
        covered += found.low <= truth <= found.high
    assert covered / repetitions >= 0.93
