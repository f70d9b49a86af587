"""Backbones against golden numbers of the official code, and what every denoiser must do."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.contract import (
    ArtifactMissing,
    Attention,
    Backbone,
    FieldError,
    ImageShape,
)
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.declaring.fields import from_json, to_json
from benchmark.errors import UsageError
from registry.backbones.dit import DiT, positions
from registry.backbones.timesteps import embed_timesteps
from registry.backbones.unet import UNet

TINY = ImageShape(3, 8)
STEPS = torch.tensor([0, 500, 999])
# Those with an official implementation or a variant of one; the others have test files and golden numbers of their own.
MODELS = [name for name, file in registry.entries("model").items() if getattr(load(file).config, "num_classes", None) == 0]

# Parameters at 3 x R x R without label table: all, and trainable (without the fixed positions); with the table of one
# class and its extra row: all. FLOPs of one forward pass, 2 per multiply-add, by torch's counter. Those of the paper's
# models were computed with the official classes.
GOLDEN = {  # name: (R, all, trainable, with a table, FLOPs)
    "dit_xs1": (32, 14_278_071, 14_020_023, 14_278_575, 31_424_418_144),
    "dit_s1": (32, 32_857_731, 32_464_515, 32_858_499, 62_840_930_304),
    "dit_480": (32, 51_163_683, 50_672_163, 51_164_643, 92_147_619_840),
    "dit_480_p2": (32, 50_803_692, 50_680_812, 50_804_652, 18_537_584_640),
    "unet": (32, 109_554_051, 109_554_051, 109_554_051 + 512, 18_921_160_704),
    "dit_mini": (8, 127_139, 125_091, 127_203, 12_703_744),
    "dit_xs1_shared": (32, 11_472_807, 11_214_759, 11_473_311, 31_424_418_144),
    "dit_s1_shared": (32, 26_352_771, 25_959_555, 26_353_539, 62_840_930_304),
    "dit_mini_shared": (8, 106_019, 103_971, 106_083, 12_703_744),
    "dit_xs1_pca": (32, 13_136_535, 12_878_487, 13_137_039, 25_183_281_504),
    "dit_mini_pca": (8, 117_635, 115_587, 117_699, 10_350_592),
    "dit_xs1_gpsa": (32, 14_278_231, 14_020_183, 14_278_735, 36_709_241_184),
    "dit_mini_gpsa": (8, 127_179, 125_131, 127_243, 14_014_464),
    "dit_xs1_diverse": (32, 15_047_679, 14_789_631, 15_048_183, 32_985_092_448),
    "dit_xs1_longres": (32, 15_047_679, 14_789_631, 15_048_183, 32_985_092_448),
    "dit_xs1_divloss": (32, 14_278_071, 14_020_023, 14_278_575, 31_424_418_144),
    "dit_s1_diverse": (32, 34_638_723, 34_245_507, 34_639_491, 66_464_808_960),
    "dit_mini_diverse": (8, 133_763, 131_715, 133_827, 13_490_176),
    "dit_mini_diverse_released": (8, 133_763, 131_715, 133_827, 13_490_176),
    "dit_mini_diverse_from1": (8, 133_763, 131_715, 133_827, 13_490_176),
    "dit_mini_longres": (8, 133_763, 131_715, 133_827, 13_490_176),
    "dit_mini_divloss": (8, 127_139, 125_091, 127_203, 12_703_744),
    "dit_mid": (16, 942_019, 925_635, 942_147, 504_160_256),
    "dit_mid_shared": (16, 758_979, 742_595, 759_107, 504_160_256),
    "dit_mid_gpsa": (16, 942_179, 925_795, 942_307, 588_046_336),
    "dit_small": (8, 240_611, 238_563, 240_675, 25_360_384),
    "unet_mini": (8, 321_903, 321_903, 321_903 + 80, 12_574_720),
}

# What a variant of two blocks needs, by the end of its name; the mini components are for six, two pairs of blocks want three.
SMALLER = {"shared": {"group": 2}, "gpsa": {"gated": 1}, "pca": {"depth": 6}, "from1": {"depth": 3}}


def configured(name: str, **changes: object) -> Backbone:
    config = load(registry.find("model", name)).config
    return from_json(type(config), to_json(config) | changes)


def built(config: Backbone, images: ImageShape = TINY, window: int | None = None) -> nn.Module:
    return config.build(images, (Attention(window=window),) * config.attention_layers)


def chirp(count: int, start: int = 1) -> Tensor:
    """Return sin(i**2) for i = start, start + 1, ...: numbers without a pattern that any other program can make."""
    i = torch.arange(start, start + count, dtype=torch.float64)
    return torch.sin(i * i)


def fill(network: nn.Module) -> nn.Module:
    """Set every trainable parameter, sorted by name and in C order, to 0.1 sin(i**2), i counting on from 1."""
    start = 1
    with torch.no_grad():
        for _, parameter in sorted(network.named_parameters()):
            if parameter.requires_grad:
                parameter.copy_(0.1 * chirp(parameter.numel(), start).view_as(parameter))
                start += parameter.numel()
    return network


def count(network: nn.Module) -> tuple[int, int]:
    return sum(p.numel() for p in network.parameters()), sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_the_table_names_every_entry() -> None:
    assert set(GOLDEN) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_the_golden_ones(name: str) -> None:
    resolution, total, trainable, with_table, _ = GOLDEN[name]
    with torch.device("meta"):
        assert count(built(configured(name), ImageShape(3, resolution))) == (total, trainable)
        assert count(built(configured(name, num_classes=1), ImageShape(3, resolution)))[0] == with_table


@pytest.mark.parametrize("name", MODELS)
def test_flops_are_the_golden_ones_whatever_the_window(name: str) -> None:
    resolution, flops = GOLDEN[name][0], GOLDEN[name][4]
    for window in (None, 3):
        with torch.device("meta"):
            network = built(configured(name), ImageShape(3, resolution), window).eval()
            x, t = torch.zeros(1, 3, resolution, resolution), torch.zeros(1, dtype=torch.long)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            assert network(x, t).shape == x.shape
        assert counter.get_total_flops() == flops


def test_flops_of_the_mini_dit_by_hand() -> None:
    tokens, hidden, depth = 64, 32, 6
    per_token = 3 * hidden + depth * (3 + 1 + 4 + 4) * hidden**2 + hidden * 3  # patches, blocks, output
    attention = depth * 2 * tokens**2 * hidden
    condition = 256 * hidden + hidden**2 + depth * 6 * hidden**2 + 2 * hidden**2
    assert 2 * (tokens * per_token + attention + condition) == GOLDEN["dit_mini"][4]


def test_the_mini_unet_costs_what_the_mini_dit_costs() -> None:
    assert GOLDEN["unet_mini"][4] == pytest.approx(GOLDEN["dit_mini"][4], rel=0.02)


# The outputs of the official code (facebookresearch/DiT models.py, openai/improved-diffusion unet.py) in single
# precision, on the weights of `fill`, images chirp, steps 0, 500, 999 and labels as given, in evaluation mode; the
# noise half where the variance is learned. Positions 0, 100, 300, 500 of the flat output, its sum, its absolute sum.
OFFICIAL = [
    (
        DiT(hidden=32, depth=2, heads=2, patch=2, num_classes=3, learned_variance=True),
        [0, 3, 1],
        (-0.1848653, 0.9315401, 0.0781738, 0.7625418),
        -27.4285845,
        185.0645319,
    ),
    (
        DiT(hidden=60, depth=3, heads=4, mlp_ratio=2.5, num_classes=1),
        [0, 1, 0],
        (0.2303321, 0.2684495, 0.6711212, 0.7600330),
        -71.2347710,
        258.6357987,
    ),
    (
        UNet(channels=32, residual_blocks=1, multipliers=(1, 2), attention_resolutions=(2,)),
        None,
        (-0.1070475, 0.0353841, 0.0421920, 0.0531292),
        -0.2222452,
        38.2970102,
    ),
    (
        UNet(
            channels=32,
            residual_blocks=2,
            multipliers=(1, 2, 3),
            attention_resolutions=(1, 4),
            scale_shift_norm=False,
            heads=2,
            num_classes=4,
            learned_variance=True,
        ),
        [0, 3, 1],
        (0.1075899, -0.0817617, -0.0709272, -0.0904286),
        -22.8929900,
        41.6486440,
    ),
]


@pytest.mark.parametrize(("config", "labels", "values", "total", "absolute"), OFFICIAL)
def test_outputs_are_those_of_the_official_code(
    config: Backbone,
    labels: list[int] | None,
    values: tuple[float, ...],
    total: float,
    absolute: float,
) -> None:
    network = fill(built(config)).eval()
    x = chirp(3 * 3 * 8 * 8).view(3, 3, 8, 8).float()
    with torch.no_grad():
        out = network(x, STEPS, None if labels is None else torch.tensor(labels)).double()
    torch.testing.assert_close(out.flatten()[[0, 100, 300, 500]], torch.tensor(values).double(), rtol=0, atol=1e-5)
    assert out.sum().item() == pytest.approx(total, abs=1e-3)
    assert out.abs().sum().item() == pytest.approx(absolute, abs=1e-3)


def test_parameter_names_are_the_official_ones() -> None:
    dit = built(DiT(hidden=8, depth=1, heads=2, num_classes=2)).state_dict()
    assert {name.removesuffix(".weight").removesuffix(".bias") for name in dit} == {
        "pos_embed",
        "x_embedder.proj",
        "t_embedder.mlp.0",
        "t_embedder.mlp.2",
        "y_embedder.embedding_table",
        "blocks.0.attn.qkv",
        "blocks.0.attn.proj",
        "blocks.0.mlp.fc1",
        "blocks.0.mlp.fc2",
        "blocks.0.adaLN_modulation.1",
        "final_layer.linear",
        "final_layer.adaLN_modulation.1",
    }
    residual = {"in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"}
    unet = built(UNet(channels=8, residual_blocks=1, multipliers=(1, 2), num_classes=2)).state_dict()
    assert {name.removesuffix(".weight").removesuffix(".bias") for name in unet} == {
        "time_embed.0",
        "time_embed.2",
        "label_emb",
        "input_blocks.0.0",
        "input_blocks.2.0.op",
        "out.0",
        "out.2",
        "input_blocks.3.0.skip_connection",
        "output_blocks.1.1.conv",
        "middle_block.1.norm",
        "middle_block.1.qkv",
        "middle_block.1.proj_out",
        *(f"output_blocks.{block}.0.skip_connection" for block in range(4)),
        *(
            f"{block}.{layer}"
            for layer in residual
            for block in (
                "input_blocks.1.0",
                "input_blocks.3.0",
                "middle_block.0",
                "middle_block.2",
                "output_blocks.0.0",
                "output_blocks.1.0",
                "output_blocks.2.0",
                "output_blocks.3.0",
            )
        ),
    }


@pytest.mark.parametrize("name", MODELS)
def test_every_entry_builds_forward_and_backward_and_starts_at_zero(name: str) -> None:
    small = {"hidden": 24, "depth": 2, "heads": 2} if "dit" in name else {"channels": 8, "heads": 2}
    small |= SMALLER.get(name.rpartition("_")[2], {})
    torch.manual_seed(0)
    try:
        network = built(configured(name, **small), window=3).train()
    except ArtifactMissing as missing:
        pytest.skip(str(missing))
    assert isinstance(configured(name), Backbone)
    x = torch.randn(3, 3, 8, 8)
    out = network(x, STEPS)
    assert out.shape == x.shape
    assert torch.equal(out, torch.zeros_like(x))  # zero-initialised output: nothing is known yet
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    (network(x, STEPS) - x).square().mean().backward()
    for label, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, label
            assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize("config", [DiT(hidden=16, depth=2, heads=2), UNet(channels=8, multipliers=(1, 2), heads=2)])
def test_an_image_does_not_depend_on_its_batch(config: Backbone) -> None:
    network = fill(built(config, window=3)).eval()
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = network(x, STEPS)
        alone = torch.cat([network(x[i : i + 1], STEPS[i : i + 1]) for i in range(3)])
    assert together.abs().max() > 0.01
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [DiT(hidden=16, depth=2, heads=2), UNet(channels=8, multipliers=(1, 2), heads=2)])
def test_weights_follow_the_global_seed_and_not_the_layout(config: Backbone) -> None:
    states = []
    for seed, window in ((0, None), (0, 3), (1, None)):
        torch.manual_seed(seed)
        states.append(built(config, window=window).state_dict())
    first, second, other = states
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_dit_starts_with_the_official_distributions() -> None:
    torch.manual_seed(0)
    network = built(DiT(hidden=128, depth=1, heads=2, patch=2, num_classes=200))
    block = network.blocks[0]
    for weight in (
        block.attn.qkv.weight,
        block.attn.proj.weight,
        block.mlp.fc1.weight,
        block.mlp.fc2.weight,
        network.x_embedder.proj.weight.flatten(1),
    ):
        bound = math.sqrt(6 / sum(weight.shape))  # Glorot & Bengio 2010, uniform
        assert 0.98 * bound < weight.abs().max().item() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    for module in (network.t_embedder.mlp[0], network.t_embedder.mlp[2], network.y_embedder.embedding_table):
        assert module.weight.std().item() == pytest.approx(0.02, rel=0.03)
    zeroed = ("final_layer", "adaLN_modulation", "bias")
    for name, parameter in network.named_parameters():
        assert bool((parameter == 0).all()) is any(word in name for word in zeroed), name


def test_every_residual_branch_starts_as_nothing() -> None:
    condition = torch.randn(2, 16)
    tokens = torch.randn(2, 64, 16)
    for block in built(DiT(hidden=16, depth=2, heads=2)).blocks:
        assert torch.equal(block(tokens, condition), tokens)
    unet = built(UNet(channels=4, multipliers=(1, 2), attention_resolutions=(1,), heads=2))
    assert torch.equal(unet.middle_block(deep := torch.randn(2, 8, 4, 4), condition), deep)
    first = unet.input_blocks[1]  # as wide out as in, with attention behind it
    assert torch.equal(first(wide := torch.randn(2, 4, 8, 8), condition), wide)


def test_positions_by_their_formula() -> None:
    hidden, side = 24, 5
    found = positions(hidden, side)[0]
    for token in range(side**2):
        row, column = divmod(token, side)
        for i in range(hidden // 4):
            frequency = math.exp(-math.log(10000) * i / (hidden / 4))
            expected = [f(place * frequency) for place in (column, row) for f in (math.sin, math.cos)]
            assert found[token, i :: hidden // 4].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size", [256, 20, 7])
def test_timesteps_by_their_formula(size: int) -> None:
    half = size // 2
    found = embed_timesteps(STEPS, size)
    assert found.shape == (3, size)
    for row, t in zip(found.tolist(), STEPS.tolist(), strict=True):
        angles = [t * 10000 ** (-i / half) for i in range(half)]
        # single-precision frequencies: at t = 999 an angle is off by up to 1e-4
        assert row == pytest.approx([*map(math.cos, angles), *map(math.sin, angles), *[0.0] * (size % 2)], abs=2e-4)


def test_a_label_adds_its_row_to_the_condition_and_none_is_dropped_here() -> None:
    network = fill(built(DiT(hidden=16, depth=1, heads=2, num_classes=3, class_dropout=0.5))).train()
    x, labels = torch.ones(4, 3, 8, 8), torch.arange(4)
    first, second, table = (
        part.tolist()
        for part in (network.t_embedder.mlp[0].weight, network.t_embedder.mlp[2].weight, network.y_embedder.embedding_table.weight)
    )
    begin, end = (layer.bias.tolist() for layer in network.t_embedder.layers())
    angles = [500 * 10000 ** (-i / 128) for i in range(128)]
    step = [*map(math.cos, angles), *map(math.sin, angles)]
    inner = [sum(w * s for w, s in zip(row, step, strict=True)) + b for row, b in zip(first, begin, strict=True)]
    active = [value / (1 + math.exp(-value)) for value in inner]
    embedded = [sum(w * a for w, a in zip(row, active, strict=True)) + b for row, b in zip(second, end, strict=True)]
    with torch.no_grad():
        _, condition = network.embed(x, torch.full((4,), 500), labels)
        out = network(x, torch.full((4,), 500), labels)
        assert torch.equal(out, network(x, torch.full((4,), 500), labels))  # in training mode: what drops labels is the training
        assert min((one - other).abs().max() for one, other in pairwise(out)) > 1e-3  # the row of "no class" is the last
    for found, row in zip(condition.tolist(), table, strict=True):
        assert found == pytest.approx([a + b for a, b in zip(embedded, row, strict=True)], abs=1e-4)


def test_the_labelled_mini_dit_is_the_mini_dit_and_a_table_of_eleven_rows() -> None:
    with torch.device("meta"):
        plain, labelled = (count(built(configured(name), TINY)) for name in ("dit_mini", "dit_mini_labels"))
    assert labelled == tuple(number + 11 * 32 for number in plain)


def test_the_label_table_has_an_extra_row_only_where_labels_are_dropped() -> None:
    for dropout, rows in ((0.1, 4), (0.0, 3)):
        network = built(DiT(hidden=8, depth=1, heads=1, num_classes=3, class_dropout=dropout))
        assert network.y_embedder.embedding_table.num_embeddings == rows


@pytest.mark.parametrize("config", [DiT(hidden=8, depth=1, heads=2), UNet(channels=8, multipliers=(1,), heads=2)])
def test_labels_where_none_belong_and_the_reverse_are_refused(config: Backbone) -> None:
    x, y = torch.zeros(3, 3, 8, 8), torch.zeros(3, dtype=torch.long)
    with pytest.raises(FieldError, match="this network takes no labels"):
        built(config)(x, STEPS, y)
    with pytest.raises(FieldError, match="this network takes the labels y"):
        built(from_json(type(config), to_json(config) | {"num_classes": 2}))(x, STEPS)


@pytest.mark.parametrize("name", ["dit_xs1", "unet"])
def test_dropout_and_learned_variance_keep_the_shape(name: str) -> None:
    with torch.device("meta"):
        network = built(configured(name, learned_variance=True), ImageShape(1, 32))
        assert network(torch.zeros(2, 1, 32, 32), torch.zeros(2)).shape == (2, 1, 32, 32)
        out = network.final_layer.linear.out_features if name == "dit_xs1" else network.out[2].out_channels
        assert out == 2


def test_unet_dropout_acts_in_training_only() -> None:
    network = fill(built(UNet(channels=8, multipliers=(1,), heads=2, dropout=0.5)))
    x = torch.ones(3, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(network.eval()(x, STEPS), network(x, STEPS))
        assert not torch.equal(network.train()(x, STEPS), network(x, STEPS))


@pytest.mark.parametrize(
    ("fields", "culprit"),
    [
        ({"hidden": 32, "depth": 2, "heads": 3}, "heads = 3 must divide hidden = 32"),
        ({"hidden": 30, "depth": 2, "heads": 2}, "hidden = 30 must be divisible by 4"),
        ({"hidden": 32, "depth": 0, "heads": 2}, "depth = 0 must be at least 1"),
        ({"hidden": 32, "depth": 2, "heads": 2, "mlp_ratio": 0.01}, "mlp_ratio = 0.01 leaves no unit"),
        ({"hidden": 32, "depth": 2, "heads": 2, "class_dropout": 1.5}, "class_dropout = 1.5 must be at most 1"),
    ],
)
def test_impossible_dits_are_refused(fields: dict[str, object], culprit: str) -> None:
    with pytest.raises(FieldError, match=culprit):
        DiT(**fields)


@pytest.mark.parametrize(
    ("fields", "culprit"),
    [
        ({"multipliers": ()}, "must name at least one level"),
        ({"heads": 3}, "heads = 3 must divide the 512 channels"),
        ({"attention_resolutions": (16,)}, "no level reduces the image by 16; the levels reduce it by 1, 2, 4, 8"),
        ({"multipliers": (1, 0)}, r"multipliers\[1\] = 0 must be at least 1"),
    ],
)
def test_impossible_unets_are_refused(fields: dict[str, object], culprit: str) -> None:
    with pytest.raises(FieldError, match=culprit):
        UNet(**fields)


def test_images_and_layouts_that_do_not_fit_are_refused() -> None:
    dit = DiT(hidden=32, depth=2, heads=2, patch=3)
    with pytest.raises(FieldError, match="patch = 3 must divide the resolution of the images, 8"):
        dit.build(TINY, (Attention(),) * 2)
    with pytest.raises(FieldError, match="depth = 2 needs as many attention layers, but the layout gives 3"):
        dit.build(ImageShape(3, 9), (Attention(),) * 3)
    with pytest.raises(FieldError, match="no layer that a layout can address, but the layout gives 1"):
        UNet().build(ImageShape(3, 32), (Attention(),))
    with pytest.raises(FieldError, match="the resolution 12 does not allow"):
        UNet().build(ImageShape(3, 12), ())


def test_a_misspelt_field_of_an_entry_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.gin"
    path.write_text("# Odd\nimport registry.backbones.dit\nDiT.hiden = 32\n")
    with pytest.raises(UsageError, match="hiden"):
        load(registry.read("model", path))
