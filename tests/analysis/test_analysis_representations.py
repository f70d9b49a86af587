"""The stages of whole networks: what is compared is what the blocks put out, and every kind of network has its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.analysis.representation_figures import figures
from benchmark.analysis.representations import analyse, compare, recorded, stages
from benchmark.analysis.study import Parts, Request, noisy, pictures
from benchmark.contract import Attention, ImageShape
from benchmark.errors import BenchError, NotRun, UsageError
from registry.backbones.dit import DiT
from registry.backbones.dit_diverse import (
    DiverseDiT,
    diversity_loss,
    mean_similarity,
    token_similarity,
    usage_variance,
)
from registry.backbones.unet import UNet
from registry.backbones.unet_simple import SimpleUNet

SHAPE = {"hidden": 16, "depth": 3, "heads": 2}
UNETS = [UNet(channels=8, residual_blocks=1, multipliers=(1, 2), heads=2), SimpleUNet(channels=4, scales=2)]


def trained(config: DiT | UNet | SimpleUNet) -> nn.Module:
    torch.manual_seed(0)
    network = config.build(ImageShape(3, 8), (Attention(),) * config.attention_layers)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval().requires_grad_(False)


def images(count: int) -> Tensor:
    return torch.randint(256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def features_of(network: nn.Module, x: Tensor, t: Tensor) -> list[Tensor]:
    with recorded(stages(network)) as features:
        network(x, t)
    return list(features.values())


def test_stages_of_a_dit_are_what_its_blocks_put_out() -> None:
    network, x, t = trained(DiT(**SHAPE, patch=2)), torch.randn(4, 3, 8, 8), torch.full((4,), 100)
    tokens, condition = network.embed(x, t, None)
    for block, found in zip(network.blocks, features_of(network, x, t), strict=True):
        tokens = block(tokens, condition)
        assert torch.equal(found, tokens)
    assert [name for name, _ in stages(network)] == ["block 1", "block 2", "block 3"]


@pytest.mark.parametrize("long_residuals", [True, False])
def test_stages_of_a_diversedit_are_the_outputs_that_its_loss_compares(long_residuals: bool) -> None:
    network = trained(DiverseDiT(**SHAPE, long_residuals=long_residuals))
    x, t, outputs = torch.randn(4, 3, 8, 8), torch.full((4,), 100), []
    network.through_blocks(*network.embed(x, t, None), outputs)
    found = features_of(network, x, t)
    assert len(found) == len(outputs) == 3
    assert all(torch.equal(one, other) for one, other in zip(found, outputs, strict=True))


@pytest.mark.parametrize("config", UNETS)
def test_stages_of_a_unet_are_its_blocks_down_and_up(config: UNet | SimpleUNet) -> None:
    network, x = trained(config), torch.randn(4, 3, 8, 8)
    found = features_of(network, x, torch.full((4,), 100))
    names = [name for name, _ in stages(network)]
    assert names[0] == "down 1" and "middle" in names and names[-1].startswith("up ")
    assert found[0].shape[:2] == (4, 64) and found[names.index("middle")].shape[1] < 64
    assert all(one.dim() == 3 for one in found)


def test_the_terms_are_those_of_the_loss_on_all_images_and_levels(tmp_path: Path) -> None:
    network, request = trained(DiT(**SHAPE)), Request(images=20, timesteps=(50, 500))
    result = analyse(network, images(20), request, lambda done, total: None, Parts(tmp_path))
    levels = [features_of(network, noisy(images(20), t, request)[0], torch.full((20,), t)) for t in (50, 500)]
    together = [torch.cat(stage) for stage in zip(*levels, strict=True)]
    pairs, flat = [(0, 1), (0, 2), (1, 2)], [stage.flatten(0, 1) for stage in together]
    for name, value in (
        ("mean_similarity", mean_similarity(flat, pairs)),
        ("token_similarity", token_similarity(flat, pairs)),
        ("usage_variance", usage_variance(flat)),
        ("diversity_loss", diversity_loss(together, pairs)),
    ):
        assert result.numbers[name] == pytest.approx(value.item(), rel=1e-4)
    rank = np.exp(-sum(s * np.log(s) for s in _shares(levels[1][2].flatten(0, 1))))
    assert result.arrays["effective_rank"][1, 2] == pytest.approx(rank, rel=1e-4)
    cka = result.arrays["cka"]  # (levels, stages, stages)
    assert result.numbers["cka"] == pytest.approx((cka[:, 0, 1] + cka[:, 0, 2] + cka[:, 1, 2]).mean() / 3)
    assert result.numbers["cka_neighbours_t500"] == pytest.approx((cka[1, 0, 1] + cka[1, 1, 2]) / 2)
    assert result.numbers["effective_rank_block3"] == pytest.approx(result.arrays["effective_rank"][:, 2].mean())


def _shares(samples: Tensor) -> np.ndarray:
    singular = torch.linalg.svdvals((samples - samples.mean(0)).double()).numpy()
    return singular[singular > 1e-9] / singular.sum()


def test_batches_hold_every_image_once_and_none_is_too_small() -> None:
    network, x, done = trained(DiT(**SHAPE)), torch.randn(34, 3, 8, 8), []
    found = compare(network, x, 300, done.append)
    assert done == [12, 23, 34]
    parts = [features_of(network, part, torch.full((len(part),), 300)) for part in x.split([12, 11, 11])]
    flat = [torch.cat(stage).flatten(0, 1) for stage in zip(*parts, strict=True)]
    expected = torch.nn.functional.cosine_similarity(flat[0], flat[2], dim=1).mean()
    assert found["cosine"][0, 2].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("config", UNETS)
def test_an_analysis_of_a_unet_leaves_out_what_is_not_defined_and_is_drawn(tmp_path: Path, config: UNet) -> None:
    result = analyse(
        trained(config), images(5), Request(images=5, timesteps=(50, 200, 300, 500, 950)), lambda done, total: None, Parts(tmp_path)
    )
    assert "cka" in result.numbers and "diversity_loss" not in result.numbers
    assert all(np.isfinite(value) for value in result.numbers.values())
    own = np.diagonal(result.arrays["cosine"], 0, 1, 2)[:, 1:]  # rectifiers leave a few positions of the first stage at zero
    np.testing.assert_allclose(own, 1, rtol=1e-5)
    assert list(result.figures) == ["similarity", "rank"]
    for name, draw in result.figures.items():
        svg, png = pictures(draw, name)
        assert svg.startswith("<?xml") and png.startswith(b"\x89PNG")


def test_a_network_of_one_stage_has_no_pairs_and_is_drawn(tmp_path: Path) -> None:
    result = analyse(
        trained(DiT(hidden=16, depth=1, heads=2)), images(4), Request(images=4, timesteps=(50,)), lambda done, total: None, Parts(tmp_path)
    )
    assert set(result.numbers) == {"effective_rank", "effective_rank_t50", "effective_rank_block1"}
    for name, draw in figures(result.arrays).items():
        assert pictures(draw, name)[0].startswith("<?xml")


def test_too_few_images_and_models_without_stages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`images=3` must be at least 4"):
        analyse(trained(DiT(**SHAPE)), images(3), Request(images=3), lambda done, total: None, Parts(tmp_path))
    with pytest.raises(NotRun, match="names no stages"):
        stages(nn.Identity())


class Wrong(nn.Module):
    """A network whose first stage is called twice and whose second never is."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.twice(self.twice(x))


@pytest.mark.parametrize(("stage", "problem"), [("twice", "called twice"), ("never", "took no part")])
def test_stages_that_are_not_called_once_are_named(stage: str, problem: str) -> None:
    network = Wrong()
    with pytest.raises(BenchError, match=f"'{stage}' of this model (was )?{problem}"), recorded([(stage, getattr(network, stage))]):
        network(torch.zeros(1, 3, 2, 2), torch.zeros(1))
