"""Networks trained elsewhere: flows in the official naming, wrapped and averaged, and Python callables, as rows of their own."""

import argparse
import json
import math
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import benchmark
from benchmark import run
from benchmark.cli import main
from benchmark.commands import weights as commands
from benchmark.declaring import registry
from benchmark.declaring.recipe import Convention, External
from benchmark.declaring.spec import Spec, resolve
from benchmark.errors import UsageError
from benchmark.networks import weights
from benchmark.networks.denoiser import NoiseEstimate, noise_estimate
from benchmark.networks.diffusion import scaled
from benchmark.recording import record
from benchmark.running.place import here
from benchmark.running.progress import Display
from registry.backbones.dit import DiT
from tests.conftest import ENTRIES
from tests.networks.test_backbones import built, chirp, fill

NAMES = {"model": "dit_tiny", "layout": "global", "dataset": "leaves_tiny", "recipe": "tiny"}
SCORED = ["--dataset", "leaves_tiny", "--subset", "6", "--registry", str(ENTRIES), "--device", "cpu", "--threads", "1", "--json"]
OF_DIT = ["--model", "dit_tiny", "--layout", "global", "--recipe", "tiny", *SCORED]


def spec_of(*overrides: str) -> Spec:
    return resolve(NAMES, subset=6, seed=0, overrides=overrides, search=registry.roots([ENTRIES]))


def evaluated(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[record.Record, str]:
    """Return the record that `bench evaluate` writes, and what it says on the way."""
    code = main(["evaluate", *words])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return record.read(Path(json.loads(captured.out)["record"])), captured.err


def images() -> tuple[Tensor, Tensor]:
    with Display() as display:
        subset = run.load_subset(spec_of(), here("cpu", None), display)
    return torch.from_numpy(subset.train), torch.from_numpy(subset.test)


def official_flow(train: Tensor) -> nn.Module:
    """Train a few steps as SiT is trained: x = t image + (1 - t) noise, t in [0, 1], image - noise, classes with a row for none."""
    network = run.build(spec_of("model.num_classes=3", "model.learned_variance=True")).train()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(20):
        image, noise = scaled(train), torch.randn(train.shape, generator=generator)
        t = torch.rand(len(train), generator=generator)
        x = t.view(-1, 1, 1, 1) * image + (1 - t.view(-1, 1, 1, 1)) * noise
        found = network(x, t, torch.randint(3, (len(train),), generator=generator))
        optimizer.zero_grad()
        (found - (image - noise)).square().mean().backward()
        optimizer.step()
    return network.eval()


def test_a_flow_in_the_official_naming_is_a_row_of_its_own(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = images()
    network = official_flow(train)
    state = {name: value for name, value in network.state_dict().items() if name != "pos_embed"}
    wrapped = {f"module._orig_mod.model.{name}": value for name, value in state.items()}
    content = {"ema": wrapped, "model": {k: 0 * v for k, v in wrapped.items()}, "opt": {"lr": 1.0}, "args": argparse.Namespace(a=1)}
    torch.save(content, tmp_path / "0020000.pt")
    words = ["--weights", str(tmp_path / "0020000.pt"), "--format", "sit", "--label", "3", *OF_DIT]
    made, said = evaluated(capsys, *words, "--publish", "their_sit")
    assert (made.row.model, made.row.recipe, made.training.steps) == ("their_sit", "tiny_external", 0)
    assert made.spec["recipe"]["config"]["convention"] == "sit"
    for what in ("'ema'", "module.", "_orig_mod.", "model.", "learned variance, which is ignored", "lacks pos_embed"):
        assert what in " ".join(said.split()), what

    def by_hand(x: Tensor, k: Tensor) -> Tensor:
        abar = 1.0
        level = []
        for t in range(1000):
            abar *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
            level.append(abar)
        a = torch.tensor([math.sqrt(level[int(i)]) for i in k]).view(-1, 1, 1, 1)
        s = torch.tensor([math.sqrt(1 - level[int(i)]) for i in k]).view(-1, 1, 1, 1)
        share, z = a / (a + s), x / (a + s)
        with torch.no_grad():
            image = z + (1 - share) * network(z, share.flatten(), torch.full((len(x),), 3))
        return (x - a * image) / s

    want = benchmark.score(by_hand, train, test, steps=3, images=8)
    assert made.psnr.clipped.train == pytest.approx(want.clipped.train, abs=1e-4)
    assert made.psnr.clipped.test == pytest.approx(want.clipped.test, abs=1e-4)
    again, _ = evaluated(capsys, *words)
    assert again.psnr == made.psnr and again.weights_sha256 == made.weights_sha256
    plain, _ = evaluated(capsys, *words, "--convention", "here")  # read as an estimate of the noise it is another denoiser
    assert plain.id != made.id and abs(plain.psnr_test - made.psnr_test) > 0.1


def test_a_flow_that_was_trained_here_has_every_number_to_the_last_digit(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PSNR, what the membership gap is of, and the scores of samples: as of the run that the weights are from."""
    recipes = tmp_path / "mine" / "recipes"
    recipes.mkdir(parents=True)
    flow = "Recipe.prediction = 'flow'\nRecipe.weighting = 'flow'\nRecipe.noise_schedule = 'straight'\nRecipe.peers = (0, 1)\n"
    (recipes / "tiny_flow.gin").write_text((ENTRIES / "recipes" / "tiny.gin").read_text() + flow)
    own = benchmark.run(benchmark.resolve(**NAMES | {"recipe": "tiny_flow"}, subset=6, registry=[ENTRIES, tmp_path / "mine"]), device="cpu")
    ema = next((home / "runs" / own.id / "checkpoints").glob("*40/ema.safetensors"))
    quality = ["--samples", "12", "--sampler", "ddim", "--sampling-steps", "3", "--allow-small"]
    searched = ["--registry", str(ENTRIES), "--registry", str(tmp_path / "mine"), "--device", "cpu", "--threads", "1", "--json"]
    own_scored, _ = evaluated(capsys, own.id, "--metrics", "fd_randconv,memorisation", *quality, *searched)
    words = ["--weights", str(ema), "--format", "dit", "--model", "dit_tiny", "--layout", "global", "--recipe", "tiny_flow"]
    words += [*SCORED, "--registry", str(tmp_path / "mine"), "--publish", "their_flow"]
    first, _ = evaluated(capsys, *words)
    assert first.psnr == own.psnr and first.weights_sha256 == own.weights_sha256 and not first.scores
    assert first.membership == own.membership and any(peer.psnr for peer in first.membership.peers)
    assert (first.row.model, first.id != own.id) == ("their_flow", True)
    made, _ = evaluated(capsys, *words, "--metrics", "fd_randconv,memorisation", *quality)
    assert made.scores == own_scored.scores and {"fd_randconv", "memorisation"} <= made.scores.keys()
    assert made.created == first.created  # PSNR was not asked for again
    again, _ = evaluated(capsys, *words)
    assert again.scores == made.scores and again.psnr == made.psnr


def test_a_flow_with_labels_is_scored_with_every_images_own_and_with_no_class(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrapped, in the official naming: both numbers are those of the run that made the weights; with one label folded in, one of them."""
    flow = ["recipe.prediction=flow", "recipe.weighting=flow", "recipe.noise_schedule=straight"]
    named = {"model": "dit_tiny_labels", "layout": "global", "dataset": "digits8", "recipe": "tiny"}
    own = benchmark.run(benchmark.resolve(**named, subset=16, overrides=flow, registry=[ENTRIES]), device="cpu")
    ema = load_file(next((home / "runs" / own.id / "checkpoints").glob("*40/ema.safetensors")))
    torch.save({"ema": {f"module.{name}": value for name, value in ema.items()}}, tmp_path / "theirs.pt")
    words = ["--weights", str(tmp_path / "theirs.pt"), "--format", "dit", "--layout", "global", "--recipe", "tiny", "--dataset", "digits8"]
    words += ["--subset", "16", "--registry", str(ENTRIES), "--device", "cpu", "--threads", "1", "--json"]
    words += [word for one in flow for word in ("--set", one)]
    made, _ = evaluated(capsys, *words, "--model", "dit_tiny_labels")
    assert (made.psnr, made.unlabelled, made.metric_version) == (own.psnr, own.unlabelled, record.LABELS_VERSION)
    assert made.data.labels_sha256 == own.data.labels_sha256 and own.psnr != own.unlabelled.psnr
    assert main(["evaluate", *words, "--model", "dit_tiny_labels", "--label", "3"]) == 2
    captured = capsys.readouterr()
    assert "every image gets its own" in captured.out + captured.err
    folded, _ = evaluated(capsys, *words, "--model", "dit_tiny", "--label", "10")
    assert folded.metric_version == record.METRIC_VERSION and folded.unlabelled is None
    assert folded.psnr.clipped.train == pytest.approx(own.unlabelled.psnr.clipped.train, abs=1e-3)


def test_outputs_are_those_of_the_official_sit() -> None:
    """By its own code (willisma/SiT, models.py), hidden 32, depth 2, 2 heads, patch 2, 3 classes, on the weights of `fill`.

    Times are shares in [0, 1]; positions 0, 100, 300, 500 of the flat output, its sum and its absolute sum, the variance left out.
    """
    wide, plain = (
        built(DiT(hidden=32, depth=2, heads=2, patch=2, num_classes=3, learned_variance=learned)).eval() for learned in (True, False)
    )
    found = weights.fitted(fill(wide).state_dict(), plain.state_dict(), 3, Path("w.pt"))
    weights.fill(plain, found.weights, Path("w.pt"), "sit")
    x, t, y = chirp(3 * 3 * 8 * 8).view(3, 3, 8, 8).float(), torch.tensor([0.0, 0.37, 0.999]), torch.tensor([0, 3, 1])
    with torch.no_grad():
        out = plain(x, t, y).double()
    golden = torch.tensor([-0.1848653, 0.9315401, 0.0664778, 0.8154561], dtype=torch.float64)
    torch.testing.assert_close(out.flatten()[[0, 100, 300, 500]], golden, rtol=0, atol=1e-5)
    assert out.sum().item() == pytest.approx(-24.1448418, abs=1e-3)
    assert out.abs().sum().item() == pytest.approx(186.6011221, abs=1e-3)


@pytest.mark.parametrize(("model", "layer"), [("dit_tiny", "final_layer.linear"), ("unet_mini", "out.2")])
def test_a_learned_variance_is_left_out_exactly(model: str, layer: str, tmp_path: Path) -> None:
    """The estimate of the noise is that of the network that has the variance as well."""
    search = registry.roots([ENTRIES])
    wide, plain = (
        run.build(resolve(NAMES | {"model": model}, subset=6, seed=0, overrides=words, search=search)).eval()
        for words in (["model.learned_variance=True"], [])
    )
    generator = torch.Generator().manual_seed(0)
    state = {name: value + 0.1 * torch.randn(value.shape, generator=generator) for name, value in wide.state_dict().items()}
    wide.load_state_dict(state)
    found = weights.fitted(state, plain.state_dict(), 3, tmp_path)
    assert layer in found.said[0]
    weights.fill(plain, found.weights, tmp_path, model)
    x, t = torch.randn(2, 3, 8, 8, generator=generator), torch.tensor([5, 900])
    with torch.no_grad():
        torch.testing.assert_close(plain(x, t), wide(x, t), rtol=1e-6, atol=1e-6)


def test_what_a_network_estimates_follows_format_recipe_and_convention() -> None:
    def config(**words: object) -> External:
        return weights.external(spec_of("recipe.prediction=flow"), publish=None, origin="a test", **words).recipe.config

    assert (config().prediction, config().convention) == ("flow", "here")
    assert config(prediction="data").prediction == "data"
    assert config(convention="repa").convention == "repa"
    assert config(convention="improved_cosine", cosine_steps=1000).cosine_steps == 1000
    assert config(convention="sit", cosine_steps=1000).cosine_steps == 4000  # no part of what it does not concern
    with pytest.raises(UsageError, match="Leave one of the two out"):
        config(prediction="data", convention="sit")
    assert weights.OFFICIAL == {"dit": "here", "unet": "here", "sit": "sit", "diversedit": "repa", "bias_free": "residual"}
    assert isinstance(noise_estimate(nn.Identity(), config()), NoiseEstimate)


def test_flags_offer_every_format_and_convention_that_there_is() -> None:
    assert (get_args(weights.Format), get_args(Convention)) == (commands.FORMATS, commands.CONVENTIONS)
    assert weights.OFFICIAL.keys() == set(commands.FORMATS)
