"""Features of samples and reference to numbers: value and, where the metric has one, its standard deviation.

The definitions are torch-fidelity's, at its defaults; the Fréchet distances are computed in float64 from streamed
moments (frechet.py). torch-fidelity wants all features of KID, Inception Score, precision and recall in memory:
8 KB an image.
"""

import numpy as np
import torch
from torch import Tensor

from benchmark.quality.features import Features
from benchmark.quality.frechet import frechet_distance

Number = tuple[float, float | None]

SEED = 2020  # torch-fidelity's, of KID's subsets and of the order of the Inception Score's splits
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
SPLITS = 10  # of the Inception Score
NEIGHBOURS = 3  # of precision and recall
ROWS = 1000  # of a distance matrix at a time: 400 MB against 100,000 images


def frechet(samples: Features, reference: Features, layer: str) -> Number:
    """Fréchet distance of one layer: FID on pool, sFID on spatial."""
    return frechet_distance(samples.gaussian(layer), reference.gaussian(layer)), None


def kernel_distance(samples: Features, reference: Features) -> Number:
    """KID (Binkowski et al. 2018): mean and sd over 100 pairs of subsets of 1000 (of all, where there are fewer)."""
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    size = min(KID_SUBSET_SIZE, samples.count, reference.count)
    found = kid_features_to_metric(
        _pool(samples), _pool(reference), kid_subsets=KID_SUBSETS, kid_subset_size=size, rng_seed=SEED, verbose=False
    )
    return found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]


def inception_score(samples: Features) -> Number:
    """Inception Score (Salimans et al. 2016): mean and sd over 10 splits."""
    from torch_fidelity.metric_isc import (
        KEY_METRIC_ISC_MEAN,
        KEY_METRIC_ISC_STD,
        isc_features_to_metric,
    )

    found = isc_features_to_metric(torch.from_numpy(samples.layer("logits")), splits=SPLITS, shuffle=True, rng_seed=SEED)
    return found[KEY_METRIC_ISC_MEAN], found[KEY_METRIC_ISC_STD]


def precision_recall(samples: Features, reference: Features, device: torch.device) -> tuple[Number, Number]:
    """Improved precision and recall (Kynkäänniemi et al. 2019): 3 nearest neighbours, all images of both sides."""
    from torch_fidelity.metric_prc import (
        KEY_METRIC_PRECISION,
        KEY_METRIC_RECALL,
        prc_features_to_metric,
    )

    found = prc_features_to_metric(
        _pool(samples).to(device),
        _pool(reference).to(device),
        prc_neighborhood=NEIGHBOURS,
        prc_batch_size=ROWS,
        save_cpu_ram=True,
        verbose=False,
    )
    return (found[KEY_METRIC_PRECISION], None), (found[KEY_METRIC_RECALL], None)


def _pool(features: Features) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(features.layer("pool")))
