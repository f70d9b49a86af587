"""What keeping features costs beside the bare network's forward passes: at least 0.9 of its throughput."""

import statistics
import time
from pathlib import Path

import torch

from benchmark.quality import inception
from benchmark.quality.features import extract
from tests.inception_weights import images, save

ROUNDS = 5


def test_features_keep_nine_tenths_of_the_bare_forward_throughput(tmp_path: Path) -> None:
    """Interleaved rounds of the same images; CPU seconds, or seconds where a GPU does the work."""
    torch.set_num_threads(1)
    cuda = torch.cuda.is_available()
    device, count, batch = (torch.device("cuda"), 2048, 64) if cuda else (torch.device("cpu"), 16, 8)
    made = inception.extractor(save(tmp_path / "formula.pth"), device, allow_other=True)
    stack = images(count, 0)

    def bare() -> None:
        with torch.no_grad():
            for start in range(0, count, batch):
                made.network(torch.from_numpy(stack[start : start + batch]).to(device))
        if cuda:
            torch.cuda.synchronize()

    bare()
    clock, ratios = time.perf_counter if cuda else time.process_time, []
    for number in range(ROUNDS):
        began = clock()
        bare()
        between = clock()
        extract(made, stack, tmp_path / str(number), "images", device=device, batch=batch)
        ratios.append((between - began) / (clock() - between))
    print(f"throughput of extraction / bare forward: {[round(ratio, 3) for ratio in ratios]}")
    assert statistics.median(ratios) >= 0.9, ratios
