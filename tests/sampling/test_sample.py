"""benchmark/sampling: what a sample depends on, real kills, and what is refused."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from benchmark.cli import main
from benchmark.contract import Attention, ImageShape
from benchmark.errors import BenchError, UsageError
from benchmark.networks.diffusion import random_key, scaled
from benchmark.quality.evaluation import sampling
from benchmark.recording import grids
from benchmark.sampling import Request, samples
from benchmark.sampling.drawing import draw_samples, grey_levels, labels, noise_source
from benchmark.sampling.samplers import SAMPLERS, guided
from registry.backbones.dit import DiT
from tests.conftest import ENTRIES, TINY

CPU, SHAPE = torch.device("cpu"), ImageShape(3, 4)
FLAGS = ["--registry", str(ENTRIES), "--device", "cpu", "--threads", "1"]


def network(num_classes: int = 0, class_dropout: float = 0.1) -> nn.Module:
    """Two blocks with weights that do something: fresh ones return 0."""
    torch.manual_seed(0)
    made = DiT(hidden=16, depth=2, heads=2, num_classes=num_classes, class_dropout=class_dropout).build(SHAPE, (Attention(),) * 2)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    return made.eval()


def make(folder: Path, request: Request, *, batch: int = 4, net: nn.Module | None = None, weights: str = "w") -> np.ndarray:
    return samples(folder, request, shape=SHAPE, weights_sha256=weights, network=lambda: net or network(), device=CPU, batch=batch).images


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_depends_on_seed_and_number_alone(sampler: str) -> None:
    request = Request(count=7, sampler=sampler, steps=12, seed=3)
    whole = draw_samples(network(), request, range(7), SHAPE, CPU)
    assert whole.shape == (7, 3, 4, 4)
    assert whole.std() > 10
    for batch in (1, 3):
        parts = np.concatenate([draw_samples(network(), request, range(k, min(k + batch, 7)), SHAPE, CPU) for k in range(0, 7, batch)])
        assert np.abs(parts.astype(int) - whole).max() <= 1  # one grey level: fp32 sums differ with the batch
    other = draw_samples(network(), Request(count=7, sampler=sampler, steps=12, seed=4), range(7), SHAPE, CPU)
    assert not np.array_equal(other, whole)


def test_either_variance_is_kept_and_said_under_a_name_of_its_own(tmp_path: Path) -> None:
    small, large = Request(count=4, steps=6), Request(count=4, steps=6, variance="beta")
    assert (small.key, large.key) == ("ancestral6-seed0", "ancestral6-beta-seed0")
    assert (sampling(small), sampling(large)) == ("ancestral, 6 steps, seed 0", "ancestral, 6 steps, variance beta, seed 0")
    assert not np.array_equal(make(tmp_path, small), make(tmp_path, large))
    stored = [json.loads((tmp_path / "samples" / one.key / "samples.json").read_text()) for one in (small, large)]
    assert "variance" not in stored[0]  # as samples were described before there was a choice
    assert stored[1]["variance"] == "beta"


def test_a_precision_is_part_of_what_samples_are(tmp_path: Path) -> None:
    plain, half = Request(count=4, sampler="dpm", steps=6), Request(count=4, sampler="dpm", steps=6, precision="bf16")
    assert (plain.key, half.key) == ("dpm6-seed0", "dpm6-bf16-seed0")
    assert (sampling(plain), sampling(half)) == ("dpm, 6 steps, seed 0", "dpm, 6 steps, bf16, seed 0")
    images, other = make(tmp_path, plain), make(tmp_path, half)
    assert 0 < np.abs(images.astype(int) - other).max() < 64  # bf16 rounds to 1 part in 256
    stored = [json.loads((tmp_path / "samples" / one.key / "samples.json").read_text()) for one in (plain, half)]
    assert "precision" not in stored[0]  # as samples were described before there was a choice
    assert stored[1]["precision"] == "bf16"
    with pytest.raises(UsageError, match="cpu has no TF32"):
        make(tmp_path, Request(count=1, precision="tf32"))


class Greedy(nn.Module):
    """A network that needs more memory than there is for more than `most` images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.inner, self.most, self.sizes = network(), most, list[int]()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return self.inner(x, t)


def test_a_batch_that_does_not_fit_is_sampled_in_halves(tmp_path: Path) -> None:
    greedy = Greedy(3)
    found = make(tmp_path / "a", Request(count=10, steps=4), batch=8, net=greedy)
    assert np.abs(found.astype(int) - make(tmp_path / "b", Request(count=10, steps=4), batch=8)).max() <= 1
    assert greedy.sizes[:4] == [8, 4, 2, 2]  # of 8: halved for good, in the middle of the way from noise to image
    assert set(greedy.sizes[2:]) == {2}


def test_a_compiled_network_is_sampled_in_one_shape(tmp_path: Path) -> None:
    torch.compiler.reset()
    counted = CompileCounterWithBackend("aot_eager")
    compiled = network(num_classes=3)
    for block in compiled.blocks:
        block.compile(backend=counted, dynamic=False)
    request = Request(count=10, steps=4, guidance=2.0)  # twice as many rows as images
    images = {}
    for name, net in (("compiled", compiled), ("plain", network(num_classes=3))):
        images[name] = samples(
            tmp_path / name,
            request,
            shape=SHAPE,
            weights_sha256="w",
            network=lambda net=net: net,
            classes=3,
            null=True,
            device=CPU,
            batch=4,
        ).images
    assert np.abs(images["compiled"].astype(int) - images["plain"]).max() <= 1
    assert counted.frame_count == 1


def test_noise_is_the_stream_of_each_number() -> None:
    draw = noise_source(5, range(2, 4), SHAPE, CPU)
    first, second = draw(), draw()
    for place, k in enumerate((2, 3)):
        stream = torch.Generator().manual_seed(random_key("sample", 5, k))
        assert torch.equal(first[place], torch.empty(3, 4, 4).normal_(generator=stream))
        assert torch.equal(second[place], torch.empty(3, 4, 4).normal_(generator=stream))
    assert first.flatten().tolist()[:2] == pytest.approx([-0.090168, 0.418888], abs=1e-5)  # every published sample depends on them


def test_grey_levels_undo_the_scaling() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(grey_levels(scaled(every)), every)
    assert grey_levels(torch.tensor([-1.5, 1.5, 0.0])).tolist() == [0, 255, 128]


def test_guidance_is_the_formula_with_the_label_of_no_class() -> None:
    net, x, t = network(num_classes=3), torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((5,), 400)
    y = labels(0, range(5), 3)
    with torch.no_grad():
        conditional, unconditional = net(x, t, y), net(x, t, torch.full((5,), 3))
        assert (conditional - unconditional).abs().max() > 1e-3
        for scale in (0.0, 1.0, 1.5, 4.0):
            want = unconditional.double() + scale * (conditional.double() - unconditional.double())
            assert torch.allclose(guided(net, y, 3, scale)(x, t).double(), want, atol=1e-5)


def test_labels_depend_on_seed_and_number_and_take_every_class() -> None:
    every = labels(1, range(60), 3)
    assert torch.equal(labels(1, range(20, 40), 3), every[20:40])
    assert sorted(set(every.tolist())) == [0, 1, 2]
    assert not torch.equal(labels(2, range(60), 3), every)


def test_a_model_with_classes_is_sampled_with_and_without_guidance(tmp_path: Path) -> None:
    def images(guidance: float | None) -> np.ndarray:
        request = Request(count=3, sampler="ddim", steps=4, guidance=guidance)
        return samples(
            tmp_path, request, shape=SHAPE, weights_sha256="w", network=lambda: network(3), classes=3, null=True, device=CPU
        ).images

    assert np.array_equal(images(None), images(1.0))
    assert not np.array_equal(images(None), images(3.0))
    with pytest.raises(UsageError, match="class_dropout = 0"):
        samples(
            tmp_path, Request(count=1, guidance=2.0), shape=SHAPE, weights_sha256="w", network=network, classes=3, null=False, device=CPU
        )


def test_more_and_fewer_samples_go_on_from_those_that_are_there(tmp_path: Path) -> None:
    def request(count: int) -> Request:
        return Request(count=count, sampler="ddim", steps=5)

    five, twelve = make(tmp_path / "a", request(5)).copy(), make(tmp_path / "a", request(12))
    fresh = samples(tmp_path / "b", request(12), shape=SHAPE, weights_sha256="w", network=network, device=CPU, batch=12)
    assert np.array_equal(twelve[:5], five)
    assert np.abs(twelve.astype(int) - fresh.images).max() <= 1
    assert fresh.info["complete"]
    assert fresh.info["count"] == 12

    def never() -> nn.Module:
        raise AssertionError("the samples are there")

    fewer = samples(tmp_path / "b", request(3), shape=SHAPE, weights_sha256="w", network=never, device=CPU)
    assert np.array_equal(fewer.images, fresh.images[:3])
    assert fewer.info["count"] == 3
    assert fewer.info["sha256"] != fresh.info["sha256"]


@pytest.mark.parametrize("moment", ["torn batch", "before the rename", "after the rename"])
def test_every_moment_of_a_kill_is_resumed(tmp_path: Path, moment: str) -> None:
    request = Request(count=8, sampler="ddim", steps=5)
    want = make(tmp_path, request).copy()
    folder = tmp_path / "samples" / request.key
    info = json.loads((folder / "samples.json").read_text())
    if moment != "after the rename":
        os.replace(folder / "images.npy", folder / "images.npy.partial")
    if moment == "torn batch":
        with (folder / "images.npy.partial").open("r+b") as file:
            file.truncate(128 + 4 * 48 + 70)
    done = 4 if moment == "torn batch" else 8
    (folder / "samples.json").write_text(json.dumps(info | {"done": done, "complete": False, "sha256": None}))
    assert np.array_equal(make(tmp_path, request), want)
    assert json.loads((folder / "samples.json").read_text()) == info
    assert sorted(path.name for path in folder.iterdir()) == ["images.npy", "lock", "samples.json"]


def test_damage_and_changed_weights_are_named(tmp_path: Path) -> None:
    request = Request(count=4, sampler="ddim", steps=5)
    make(tmp_path, request)
    with pytest.raises(BenchError, match="weights_sha256 = w, and the run now has weights_sha256 = v"):
        make(tmp_path, request, weights="v")
    array = tmp_path / "samples" / request.key / "images.npy"
    content = bytearray(array.read_bytes())
    content[200] ^= 1
    array.write_bytes(content)
    with pytest.raises(BenchError, match=r"have changed since they were made. Remove the folder"):
        make(tmp_path, request)
    array.write_bytes(content[:-1])
    with pytest.raises(BenchError, match="cannot be read"):
        make(tmp_path, request)
    (array.parent / "samples.json").write_text("{")
    with pytest.raises(BenchError, match="samples.json is damaged"):
        make(tmp_path, request)


def test_a_network_that_returns_nan_is_named_and_nothing_is_kept(tmp_path: Path) -> None:
    class Breaks(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            x = x.clone()
            x[2] = torch.nan
            return x

    request = Request(count=8, sampler="ddim", steps=2)
    with pytest.raises(BenchError, match="sample number 2 .* not finite"):
        make(tmp_path, request, net=Breaks())
    assert json.loads((tmp_path / "samples" / request.key / "samples.json").read_text())["done"] == 0


def test_grid_holds_every_pixel_of_every_image() -> None:
    images = np.random.default_rng(0).integers(0, 256, (70, 3, 4, 4), dtype=np.uint8)
    picture = np.asarray(Image.open(io.BytesIO(grids.grid(images))))
    assert picture.shape == (8 * 66 + 2, 8 * 66 + 2, 3)
    for k in range(64):
        top, left = (k // 8) * 66 + 2, (k % 8) * 66 + 2
        block = picture[top : top + 64, left : left + 64]
        assert np.array_equal(block[::16, ::16].transpose(2, 0, 1), images[k])
        assert np.array_equal(block[15::16, 15::16].transpose(2, 0, 1), images[k])
    grey = np.asarray(Image.open(io.BytesIO(grids.grid(images[:3, :1]))))
    assert grey.shape == (68, 8 * 66 + 2)
    with pytest.raises(BenchError, match="no images"):
        grids.grid(images[:0])


# The commands, on real runs of forty steps: two seeds (other images), and the first again for half as long.


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Path]]]:
    home = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_HOME", str(home))
        folders: list[Path] = []
        for words in (["--seed", "0"], ["--seed", "1"], ["--set", "recipe.steps=20"]):
            assert main(["run", *TINY, "--no-track", *words]) == 0
            folders += [path for path in (home / "runs").iterdir() if path not in folders]
        yield home, folders


def call(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    capsys.readouterr()
    code = main([*words, *FLAGS, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


# Samples, and kills itself once six images are said to be there.
KILLED = """
import os, signal, sys
from benchmark.cli import main
from benchmark.sampling import store
write_text = store.write_text
def written(path, text):
    write_text(path, text)
    if '"done": 6,' in text:
        os.kill(os.getpid(), signal.SIGKILL)
store.write_text = written
sys.exit(main(sys.argv[1:]))
"""


def test_killed_and_resumed_equals_uninterrupted(
    runs: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs[1][0]
    shutil.copytree(folder, tmp_path / "killed" / "runs" / folder.name)
    shutil.copytree(runs[0] / "packed", tmp_path / "killed" / "packed")
    words = ["sample", folder.name, "--count", "40", "--batch", "2", "--sampling-steps", "40", *FLAGS, "--json"]
    environment = os.environ | {"BENCH_HOME": str(tmp_path / "killed")}
    done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = tmp_path / "killed" / "runs" / folder.name / "samples" / "dpm40-seed0" / "samples.json"
    before = json.loads(state.read_text())
    assert 6 <= before["done"] < 40
    assert not before["complete"]
    found = {}
    for home in (runs[0], tmp_path / "killed"):
        monkeypatch.setenv("BENCH_HOME", str(home))
        found[home] = call(capsys, "sample", folder.name, "--count", "40", "--batch", "2", "--sampling-steps", "40")
    whole, resumed = found.values()
    assert resumed["sha256"] == whole["sha256"]
    images = np.load(resumed["images"])
    assert (images.dtype, images.shape) == (np.uint8, (40, 3, 8, 8))


def test_sample_writes_what_it_says(
    runs: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENCH_HOME", str(runs[0]))
    folder = runs[1][0]
    got = call(
        capsys, "sample", folder.name, "--count", "9", "--sampler", "dpm", "--sampling-steps", "6", "--grid", str(tmp_path / "g.png")
    )
    record = json.loads((folder / "record.json").read_text())
    assert got["weights_sha256"] == record["weights_sha256"]
    assert (got["run"], got["sampler"], got["steps"], got["count"], got["complete"]) == (folder.name, "dpm", 6, 9, True)
    picture = np.asarray(Image.open(tmp_path / "g.png"))
    assert np.array_equal(picture[2, 2], np.load(got["images"])[0, :, 0, 0])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--guidance", "2"], 2, "needs a model with classes"),
        (["--eta", "0.5"], 2, "belongs to the sampler 'ddim'"),
        (["--eta", "2", "--sampler", "ddim"], 2, "at most 1"),
        (["--variance", "beta", "--sampler", "ddim"], 2, "variance = beta belongs to the sampler 'ancestral'"),
        (["--sampling-steps", "0"], 2, "--sampling-steps = 0 must be at least 1"),
        (["--sampling-steps", "1001"], 2, "at most 1000"),
        (["--count", "0"], 2, "argument --count: 0 must be from 1"),
        (["--batch", "0"], 2, "argument --batch: 0 must be from 1"),
        (["--grid", "samples.jpg"], 2, "must be the name of a .png file"),
        (["--noise-seed", "-1"], 2, "argument --noise-seed: -1 must be from 0"),
        (["--count", "1", "--sampling-steps", "1", "--grid", "/proc/none/g.png"], 1, "cannot be written"),
    ],
)
def test_a_wrong_sample_command_is_one_paragraph(
    runs: tuple[Path, list[Path]],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.setenv("BENCH_HOME", str(runs[0]))
    try:
        ended: object = main(["sample", runs[1][0].name, *words, *FLAGS])
    except SystemExit as refused:  # by the parser
        ended = refused.code
    assert ended == code
    assert message in capsys.readouterr().err


def test_a_run_without_record_or_checkpoint_is_said(
    runs: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home: Callable[..., Path] = tmp_path.joinpath
    folder = home("runs", runs[1][0].name)
    shutil.copytree(runs[1][0], folder, ignore=shutil.ignore_patterns("samples"))
    shutil.copytree(runs[0] / "packed", home("packed"))
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    shutil.rmtree(folder / "checkpoints")
    assert main(["sample", folder.name, *FLAGS]) == 1
    assert "has no checkpoint left" in capsys.readouterr().err
    (folder / "record.json").unlink()
    assert main(["sample", folder.name, *FLAGS]) == 2
    assert "is not finished" in capsys.readouterr().err
