"""benchmark/quality/: the small extractor, features on disk, the reference, what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import quality
from benchmark.declaring import registry
from benchmark.errors import BenchError, UsageError
from benchmark.images import datasets
from benchmark.images.packing import Packed, digest
from benchmark.images.subsets import order
from benchmark.quality import Quality, Reference, features, randconv
from benchmark.quality.features import Extractor, check_images, extract
from benchmark.quality.frechet import frechet_distance, gaussian
from benchmark.quality.reference import reference, trained_on
from registry.datasets.dead_leaves import DeadLeaves

CPU = torch.device("cpu")


def noise(count: int, seed: int = 0, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def waves(count: int, seed: int) -> np.ndarray:
    """Smooth images: a wave of random direction, phase and colour."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:8, 0:8] / 8
    a, b = rng.uniform(-4, 4, (2, count, 1, 1, 1))
    return np.round(127.5 + 100 * np.sin(a * x + b * y + rng.uniform(0, 6.28, (count, 3, 1, 1)))).astype(np.uint8)


def folder_of(images: np.ndarray, folder: Path) -> features.Features:
    return extract(randconv.extractor(CPU), images, folder, "images", device=CPU)


def test_the_weights_of_the_small_extractor_are_pinned() -> None:
    made = randconv.extractor(CPU)
    assert made.weights_digest == "40548844332b93ce1d31a17c3f30bc79db058ab548e6d29149230f3c8942c238"
    assert made.layers == {"features": 224}
    assert [kernel.shape for kernel in randconv.weights()] == [(16, 3, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3)]


def test_features_are_mean_and_sd_of_every_channel_of_a_plain_loop() -> None:
    image = noise(1, size=4)[0]
    x = image.astype(np.float64) / 127.5 - 1
    expected = []
    for kernel, stride in zip(randconv.weights(), randconv.STRIDES, strict=True):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="reflect")
        places = range(0, x.shape[1], stride)
        out = np.array([[[(padded[:, i : i + 3, j : j + 3] * one).sum() for j in places] for i in places] for one in kernel])
        x = np.where(out > 0, out, randconv.SLOPE * out)
        expected += [x.mean(axis=(1, 2)), x.std(axis=(1, 2))]
    found = randconv.extractor(CPU).network(torch.from_numpy(image[None]))["features"][0].numpy()
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5, atol=1e-6)


def test_the_small_extractor_orders_real_copied_and_random_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    real = waves(1024, 1)
    sides = {
        "real": waves(1024, 2),
        "copies of 64": waves(64, 3)[rng.integers(0, 64, 1024)],
        "copies of 16": waves(16, 4)[rng.integers(0, 16, 1024)],
        "noise": noise(1024),
    }
    against = folder_of(real, tmp_path / "reference").gaussian("features")
    found = [frechet_distance(folder_of(images, tmp_path / name).gaussian("features"), against) for name, images in sides.items()]
    assert found == sorted(found)
    assert found[1] > 2 * found[0] and found[3] > 10 * found[0]


def test_features_on_disk_are_those_of_one_pass_and_their_moments_numpys(tmp_path: Path) -> None:
    images = noise(700)
    found = folder_of(images, tmp_path)
    assert [path.name for path in found.chunks] == ["000000-000256.safetensors", "000256-000512.safetensors", "000512-000700.safetensors"]
    with torch.no_grad():
        expected = randconv.extractor(CPU).network(torch.from_numpy(images))["features"].numpy()
    np.testing.assert_allclose(found.layer("features"), expected, rtol=1e-5, atol=1e-6)
    fitted = found.gaussian("features")
    np.testing.assert_allclose(fitted.covariance, np.cov(found.layer("features").astype(float), rowvar=False), rtol=1e-9, atol=1e-15)
    again = folder_of(images, tmp_path)
    assert again == found
    assert (again.gaussian("features").covariance == fitted.covariance).all()


def test_more_samples_go_on_where_the_fewer_ended(tmp_path: Path) -> None:
    images = noise(600)
    folder_of(images[:512], tmp_path / "grown")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "grown").iterdir()}
    grown, whole = folder_of(images, tmp_path / "grown"), folder_of(images, tmp_path / "whole")
    assert grown.digest == whole.digest
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


@pytest.mark.parametrize("field", ["images", "extractor", "weights", "version", "content"])
def test_cached_features_of_something_else_are_refused(tmp_path: Path, field: str) -> None:
    images, made = noise(20), randconv.extractor(CPU)
    path = extract(made, images, tmp_path, "samples", device=CPU).chunks[0]
    other = {
        "extractor": Extractor("else", made.weights_digest, "1", made.layers, made.network),
        "weights": Extractor(made.name, "0" * 64, "1", made.layers, made.network),
        "version": Extractor(made.name, made.weights_digest, "2", made.layers, made.network),
    }.get(field, made)
    if field == "content":
        damaged = bytearray(path.read_bytes())
        damaged[-5] ^= 1
        path.write_bytes(damaged)
    with pytest.raises(BenchError, match="damaged" if field == "content" else f"made with {field} = ") as raised:
        extract(other, noise(20, seed=1) if field == "images" else images, tmp_path, "samples", device=CPU)
    assert str(path) in str(raised.value) and "Remove it" in str(raised.value)


def test_a_cached_statistic_of_other_features_is_refused(tmp_path: Path) -> None:
    one, other = folder_of(noise(20), tmp_path / "one"), folder_of(noise(20, seed=1), tmp_path / "other")
    one.gaussian("features")
    (tmp_path / "one" / "gaussian-features-20.safetensors").rename(tmp_path / "other" / "gaussian-features-20.safetensors")
    with pytest.raises(BenchError, match="made with features = "):
        other.gaussian("features")
    (tmp_path / "other" / "gaussian-features-20.safetensors").write_bytes(b"half")
    with pytest.raises(BenchError, match="cannot be read"):
        other.gaussian("features")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((20, 3, 8, 8), np.nan, dtype=np.float32), "hold NaN or inf"),
        (np.zeros((20, 3, 8, 8), dtype=np.float32), "are float32"),
        (np.zeros((20, 3, 8, 8), dtype=np.int64), "are int64"),
        (np.zeros((20, 1, 8, 8), dtype=np.uint8), r"shape \(20, 1, 8, 8\)"),
        (np.zeros((20, 3, 8, 9), dtype=np.uint8), r"shape \(20, 3, 8, 9\)"),
        (np.zeros((0, 3, 8, 8), dtype=np.uint8), r"shape \(0, 3, 8, 8\)"),
    ],
)
def test_images_that_are_no_uint8_rgb_squares_are_refused(images: np.ndarray, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        check_images(images, "samples")


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = Extractor("broken", "0" * 64, "1", {"a": 2}, lambda images: {"a": torch.full((len(images), 2), float("nan"))})
    with pytest.raises(BenchError, match="gives NaN or inf"):
        extract(broken, noise(4), tmp_path, "samples", device=CPU)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metrics", "samples", "references", "message"),
    [
        (("fid",), 2047, 5000, "2,048 are the least"),
        (("fid",), 2048, 2047, "2,047 images, fewer than the 2,048 features"),
        (("kid",), 100, 5000, "2,048 are the least"),
        (("fd_randconv",), 511, 5000, "512 are the least"),
        (("fd_randconv",), 512, 223, "fewer than the 224 features"),
    ],
)
def test_too_few_images_are_refused_before_any_is_drawn(
    tmp_path: Path, metrics: tuple[str, ...], samples: int, references: int, message: str
) -> None:
    against = Reference(np.zeros((references, 3, 8, 8), np.uint8), "", tmp_path)
    with pytest.raises(UsageError, match=message):
        quality.prepare(Quality(metrics=metrics), samples, against, CPU)


def test_ten_images_are_the_least_whatever_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 10"):
        quality.prepare(Quality(metrics=("fd_randconv",), allow_small=True), 9, Reference(noise(300), "", tmp_path), CPU)


def test_small_scores_are_marked_and_full_ones_are_not(tmp_path: Path) -> None:
    for name, samples, references, small in (("full", 512, 224, False), ("few", 511, 224, True), ("short", 512, 223, True)):
        against, wanted = (
            Reference(noise(references, seed=1), "d" * 64, tmp_path / name),
            Quality(metrics=("fd_randconv",), allow_small=True),
        )
        made = quality.prepare(wanted, samples, against, CPU)
        found = quality.score(
            wanted,
            made,
            noise(samples),
            tmp_path / name / "samples",
            against,
            sampling="ddim",
            device=CPU,
            bars=lambda text: lambda *numbers: None,
        )
        score = found["fd_randconv"]
        assert (score.small, score.samples, score.reference_samples, score.reference_digest) == (small, samples, references, "d" * 64)
        expected = frechet_distance(
            *(
                gaussian([randconv.extractor(CPU).network(torch.from_numpy(images))["features"].numpy()])
                for images in (noise(samples), noise(references, seed=1))
            )
        )
        assert score.value == pytest.approx(expected, rel=1e-4)


def test_samples_of_another_resolution_are_refused(tmp_path: Path) -> None:
    against, wanted = Reference(noise(300, size=16), "", tmp_path), Quality(metrics=("fd_randconv",))
    with pytest.raises(UsageError, match="8x8 and the reference images 16x16"):
        quality.score(
            wanted,
            quality.prepare(wanted, 600, against, CPU),
            noise(600),
            tmp_path,
            against,
            sampling="",
            device=CPU,
            bars=lambda text: lambda *numbers: None,
        )


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'sfid'"):
        quality.chosen(("fid", "sfidd"))
    assert quality.chosen(("fid", "kid", "fid")) == ("fid", "kid")


def test_the_reference_holds_no_training_image_where_there_are_enough_others(tmp_path: Path) -> None:
    packed = datasets.load("leaves", DeadLeaves(resolution=8, count=330), home=tmp_path)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "two.gin").write_text(
        "import benchmark.suite\n\nSuite.recipe = 'mini'\nSuite.blocks = ({'models': ['dit_mini'], 'layouts': ['global'], "
        "'datasets': ['leaves'], 'subsets': [4, 9, 1_000], 'seeds': [0, 5]},)\n"
    )
    trained = trained_on(packed, "leaves", (*registry.roots(), tmp_path))
    subsets = [datasets.subset(packed, "leaves", 9, seed) for seed in (0, 5)]  # of 9: no row of 1,000 can be trained here
    assert trained == {i for one in subsets for i in one.train_indices}
    assert trained_on(packed, "leaves") == set()

    enough = reference(packed, "leaves", tmp_path, trained, limit=200)
    taken = {image.tobytes() for image in enough.images[0:200]}
    assert (len(enough.images), enough.trained_on) == (200, 0)
    assert all(image.tobytes() not in taken for one in subsets for image in one.train)
    every = reference(packed, "leaves", tmp_path, trained)  # 330 images, of which fewer than 10,000 are left
    assert (len(every.images), every.trained_on, every.digest) == (330, len(trained), packed.manifest.sha256)
    left = 330 - len(trained)
    most = reference(packed, "leaves", tmp_path, trained, limit=left + 2)
    assert (len(most.images), most.trained_on) == (left + 2, 2)
    assert reference(packed, "leaves", tmp_path, trained, least=left).trained_on == 0

    copied = Packed(packed.images, replace(packed.manifest, duplicates=(("3", "7"), ("8", "9"))), packed.ids)
    chosen = reference(copied, "leaves", tmp_path, {3}, least=300)
    assert (len(chosen.images), chosen.trained_on) == (328, 0)  # without the copy of a training image


def test_the_reference_is_all_images_or_the_first_of_the_order(tmp_path: Path) -> None:
    packed = datasets.load("leaves", DeadLeaves(resolution=8, count=330), home=tmp_path)
    whole = reference(packed, "leaves", tmp_path)
    assert (whole.images is packed.images, whole.digest) == (True, packed.manifest.sha256)
    part = reference(packed, "leaves", tmp_path, limit=20)
    chosen = packed.images[sorted(order("leaves", 0, [str(i) for i in range(330)])[:20])]
    assert (part.digest, len(part.images)) == (digest(chosen), 20)
    assert (part.images[3:9] == chosen[3:9]).all()
    made = randconv.extractor(CPU)
    folder = part.features_folder(made)
    assert folder == tmp_path / "packed" / "leaves" / "quality" / packed.manifest.preprocessing / f"{part.digest[:16]}-{made.key}"
    assert made.key == "randconv-40548844332b93ce-1"
    mine = extract(made, part.images, tmp_path / "a", "reference images", device=CPU).layer("features")
    assert (mine == folder_of(chosen, tmp_path / "b").layer("features")).all()
