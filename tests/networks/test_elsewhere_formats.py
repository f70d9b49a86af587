"""Files in the namings of improved-diffusion, DiverseDiT and of an EDM-preconditioned DiT: each scored as by its own rule, written out."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import benchmark
from benchmark import run
from benchmark.cli import main
from benchmark.declaring import registry
from benchmark.declaring.spec import resolve
from benchmark.recording import record
from benchmark.running.place import here
from benchmark.running.progress import Display
from tests.conftest import ENTRIES, TINY
from tests.networks.test_backbones import fill

NAMES = {"layout": "global", "dataset": "leaves_tiny", "recipe": "tiny"}
SEARCH = registry.roots([ENTRIES])
WORDS = TINY[2:]  # all but the model
Rule = Callable[[nn.Module, Tensor, float, float], Tensor]  # network, one noisy image (1, C, R, R), a and s -> the image


def wide(model: str, *words: str) -> nn.Module:
    """A network as it is trained elsewhere: with classes and, where words say so, a learned variance."""
    spec = resolve(NAMES | {"model": model}, subset=6, seed=0, overrides=["model.num_classes=3", *words], search=SEARCH)
    return fill(run.build(spec)).eval()


def improved(network: nn.Module, x: Tensor, a: float, s: float) -> Tensor:
    """By the cosine schedule of 4000 steps, whose products of betas reach a^2 at a step found by halving; time in thousandths."""

    def abar(i: float) -> float:
        return (math.cos(((i + 1) / 4000 + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2

    low, high = -1.0, 3999.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if abar(middle) > a * a else (low, middle)
    return (x - s * network(x, torch.tensor([low / 4]), torch.tensor([1]))) / a


def diverse(network: nn.Module, x: Tensor, a: float, s: float) -> Tensor:
    """z = (1 - u) x_0 + u eps at time u; eps - x_0 is estimated."""
    u, z = s / (a + s), x / (a + s)
    return z - u * network(z, torch.tensor([u]), torch.tensor([1]))


def edm(network: nn.Module, x: Tensor, a: float, s: float) -> Tensor:
    """Table 1 of Karras et al. 2022, at sigma = s / a and sigma_data = 0.4."""
    sigma, noisy = s / a, x / a
    total = sigma**2 + 0.4**2
    inner = network(noisy / math.sqrt(total), torch.tensor([math.log(sigma) / 4]), torch.tensor([1]))
    return 0.16 / total * noisy + sigma * 0.4 / math.sqrt(total) * inner


def by_hand(rule: Rule, network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    product, abar = 1.0, []
    for step in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
        abar.append(product)

    def noise(x: Tensor, t: Tensor) -> Tensor:
        out = []
        for one, step in zip(x, t.tolist(), strict=True):
            a, s = math.sqrt(abar[step]), math.sqrt(1 - abar[step])
            with torch.no_grad():
                out.append((one - a * rule(network, one[None], a, s)[0]) / s)
        return torch.stack(out)

    return noise


@pytest.mark.parametrize(
    ("model", "form", "rule", "words", "learned"),
    [
        ("unet_mini", "unet", improved, ["--convention", "improved_cosine"], True),
        ("dit_mini_diverse", "diversedit", diverse, [], True),
        ("dit_tiny", "dit", edm, ["--convention", "edm", "--sigma-data", "0.4"], False),
    ],
    ids=["improved-diffusion", "DiverseDiT", "EDM"],
)
def test_a_file_is_scored_by_the_rule_it_was_trained_by(
    model: str,
    form: str,
    rule: Rule,
    words: list[str],
    learned: bool,
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = wide(model, *(["model.learned_variance=True"] if learned else []))
    state = network.state_dict()
    heads = (
        {"projectors.0.0.weight": torch.zeros(2, 2), "ap_head.bias": torch.zeros(2), "factorization_head.a.bias": torch.zeros(2)}
        if form == "diversedit"
        else {}
    )
    plain = {"unet": state, "dit": {f"model.{name}": value for name, value in state.items()}}  # as EDMPrecond names its network
    torch.save(plain.get(form) or {"ema": state | heads, "model": {k: 0 * v for k, v in state.items()}, "steps": 40}, tmp_path / "w.pt")
    given = ["--weights", str(tmp_path / "w.pt"), "--format", form, "--model", model, "--label", "1", *words]
    assert main(["evaluate", *given, *WORDS, "--json"]) == 0
    captured = capsys.readouterr()
    found = record.read(Path(json.loads(captured.out)["record"]))
    assert ("learned variance, which is ignored" in " ".join(captured.err.split())) is learned
    with Display() as display:
        subset = run.load_subset(resolve(NAMES | {"model": model}, subset=6, seed=0, search=SEARCH), here("cpu", None), display)
    want = benchmark.score(by_hand(rule, network), subset.train, subset.test, steps=3, images=8)
    for reading in ("clipped", "unclipped"):
        for side in ("train", "test"):
            assert getattr(getattr(found.psnr, reading), side) == pytest.approx(getattr(getattr(want, reading), side), abs=2e-3)
    assert max(found.psnr.unclipped.test) - min(found.psnr.unclipped.test) > 1  # the levels differ
