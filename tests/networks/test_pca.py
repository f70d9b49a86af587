"""PCA of attention maps against numpy's SVD, attention from components against loops, and what is refused."""

import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.analysis.attention import attention_layers, attention_maps
from benchmark.analysis.pca import StreamingPca, attention_components
from benchmark.cli import main
from benchmark.contract import ArtifactMissing, Attention, FieldError, ImageShape
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.files import PROJECT
from benchmark.networks import artifacts
from registry.backbones.attention import visible_keys
from registry.backbones.dit import DiT
from registry.backbones.dit_gpsa import GatedPositionalDiT
from registry.backbones.dit_pca import PcaDiT
from tests.conftest import ENTRIES, TINY

IMAGES = ImageShape(3, 4)
SHAPE = {"hidden": 16, "depth": 2, "heads": 2}
STEPS = torch.tensor([3, 400, 990])


def trained(config: DiT, attention: tuple[Attention, ...] = (Attention(), Attention())) -> nn.Module:
    """Return a network whose attention depends on image and step, as training makes it."""
    torch.manual_seed(0)
    network = config.build(IMAGES, attention)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval()


def pictures(count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)


def made(home: Path, network: nn.Module, count: int = 3) -> str:
    """Make an artifact of a network's components; return its digest."""
    found = attention_components(network, pictures(), seed=0, timesteps=4, count=count, rank=64)
    tensors = {"mean": found.mean, "components": found.components, "deviations": found.deviations, "explained": found.explained}
    return artifacts.save(home, "tiny_pca", tensors, {"run": "none"})[1]


def vectors(count: int, size: int) -> np.ndarray:
    """Return vectors far off the origin, with a spectrum that falls."""
    generator = np.random.default_rng(0)
    scales = 3.0 ** -np.arange(min(count, size))
    left, right = generator.normal(size=(count, len(scales))), generator.normal(size=(len(scales), size))
    return 5 + left * scales @ right


@pytest.mark.parametrize(("count", "size", "batch", "rank"), [(40, 25, 7, 30), (40, 25, 40, 30), (30, 200, 4, 30), (12, 50, 1, 12)])
def test_streaming_components_are_those_of_numpys_svd(count: int, size: int, batch: int, rank: int) -> None:
    given = vectors(count, size)
    stream = StreamingPca(size, rank)
    for start in range(0, count, batch):
        stream.add(torch.from_numpy(given[start : start + batch]))
    found = stream.result(5)
    centred = given - given.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.mean, given.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.explained, (singular**2 / (singular**2).sum())[:5], rtol=1e-4)
    np.testing.assert_allclose(found.deviations, (singular / math.sqrt(count))[:5], rtol=1e-4)
    np.testing.assert_allclose(np.abs((found.directions.numpy() * directions[:5]).sum(1)), 1, atol=1e-5)
    assert found.lost < 1e-6


def test_what_truncation_drops_bounds_its_error() -> None:
    given = np.random.default_rng(1).normal(size=(60, 30))  # a flat spectrum, the worst case
    stream = StreamingPca(30, 6)
    for start in range(0, 60, 5):
        stream.add(torch.from_numpy(given[start : start + 5]))
    found = stream.result(4)
    singular = np.linalg.svd(given - given.mean(0), compute_uv=False)
    short = (singular**2 / (singular**2).sum())[:4] - found.explained.numpy()
    assert 0.05 < found.lost < 1
    assert (short > 0.001).all()  # truncation did cost something
    assert (short <= found.lost).all()


def test_all_components_of_few_maps_give_the_maps_back() -> None:
    network, images = trained(DiT(**SHAPE)), pictures(1)
    found = attention_components(network, images, seed=0, timesteps=3, count=5, rank=64)  # 6 maps: 5 directions
    recorded: list[list[Tensor]] = []
    again = attention_components(_recording(network, recorded), images, seed=0, timesteps=3, count=5, rank=64)
    assert torch.equal(found.components, again.components)
    assert found.maps == 6
    for layer in range(2):
        maps = torch.cat([call[layer] for call in recorded]).flatten(0, 1)  # (maps, T, T)
        away = (maps - found.mean[layer]).flatten(1)
        basis = found.components[layer].flatten(1)
        torch.testing.assert_close(basis @ basis.T, torch.eye(5), rtol=0, atol=1e-4)
        torch.testing.assert_close(away @ basis.T @ basis, away, rtol=0, atol=1e-5)
        torch.testing.assert_close((away @ basis.T).square().mean(0).sqrt(), found.deviations[layer], rtol=1e-3, atol=1e-6)
        assert found.explained[layer].sum().item() == pytest.approx(1, abs=1e-5)


def _recording(network: nn.Module, calls: list[list[Tensor]]) -> nn.Module:
    """Return the network with hooks of its own that keep every layer's maps, one list per forward pass."""
    network.register_forward_pre_hook(lambda module, arguments: calls.append([]))
    for layer in attention_layers(network):
        layer.register_forward_pre_hook(lambda module, arguments: calls[-1].append(module.maps(*arguments).detach()))
    return network


@pytest.mark.parametrize("config", [DiT(**SHAPE), GatedPositionalDiT(**SHAPE, gated=1)])
def test_recomputed_maps_are_what_the_layers_apply(config: DiT) -> None:
    network = trained(config, (Attention(window=3), Attention()))
    x = torch.randn(3, 3, 4, 4)
    before = network(x, STEPS)
    seen: list[tuple[Tensor, Tensor]] = []
    handles = [layer.register_forward_hook(lambda module, given, out: seen.append((given[0], out))) for layer in attention_layers(network)]
    maps = attention_maps(network, x, STEPS)
    assert torch.equal(network(x, STEPS), before)
    assert len(handles) == len(maps) == 2
    assert [tuple(one.shape) for one in maps] == [(3, 2, 16, 16)] * 2
    for layer, one, (given, out) in zip(attention_layers(network), maps, seen, strict=False):
        torch.testing.assert_close(one.sum(3), torch.ones(3, 2, 16))
        value = F.linear(given, layer.qkv.weight[32:], layer.qkv.bias[32:])
        heads = [one[:, head] @ value[:, :, 8 * head : 8 * head + 8] for head in range(2)]
        torch.testing.assert_close(layer.proj(torch.cat(heads, 2)), out, rtol=1e-4, atol=1e-5)
    assert not maps[0][:, :, ~visible_keys(Attention(window=3), 4)].any()


@pytest.mark.parametrize("from_input", [False, True])
def test_attention_is_mean_and_weighted_components_on_the_values(home: Path, from_input: bool) -> None:
    digest = made(home, trained(DiT(**SHAPE)))
    network = trained(PcaDiT(**SHAPE, count=2, components=digest, from_input=from_input)).double()
    file = artifacts.tensors(artifacts.find(digest), digest)
    layer, x, condition = network.blocks[1].attn, torch.randn(2, 16, 16).double(), torch.randn(2, 16).double()
    out = layer(x, condition)
    for n in range(2):
        active = condition[n] / (1 + torch.exp(-condition[n]))
        coefficients = layer.coefficients.weight @ active + layer.coefficients.bias
        if from_input:
            coefficients = coefficients + layer.input_coefficients.weight @ x[n].mean(0) + layer.input_coefficients.bias
        values = x[n] @ layer.value.weight.T + layer.value.bias
        attended = torch.zeros(16, 16, dtype=torch.float64)
        for head in range(2):
            for query in range(16):
                for key in range(16):
                    weight = file["mean"][1, query, key].double()
                    for k in range(2):
                        weight = weight + (
                            coefficients[2 * head + k] * file["deviations"][1, k].double() * file["components"][1, k, query, key].double()
                        )
                    attended[query, 8 * head : 8 * head + 8] += weight * values[key, 8 * head : 8 * head + 8]
        torch.testing.assert_close(out[n], attended @ layer.proj.weight.T + layer.proj.bias, rtol=1e-6, atol=1e-6)
    maps = layer.maps(x, condition)
    torch.testing.assert_close(maps.sum(3), torch.ones(2, 2, 16).double(), rtol=0, atol=1e-4)
    changed = not torch.equal(maps, layer.maps(x.flip(0), condition))
    assert changed is from_input


def test_it_starts_at_the_mean_map_and_its_components_stay_out_of_checkpoints(home: Path) -> None:
    digest = made(home, trained(DiT(**SHAPE)))
    network = PcaDiT(**SHAPE, count=3, components=digest).build(IMAGES, (Attention(), Attention()))
    mean = artifacts.tensors(artifacts.find(digest), digest)["mean"]
    maps = attention_maps(network, torch.randn(3, 3, 4, 4), STEPS)
    assert all(torch.equal(maps[layer], mean[layer].expand(3, 2, -1, -1)) for layer in range(2))
    assert not any(name.endswith((".mean", ".components")) for name in network.state_dict())


@pytest.mark.parametrize("border", ["truncated", "shifted"])
def test_a_window_keeps_the_rows_sums_and_leaves_components_made_within_it(home: Path, border: str) -> None:
    layout = (Attention(window=3, border=border), Attention())
    visible = visible_keys(layout[0], 4)
    config = PcaDiT(**SHAPE, count=3, components=made(home, trained(DiT(**SHAPE))))
    cut, whole = config.build(IMAGES, layout).blocks, config.build(IMAGES, (Attention(),) * 2).blocks
    torch.testing.assert_close(cut[0].attn.mean.sum(1), torch.ones(16))
    torch.testing.assert_close(cut[0].attn.components.sum(2), torch.zeros(3, 16), rtol=0, atol=1e-5)
    assert not cut[0].attn.mean[~visible].any() and not cut[0].attn.components[:, ~visible].any()
    assert cut[0].attn.components[:, visible].any()
    assert torch.equal(cut[1].attn.components, whole[1].attn.components)
    within = PcaDiT(**SHAPE, count=3, components=made(home, trained(DiT(**SHAPE), layout)))
    kept, given = (within.build(IMAGES, attention).blocks[0].attn for attention in (layout, (Attention(),) * 2))
    torch.testing.assert_close(kept.mean, given.mean)
    torch.testing.assert_close(kept.components, given.components, rtol=0, atol=1e-6)


def test_components_of_another_digest_or_size_are_refused(home: Path) -> None:
    digest = made(home, trained(DiT(**SHAPE)))
    config = PcaDiT(**SHAPE, count=3, components=digest)
    with pytest.raises(FieldError, match="2 layers of 16 tokens; depth = 2 and 8 x 8 tokens need 2 layers of 64"):
        config.build(ImageShape(3, 8), (Attention(),) * 2)
    with pytest.raises(FieldError, match="depth = 1 and 4 x 4 tokens need 1 layers"):
        PcaDiT(**SHAPE | {"depth": 1}, count=3, components=digest).build(IMAGES, (Attention(),))
    with pytest.raises(FieldError, match="count = 4 must be at most 3"):
        PcaDiT(**SHAPE, count=4, components=digest).build(IMAGES, (Attention(),) * 2)
    path = artifacts.find(digest)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FieldError, match=f"but {digest} is asked for"):
        config.build(IMAGES, (Attention(),) * 2)
    path.write_bytes(b"no tensors")
    with pytest.raises(FieldError, match="cannot be read"):
        config.build(IMAGES, (Attention(),) * 2)
    with pytest.raises(FieldError, match="must be the sha256"):
        PcaDiT(**SHAPE, count=3, components="dit_mini")


@pytest.mark.parametrize("components", [None, "0" * 64])
def test_components_that_are_not_there_are_named_with_the_way_to_make_them(home: Path, components: str | None) -> None:
    config = PcaDiT(**SHAPE, count=3, components=components)
    with torch.device("meta"):
        assert config.build(IMAGES, (Attention(),) * 2)(torch.zeros(1, 3, 4, 4), torch.zeros(1)).shape == (1, 3, 4, 4)
    with pytest.raises(ArtifactMissing, match="attention_components.network=RUN, count=3."):
        config.build(IMAGES, (Attention(),) * 2)


def test_the_committed_components_come_from_other_images() -> None:
    config = load(registry.find("model", "dit_mini_pca")).config
    path = PROJECT / "artifacts" / f"dit_mini_pca-{config.components[:12]}.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == config.components
    origin = artifacts.provenance(path)
    dataset = origin["spec"]["dataset"]["config"]
    assert (dataset["seed"], origin["spec"]["model"]["name"], origin["spec"]["layout"]["name"]) == (100, "dit_mini", "global")
    assert load(registry.find("dataset", "dead_leaves8")).config.seed != dataset["seed"]
    assert origin["lost"] < 1e-6
    found = artifacts.tensors(path, config.components)
    torch.testing.assert_close(found["mean"].sum(2), torch.ones(6, 64))
    torch.testing.assert_close(found["components"].sum(3), torch.zeros(6, 8, 64), rtol=0, atol=1e-4)
    for layer in found["components"].flatten(2):
        torch.testing.assert_close(layer @ layer.T, torch.eye(8), rtol=0, atol=1e-4)


def test_bench_pca_makes_what_a_run_then_trains_with(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def bench(*words: str, code: int = 0) -> tuple[str, str]:
        assert main(words) == code
        return tuple(capsys.readouterr())

    short = ["--no-track", "--set", "recipe.steps=8", "--set", "recipe.trajectory=(8,)"]
    run = json.loads(bench("run", *TINY, *short, "--json")[0])["id"]
    of_run = ["pca", "--run", run, "--registry", str(ENTRIES), "--threads", "1", "--device", "cpu"]
    error = bench(*of_run, "--components", "24", "--images", "2", "--timesteps", "3", code=2)[1]
    assert "must be at most 11: there are 12 maps" in error
    assert "--timesteps 2000 must be at most 1000" in bench(*of_run, "--timesteps", "2000", code=2)[1]
    assert not (home / "artifacts").exists()
    facts = json.loads(bench(*of_run, "--components", "4", "--images", "3", "--timesteps", "3", "--json")[0])
    assert facts["maps"] == 18 and len(facts["explained"]) == 2
    assert all(0 < sum(layer) <= 1 + 1e-6 for layer in facts["explained"])
    origin = artifacts.provenance(Path(facts["file"]))
    assert origin["run"] == run and origin["images"] == 3
    assert (
        f"For the entry: components = '{facts['sha256']}'" in bench(*of_run, "--components", "4", "--images", "3", "--timesteps", "3")[0]
    )  # again, and the same bytes
    entries = home / "mine" / "backbones"
    entries.mkdir(parents=True)
    (entries / "tiny_pca.gin").write_text(
        "# Two blocks with components of the tiny run\nimport registry.backbones.dit_pca\nPcaDiT.hidden = 16\nPcaDiT.depth = 2\n"
        f"PcaDiT.heads = 2\nPcaDiT.count = 4\nPcaDiT.components = '{facts['sha256']}'\n"
    )
    mine = ["run", *(word if word != "dit_tiny" else "tiny_pca" for word in TINY), "--registry", str(home / "mine"), *short]
    bench(*mine)
    shutil.rmtree(home / "artifacts")
    before = set((home / "runs").glob("*/spec.json"))
    assert "bench pca --run RUN --components 4" in bench(*mine, "--seed", "5", code=1)[1]
    assert set((home / "runs").glob("*/spec.json")) == before
