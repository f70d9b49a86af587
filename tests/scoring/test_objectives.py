"""A run under another objective, from its training to its record, its samples and its analyses."""

from pathlib import Path

import numpy as np
import pytest
import torch

import benchmark
from benchmark import run
from benchmark.analysis.representations import stages
from benchmark.errors import UsageError
from benchmark.networks.denoiser import NoiseEstimate
from benchmark.recording.record import METRIC_VERSION
from benchmark.running.place import here
from benchmark.running.progress import Display
from benchmark.training.beforehand import check_trainable
from tests.conftest import ENTRIES

WORDS = ["recipe.prediction=flow", "recipe.weighting=min_snr", "recipe.noise_schedule=straight", "recipe.learning_rate=1e-2"]


def test_a_run_under_another_objective_is_scored_sampled_and_scored_again_as_one_denoiser(home: Path) -> None:
    names = {"model": "dit_tiny", "layout": "global", "dataset": "leaves_tiny", "recipe": "tiny"}
    plain = benchmark.resolve(**names, subset=6, registry=[ENTRIES])
    spec = benchmark.resolve(**names, subset=6, overrides=WORDS, registry=[ENTRIES])
    assert spec.id != plain.id
    assert not {"prediction", "weighting", "noise_schedule", "min_snr_gamma"} & plain.to_json()["recipe"]["config"].keys()
    made = benchmark.run(spec, device="cpu")
    assert made.metric_version == METRIC_VERSION  # the same noisy images, levels and formula: another way to x0_hat
    assert made.trajectory[-1].loss < made.trajectory[0].loss
    trained = benchmark.load(made, device="cpu", registry=[ENTRIES])
    assert isinstance(trained.network, NoiseEstimate) and not trained.network.network.training
    again = benchmark.score(trained.network, trained.images.train, trained.images.test, steps=3, images=8)
    assert again.clipped == made.psnr.clipped
    assert benchmark.score(trained.network.network, trained.images.train, trained.images.test, steps=3, images=8) != again
    place = here("cpu", None)
    with Display() as display:
        rescored = run.evaluate(place.folder(spec), place, display, (ENTRIES,))
    assert rescored.psnr == made.psnr and rescored.weights_sha256 == made.weights_sha256
    assert [name for name, _ in stages(trained.network)] == ["block 1", "block 2"]
    images = benchmark.sample(trained, 2, sampler="dpm", steps=4)
    assert images.shape == (2, 3, 8, 8) and images.dtype == np.uint8
    x, t = torch.randn(2, 3, 8, 8, requires_grad=True), torch.tensor([10, 900])
    assert torch.autograd.grad(trained.network(x, t).sum(), x)[0].abs().sum() > 0


TABLE = """
import torch
from torch import nn
from benchmark.contract import entry


@entry(kind="steps_in_a_table")
class TableNet:
    width: int = 3

    attention_layers = 0

    def build(self, images, attention):
        return Network(images.channels)


class Network(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.table = nn.Embedding(1000, channels)

    def forward(self, x, t, y=None):
        return x * self.table(t)[:, :, None, None]
"""


def test_a_network_that_knows_whole_steps_alone_is_refused_before_it_trains(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "backbones"
    folder.mkdir(parents=True)
    (folder / "table_net.py").write_text(TABLE)
    (folder / "table_net.gin").write_text("# Steps in a table\nimport table_net\n\nTableNet.width = 3\n")
    names = {"model": "table_net", "layout": "global", "dataset": "leaves_tiny", "recipe": "tiny"}
    places = [ENTRIES, tmp_path / "mine"]
    straight = benchmark.resolve(**names, subset=6, overrides=["recipe.noise_schedule=straight"], registry=places)
    with pytest.raises(UsageError, match="'table_net' takes whole diffusion steps alone"):
        check_trainable(straight)
    check_trainable(benchmark.resolve(**names, subset=6, overrides=["recipe.prediction=flow"], registry=places))
    check_trainable(benchmark.resolve(**names | {"model": "wiener"}, subset=6, overrides=["recipe.noise_schedule=cosine"], registry=places))


@pytest.mark.parametrize("model", ["dit_mini", "dit_mini_gpsa", "dit_mini_diverse", "unet_mini", "unet_simple", "bf_cnn"])
def test_every_kind_of_network_of_the_registry_can_be_scored_along_another_schedule(model: str) -> None:
    names = {"model": model, "layout": "global", "dataset": "dead_leaves8", "recipe": "mini_flow_matching"}
    check_trainable(benchmark.resolve(**names, subset=16))


def test_an_objective_that_does_not_exist_is_named() -> None:
    with pytest.raises(UsageError, match="'noise', 'data', 'velocity', 'flow'"):
        benchmark.resolve(
            model="dit_mini", layout="global", dataset="dead_leaves8", recipe="mini", subset=16, overrides=["recipe.prediction=epsilon"]
        )
