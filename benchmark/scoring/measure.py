"""All that is scored of a network at one moment, with one kind of pass: its own images, the test images, its peers' images."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.images.datasets import Subset
from benchmark.networks.diffusion import respaced
from benchmark.recording.record import MEMBERSHIP_VERSION, NO_CLASS_VERSION, Membership, PeerCurve, Psnr, Unlabelled, mean
from benchmark.running.processes import ALONE, Processes
from benchmark.scoring.partial import PartialScores
from benchmark.scoring.psnr import Progress, Split, clipped, curves, draws_for, splits, squared_errors


class PeerImages(NamedTuple):
    """A peer's own images on the device; none where too few are left."""

    seed: int
    left: int
    images: Tensor  # (K, C, R, R) uint8
    digest: str
    labels: Tensor | None  # (K,)


class Images(NamedTuple):
    """The images of a run on the device, uint8 (N, C, R, R), and their labels (N,) where it takes any."""

    train: Tensor
    test: Tensor
    peers: tuple[PeerImages, ...]
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None


class Measured(NamedTuple):
    """PSNR curves, those on the peers' images, those without labels, and the squared errors that all come from, by side."""

    psnr: Psnr
    membership: Membership | None
    errors: dict[str, Tensor]  # (4 readings, images, draws, steps): 'train', 'test', 'peer 6', 'train unlabelled', …
    unlabelled: Unlabelled | None = None


def on_device(subset: Subset, device: torch.device) -> Images:
    """Return the images of a subset on a device."""

    def labels(found: np.ndarray | None) -> Tensor | None:
        return None if found is None else torch.from_numpy(found.astype(np.int64)).to(device)

    train, test = torch.from_numpy(subset.train).to(device), torch.from_numpy(subset.test).to(device)
    peers = tuple(
        PeerImages(one.seed, one.left, torch.from_numpy(one.images).to(device), one.digest, labels(one.labels)) for one in subset.peers
    )
    return Images(train, test, peers, labels(subset.train_labels), labels(subset.test_labels))


def digests(subset: Subset) -> dict[str, str]:
    """Return the digests of the images that a run is trained and tested on, and of their labels where it takes any."""
    images = {"train_sha256": subset.digest, "test_sha256": subset.test_digest}
    return images | ({"labels_sha256": subset.labels_digest} if subset.labels_digest else {})


def measure(
    network: nn.Module,
    images: Images,
    *,
    seed: int,
    steps: int,
    most: int,
    peer_pairs: int = 0,
    no_class: int | None = None,
    progress: Progress | None = None,
    processes: Processes = ALONE,
    partial: PartialScores | None = None,
) -> Measured:
    """Score a network at `steps` diffusion steps on `most` training and test images, and on `peer_pairs` pairs of each peer.

    The noise of a peer's images belongs to the peer, so that every peer meets it, and each image gets as many draws as
    make `peer_pairs` pairs. With `no_class`, the label of no class, the training and test images are scored once more with it.
    """
    pair = splits(images.train, images.test, most, seed)
    if images.train_labels is not None and images.test_labels is not None:
        both = zip(pair, (images.train_labels, images.test_labels), strict=True)
        pair = tuple(side._replace(labels=labels[: len(side.images)]) for side, labels in both)  # type: ignore[assignment]  # two, as before
    shared = [peer for peer in images.peers if len(peer.images) and peer_pairs]
    without = [] if no_class is None else [_unlabelled(side, no_class) for side in pair]
    sides = [*pair, *(_side(peer, peer_pairs) for peer in shared), *without]
    errors = squared_errors(network, sides, steps=steps, progress=progress, processes=processes, partial=partial)
    by_name = {side.name: found for side, found in zip(sides, errors, strict=True)}
    membership = _membership(images.peers, sides, by_name, steps) if images.peers else None
    unlabelled = _of_no_class(curves(without, errors[-2:], steps)) if without else None
    return Measured(curves(pair, errors[:2], steps), membership, by_name, unlabelled)


def _unlabelled(side: Split, no_class: int) -> Split:
    """Return the same images under the same noise, all of no class."""
    labels = torch.full((len(side.images),), no_class, device=side.images.device)
    return side._replace(name=f"{side.name} unlabelled", labels=labels, noise_of=side.name)


def _of_no_class(found: Psnr) -> Unlabelled:
    means = {"psnr_train": found.psnr_train, "psnr_test": found.psnr_test, "psnr_gap": found.psnr_gap}
    return Unlabelled(metric_version=NO_CLASS_VERSION, psnr=found, **means)


def of_trajectory(measured: Measured) -> dict[str, Any]:
    """Return what a point of the trajectory keeps beside the headline: PSNR on each half of the test images and on each peer's."""
    test = measured.errors["test"]
    found: dict[str, Any] = {}
    if test.shape[1] > 1:
        found["psnr_test_halves"] = tuple(mean(clipped(test[:, first::2])) for first in (0, 1))
    if measured.membership:
        found["psnr_peers"] = tuple(mean(peer.psnr) if peer.psnr else None for peer in measured.membership.peers)
    return found


def _side(peer: PeerImages, pairs: int) -> Split:
    images = peer.images[:pairs]
    labels = None if peer.labels is None else peer.labels[:pairs]
    return Split(_name(peer.seed), images, draws_for(len(images), pairs), peer.seed, labels)


def _name(seed: int) -> str:
    return f"peer {seed}"


def _membership(peers: Sequence[PeerImages], sides: Sequence[Split], errors: dict[str, Tensor], steps: int) -> Membership:
    scored = {side.name: side for side in sides}
    made = []
    for peer in peers:
        side = scored.get(_name(peer.seed))
        made.append(
            PeerCurve(
                seed=peer.seed,
                left=peer.left,
                images=len(side.images) if side else 0,
                draws=side.draws if side else 0,
                sha256=peer.digest,
                psnr=clipped(errors[side.name]) if side else (),
            )
        )
    return Membership(version=MEMBERSHIP_VERSION, diffusion_steps=tuple(respaced(steps)), peers=tuple(made))


def by_image(errors: Tensor) -> np.ndarray:
    """Return the root of the mean over the draws of each image's squared error, clipped reading: (images, steps), float16."""
    return errors[0].mean(dim=1).sqrt().numpy().astype(np.float16)
