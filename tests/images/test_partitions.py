"""registry/datasets/partitions.py: an entry takes one or more partitions, each once."""

import pytest

from benchmark.declaring.spec import resolve
from benchmark.errors import UsageError


@pytest.mark.parametrize("dataset", ["celeba", "cifar10"])
@pytest.mark.parametrize("partitions", ["()", "('train', 'train')"])
def test_no_partition_or_one_named_twice_is_refused(dataset: str, partitions: str) -> None:
    row = {"model": "dit_mini", "layout": "global", "dataset": dataset, "recipe": "smoke"}
    with pytest.raises(UsageError, match="must name one or more of train, .*, each once"):
        resolve(row, subset=16, seed=0, overrides=[f"dataset.partitions={partitions}"])
