"""benchmark/quality/: the whole Inception path with weights made by formula, against torch-fidelity's own command."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark import quality
from benchmark.errors import BenchError, UsageError
from benchmark.quality import Quality, Reference, features, inception
from benchmark.quality.features import Extractor
from benchmark.recording.record import Score
from tests.inception_weights import images, save

SAMPLES, REFERENCE = images(12, 0), images(11, 40)
CPU = torch.device("cpu")
# Of the fixed images under the formula's weights, torch 2.15 on x86_64.
GOLDEN = {
    "fd_other_inception": 3.80071188,
    "sfd_other_inception": 19.6114862,
    "kd_other_inception": -0.00289174080,
    "score_other_inception": 1.04013788,
    "precision_other_inception": 11 / 12,
    "recall_other_inception": 9 / 11,
}


def asked(weights: Path, **more: bool) -> Quality:
    return Quality(
        metrics=("fid", "kid", "is", "prc", "sfid"), weights=weights, allow_small=True, allow_other_weights=True, **more, batch=4
    )


def scored(weights: Path, folder: Path) -> dict[str, Score]:
    against = Reference(REFERENCE, "r" * 64, folder / "reference")
    wanted = asked(weights)
    made = quality.prepare(wanted, len(SAMPLES), against, CPU)
    return quality.score(
        wanted, made, SAMPLES, folder / "samples", against, sampling="made", device=CPU, bars=lambda name: lambda *numbers: None
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("weights") / "formula.pth")


@pytest.fixture(scope="module")
def complete(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Score]]:
    """The folder and the scores of an uninterrupted pass, in chunks of 4 images."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("complete")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "CHUNK", 4)
        return folder, scored(weights, folder)


def test_golden_scores(complete: tuple[Path, dict[str, Score]]) -> None:
    values = {name: score.value for name, score in complete[1].items()}
    assert values == pytest.approx(GOLDEN, rel=1e-3)


def test_no_score_of_other_weights_is_called_fid_and_all_say_what_they_are(weights: Path, complete: tuple[Path, dict[str, Score]]) -> None:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert not any("fid" in name or name in ("is", "kid") for name in complete[1])
    for name, score in complete[1].items():
        assert (score.extractor, score.weights_digest) == (f"inception-v3-compat@{digest[:8]}", digest)
        assert (score.samples, score.small, score.sampling) == (12, True, "made")
        alone = name == "score_other_inception"
        assert (score.reference_digest, score.reference_samples) == (("", 0) if alone else ("r" * 64, 11))


def test_the_same_numbers_as_the_command_of_torch_fidelity(weights: Path, complete: tuple[Path, dict[str, Score]], tmp_path: Path) -> None:
    for name, stack in (("samples", SAMPLES), ("reference", REFERENCE)):
        (tmp_path / name).mkdir()
        for number, image in enumerate(stack):
            Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / name / f"{number:03}.png")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch_fidelity.fidelity",
            "--cpu",
            "--json",
            "--silent",
            "--fid",
            "--kid",
            "--isc",
            "--prc",
            "--no-cache",
            "--feature-extractor",
            "inception-v3-compat",
            "--feature-extractor-weights-path",
            str(weights),
            "--kid-subset-size",
            "11",
            "--input1",
            str(tmp_path / "samples"),
            "--input2",
            str(tmp_path / "reference"),
            "--batch-size",
            "6",
            "--save-cpu-ram",
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    mine = complete[1]
    pairs = {
        "frechet_inception_distance": mine["fd_other_inception"].value,
        "kernel_inception_distance_mean": mine["kd_other_inception"].value,
        "kernel_inception_distance_std": mine["kd_other_inception"].sd,
        "inception_score_mean": mine["score_other_inception"].value,
        "inception_score_std": mine["score_other_inception"].sd,
        "precision": mine["precision_other_inception"].value,
        "recall": mine["recall_other_inception"].value,
    }
    for name, value in pairs.items():
        assert value == pytest.approx(theirs[name], rel=1e-4, abs=1e-9), name


def test_killed_half_way_and_resumed_gives_the_same_numbers(
    weights: Path, complete: tuple[Path, dict[str, Score]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "CHUNK", 4)
    folder = tmp_path / "killed"
    shutil.copytree(complete[0], folder)
    for path in [*folder.rglob("gaussian-*"), *folder.rglob("000008-*")]:  # as a kill after two of three chunks leaves it
        path.unlink()
    assert len(list(folder.rglob("000*"))) == 4
    assert scored(weights, folder) == complete[1]


def test_the_spatial_features_are_those_of_the_layers_run_one_by_one(weights: Path) -> None:
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    network = inception._network(weights.read_bytes(), weights)
    batch = torch.from_numpy(SAMPLES[:1])
    with torch.no_grad():
        x = (interpolate_bilinear_2d_like_tensorflow1x(batch.float(), size=(299, 299), align_corners=False) - 128) / 128
        for name, layer in network.named_children():
            if name == "Mixed_6d":
                break
            x = layer(x)
        branch = layer.branch1x1
        expected = torch.relu(branch.bn(branch.conv(x)))[:, :7]
        found = inception.forward(network, batch)["spatial"]
    assert expected.shape == (1, 7, 17, 17)
    torch.testing.assert_close(found, expected.reshape(1, -1), rtol=1e-5, atol=1e-6)


def test_unknown_weights_are_refused_before_they_are_opened(tmp_path: Path) -> None:
    path = tmp_path / "harmful.pth"
    torch.save({"a": Opened(tmp_path / "was-opened")}, path)
    with pytest.raises(UsageError, match="not that of the published Inception weights"):
        inception.extractor(path, CPU)
    with pytest.raises(BenchError, match="no file of plain tensors"):
        inception.extractor(path, CPU, allow_other=True)
    assert not (tmp_path / "was-opened").exists()


class Opened:
    """What a pickle can do when it is opened: make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(2)}, "does not hold the weights of inception-v3-compat"),
        ({"a": torch.tensor([float("nan")])}, "NaN or inf in 'a'"),
        ([torch.zeros(2)], "something else than a table of tensors"),
    ],
)
def test_weights_of_something_else_are_one_paragraph(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(BenchError, match=message) as raised:
        inception.extractor(tmp_path / "other.pth", CPU, allow_other=True)
    assert "\n" not in str(raised.value)


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv(inception.VARIABLE, raising=False)
    with pytest.raises(UsageError, match="quality.inception.setup"):
        inception.extractor(None, CPU)
    monkeypatch.setenv(inception.VARIABLE, str(tmp_path / "nowhere.pth"))
    with pytest.raises(UsageError, match=r"nowhere\.pth cannot be read"):
        inception.extractor(None, CPU)


def test_setup_fetches_once_and_keeps_nothing_that_has_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    source = tmp_path / "published.pth"
    source.write_bytes(b"some weights" * 1000)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    with pytest.raises(BenchError, match="nothing was kept"):
        inception.setup(address=source.as_uri(), sha256="0" * 64)
    assert not inception.cached().exists()
    assert inception.setup(address=source.as_uri(), sha256=digest) == (inception.cached(), True)
    assert inception.cached().read_bytes() == source.read_bytes()
    assert inception.setup(address="https://nowhere.invalid/", sha256=digest) == (inception.cached(), False)
    inception.cached().write_bytes(b"damaged")
    with pytest.raises(BenchError, match="Remove it"):
        inception.setup(address=source.as_uri(), sha256=digest)
    inception.cached().unlink()
    with pytest.raises(BenchError, match="cannot be fetched"):
        inception.setup(address=(tmp_path / "gone.pth").as_uri(), sha256=digest)


def test_the_published_digest_is_the_one_in_the_published_name() -> None:
    assert inception.cached().name == f"weights-inception-2015-12-05-{inception.PUBLISHED[:8]}.pth"
    assert len(inception.PUBLISHED) == 64


@pytest.mark.skipif("BENCH_PUBLISHED_FID" not in os.environ, reason="BENCH_PUBLISHED_FID names a folder with the published statistics")
def test_the_published_fid_of_a_known_pair_of_statistics() -> None:
    """samples.npy, reference.npy (N, 3, R, R) uint8 and fid.txt, the FID that was published of the two."""
    folder = Path(os.environ["BENCH_PUBLISHED_FID"])
    samples, reference = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("samples", "reference"))
    against = Reference(reference, features.digest(reference), folder / "features" / "reference")
    wanted = Quality(metrics=("fid",))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made: list[Extractor] = quality.prepare(wanted, len(samples), against, device)
    found = quality.score(
        wanted, made, samples, folder / "features" / "samples", against, sampling="", device=device, bars=lambda name: lambda *numbers: None
    )
    assert found["fid"].value == pytest.approx(float((folder / "fid.txt").read_text()), abs=0.01)
