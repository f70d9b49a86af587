"""The training images of several seeds that no other of them trains on: what the membership gap is measured with."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmark.images.manifest import Manifest
from benchmark.images.packing import Packed, digest
from benchmark.images.subsets import Peer, training_indices

LEAST = 16  # images of one's own; of a smaller subset, three quarters of it


def peers_of(packed: Packed, dataset_name: str, size: int, seeds: Sequence[int], most: int) -> tuple[Peer, ...]:
    """Return each seed's own images, at most `most`: a function of the dataset, the size of the subset and the seeds alone.

    An image counts by its bytes: a copy of another peer's is not its own.
    """
    first_of = _first_copies(packed.manifest)
    indices = {seed: training_indices(packed, dataset_name, size, seed) for seed in seeds}
    contents = {seed: [first_of.get(packed.ids[i], packed.ids[i]) for i in mine] for seed, mine in indices.items()}
    holders = Counter(content for mine in contents.values() for content in set(mine))
    made = []
    for seed in seeds:
        own = [i for i, content in zip(indices[seed], contents[seed], strict=True) if holders[content] == 1]
        taken = own[:most] if len(own) >= least(size) else []
        images = np.asarray(packed.images[taken])
        made.append(Peer(seed, len(own), images, digest(images), None if packed.labels is None else packed.labels[taken]))
    return tuple(made)


def least(size: int) -> int:
    """Return how many images of its own a seed needs for its membership gap."""
    return min(LEAST, -(-3 * size // 4))


def _first_copies(described: Manifest) -> dict[str, str]:
    return {image_id: group[0] for group in described.duplicates for image_id in group}
