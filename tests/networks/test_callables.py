"""`bench evaluate --denoiser`: any Python callable as a row, its code a part of it."""

import math
import sys
from pathlib import Path

import pytest
import torch

import benchmark
from benchmark import run
from benchmark.cli import main
from benchmark.declaring import registry
from benchmark.networks import outside
from benchmark.networks.diffusion import scaled
from benchmark.pages.membership import membership_gaps
from tests.conftest import ENTRIES
from tests.networks.test_elsewhere import SCORED, evaluated, images

CODE = """
from torch import Tensor


def grey(x: Tensor, t: Tensor) -> Tensor:
    return 0 * x + {value}


class Grey:
    def __call__(self, x, t):
        return 0 * x + {value}


def loud(x, t):
    raise IndexError("no such level")


def flat(x, t):
    return x.flatten(1)


as_object, number = Grey(), 3
"""


def typed_beside(name: str, value: float, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type commands in a folder, whose module of denoisers estimates images of this grey value."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", ["", *sys.path])
    Path(name).write_text(CODE.format(value=value))


def test_any_python_callable_is_scored_and_its_code_is_part_of_its_row(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed_beside("grey_denoisers.py", 0.0, tmp_path, monkeypatch)
    words = ["--recipe", "tiny", *SCORED, "--prediction", "data"]
    assert main(["evaluate", "--denoiser", "grey_denoisers:grey", *words, "--metrics", "psnr,fd_randconv", "--samples", "5"]) == 2
    assert "needs at least 10 samples" in capsys.readouterr().err and not list((home / "runs").glob("external-*"))
    made, said = evaluated(capsys, "--denoiser", "grey_denoisers:grey", *words, "--publish", "grey")
    assert "is imported and run here" in " ".join(said.split())
    assert (made.row.model, made.row.layout, made.training.parameters, made.training.forward_flops) == ("grey", "global", 0, 0)
    train, test = images()
    found = benchmark.score(lambda x, t: 0 * x, train, test, steps=3, images=8, prediction="data")
    assert made.psnr == found
    per_image = scaled(test[:8]).square().mean().item()  # x0_hat = 0 whatever the noise
    assert found.clipped.test == pytest.approx([10 * math.log10(4 / per_image)] * 3, abs=1e-4)
    other, _ = evaluated(capsys, "--denoiser", "grey_denoisers:as_object", *words)
    assert other.psnr == made.psnr and other.id != made.id
    (tmp_path / "grey_again.py").write_text(CODE.format(value=0.1))
    changed, _ = evaluated(capsys, "--denoiser", "grey_again:grey", *words)
    assert changed.spec["model"]["config"]["code"] != made.spec["model"]["config"]["code"]
    assert main(["evaluate", "--denoiser", "grey_again:grey", *words, "--publish", "grey"]) == 1
    assert "the row of other weights" in capsys.readouterr().err
    for wrong, message in (
        ("grey_denoisers", "must be package.module:name"),
        ("grey_denoisers:none", "has no attribute 'none'"),
        ("no_such_module:f", "No module named"),
        ("grey_denoisers:number", "cannot be called"),
        ("grey_denoisers:loud", "called with x (2, 3, 8, 8) and t (2,), raised IndexError: no such level"),
        ("grey_denoisers:flat", "a tensor of the shape of x, (2, 3, 8, 8); it returned a tensor of shape (2, 192)"),
    ):
        assert main(["evaluate", "--denoiser", wrong, *words]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", "--denoiser", "grey_denoisers:grey", "--model", "dit_tiny", *words]) == 2
    assert "belongs to --weights" in " ".join(capsys.readouterr().err.split())


def test_networks_of_several_seeds_under_one_name_have_a_membership_gap(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One callable, taken to have seen the images of one seed and of another, has none: same images, same noise."""
    typed_beside("grey_peers.py", 0.25, tmp_path, monkeypatch)
    recipes = tmp_path / "mine" / "recipes"
    recipes.mkdir(parents=True)
    (recipes / "tiny_peers.gin").write_text((ENTRIES / "recipes" / "tiny.gin").read_text() + "Recipe.peers = (0, 1)\n")
    words = [
        "--denoiser",
        "grey_peers:grey",
        "--prediction",
        "data",
        "--recipe",
        "tiny_peers",
        *SCORED,
        "--registry",
        str(tmp_path / "mine"),
    ]
    first, second = (evaluated(capsys, *words, "--seed", str(seed), "--publish", "grey_peers")[0] for seed in (0, 1))
    assert first.psnr.clipped.train != second.psnr.clipped.train and first.row.recipe == "tiny_peers_external"
    assert membership_gaps({0: first, 1: second}) == pytest.approx({0: 0.0, 1: 0.0}, abs=1e-9)
    other, _ = evaluated(capsys, *words, "--seed", "2")
    assert other.membership is None


def test_a_row_of_code_that_has_changed_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "moving_denoiser.py").write_text(CODE.format(value=0.0))
    spec = outside.spec_of("moving_denoiser:grey", dataset="leaves_tiny", recipe="tiny", subset=6, search=registry.roots([ENTRIES]))
    assert run.build(spec)(torch.ones(1, 3, 8, 8), torch.tensor([1])).sum() == 0
    (tmp_path / "moving_denoiser.py").write_text(CODE.format(value=1.0))
    with pytest.raises(ValueError, match="other code than was scored"):
        run.build(spec)
