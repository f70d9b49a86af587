"""PSNR with the images' own labels and with no class: both from the same images and noise, from the toy to the record."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import benchmark
from benchmark import run, sampling
from benchmark.analysis import study
from benchmark.analysis.attention import attention_maps
from benchmark.analysis.representations import stages
from benchmark.contributing import verify
from benchmark.declaring import registry
from benchmark.errors import BenchError, UsageError
from benchmark.images import datasets, labels
from benchmark.images.subsets import Peer, Subset
from benchmark.networks.denoiser import OneLabel, without_labels
from benchmark.networks.diffusion import alphas_cumprod, random_key, scaled
from benchmark.recording import errors, record
from benchmark.recording.record import LABELS_VERSION, NO_CLASS_VERSION
from benchmark.running.place import here
from benchmark.running.progress import Display
from benchmark.scoring.measure import digests, measure, on_device
from tests.conftest import ENTRIES

NAMES = {"model": "dit_tiny_labels", "layout": "global", "dataset": "digits8", "recipe": "tiny"}


class Toy(nn.Module):
    """x / (2 + y): what it returns tells the label that it was given."""

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return x / (2 + (0 if y is None else y.view(-1, 1, 1, 1)))


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 2, 2), dtype=np.uint8)


def by_hand(image: np.ndarray, label: int, noise_of: str, place: int, t: int) -> float:
    """The clipped squared error of one image, from the definition, under the noise that its side has without labels."""
    generator = torch.Generator().manual_seed(random_key("psnr", 5, noise_of, place, 0, t))
    noise = torch.randn((1, 2, 2), generator=generator).flatten().double()
    abar = alphas_cumprod()[t]
    x0 = torch.from_numpy(image).flatten().double() / 127.5 - 1
    xt = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    found = ((xt - (1 - abar).sqrt() * xt / (2 + label)) / abar.sqrt()).clamp(-1, 1)
    return float((found - x0).square().mean())


def test_every_image_is_scored_with_its_label_and_once_more_with_that_of_no_class() -> None:
    train, test, own = images(4, 0), images(4, 1), images(4, 2)
    given = {"train": [0, 1, 2, 0], "test": [2, 2, 1, 0], "peer 8": [1, 0, 2, 1]}
    arrays = {name: np.array(some, np.uint16) for name, some in given.items()}
    peers = (Peer(8, 4, own, "digest", arrays["peer 8"]),)
    subset = Subset(4, 5, None, (), (), (), train, test, "a", "b", "", 0, peers, arrays["train"], arrays["test"])
    found = measure(Toy(), on_device(subset, torch.device("cpu")), seed=5, steps=3, most=4, peer_pairs=4, no_class=7)
    assert list(found.errors) == ["train", "test", "peer 8", "train unlabelled", "test unlabelled"]
    for side, some in (("train", train), ("test", test)):
        for place, t in ((0, 0), (2, 500), (3, 999)):
            step = [0, 500, 999].index(t)
            assert float(found.errors[side][0, place, 0, step]) == pytest.approx(
                by_hand(some[place], given[side][place], side, place, t), rel=1e-4
            )
            unlabelled = float(found.errors[f"{side} unlabelled"][0, place, 0, step])
            assert unlabelled == pytest.approx(by_hand(some[place], 7, side, place, t), rel=1e-4)
    wanted = 10 * math.log10(4 / np.mean([by_hand(train[i], 7, "train", i, 500) for i in range(4)]))
    assert found.unlabelled.psnr.clipped.train[1] == pytest.approx(wanted, abs=1e-3)
    assert found.unlabelled.metric_version == NO_CLASS_VERSION != LABELS_VERSION
    plain = measure(
        Toy(), on_device(replace(subset, train_labels=None, test_labels=None, peers=()), torch.device("cpu")), seed=5, steps=3, most=4
    )
    assert plain.unlabelled is None and list(plain.errors) == ["train", "test"]
    assert digests(subset)["labels_sha256"] == subset.labels_digest != replace(subset, test_labels=arrays["train"]).labels_digest
    assert "labels_sha256" not in digests(replace(subset, train_labels=None))


def test_a_run_with_labels_from_its_training_to_guided_samples(home: Path) -> None:
    spec = benchmark.resolve(**NAMES, subset=16, registry=[ENTRIES])
    place, folder = here("cpu", None), here("cpu", None).folder(spec)
    made = benchmark.run(spec, device="cpu")
    assert (made.metric_version, made.unlabelled.metric_version) == (LABELS_VERSION, NO_CLASS_VERSION)
    assert made.psnr.clipped != made.unlabelled.psnr.clipped and made.psnr.draws_train == made.unlabelled.psnr.draws_train
    assert made.unlabelled.psnr_gap == made.unlabelled.psnr.psnr_gap
    matrices = errors.read(folder / errors.FILE)
    assert errors.disagreements(made, matrices) == []
    assert "unlabelled" in errors.disagreements(made, {**matrices, "train unlabelled": matrices["train unlabelled"] * 2})[0]
    assert errors.recomputed(made, matrices).unlabelled.psnr_gap == pytest.approx(made.unlabelled.psnr_gap, abs=0.01)
    assert record.parsed(record.text_of(made)) == made
    with Display() as display:
        again = run.evaluate(folder, place, display, (ENTRIES,))
        assert (again.psnr, again.unlabelled) == (made.psnr, made.unlabelled)
        raw = run.trained_network(spec, place, display, None, made.weights_sha256)
        null = without_labels(raw, spec)
        subset = run.load_subset(spec, place, display)
        alone = benchmark.score(null, subset.train, subset.test, steps=3, images=8)  # one network without labels, as any other
        assert alone == made.unlabelled.psnr
        request = sampling.Request(count=5, sampler="ddim", steps=3, guidance=1.5)
        drawn, info = sampling.sample_run(folder, request, place, display, (ENTRIES,))
    assert (info["guidance"], info["labels"]) == (1.5, "drawn evenly from 10 classes") and drawn.shape == (5, 1, 8, 8)
    kept = np.load(folder / "samples" / request.key / "labels.npy")
    assert kept.dtype == np.uint16 and kept.tolist() == sampling.drawing.labels(0, range(5), 10).tolist()
    shown = benchmark.sample(benchmark.load(made, device="cpu", registry=[ENTRIES]), 5, sampler="ddim", steps=3, guidance=1.5)
    assert np.array_equal(shown, drawn)
    assert isinstance(null, OneLabel) and null.label == 10
    with Display() as display:
        seen, asked, _ = study._subject(made, study.Request(images=4, timesteps=(500,)), study.Work(place, display, (ENTRIES,)))
    x = scaled(asked)
    with torch.no_grad():
        assert torch.equal(seen(x, torch.full((4,), 500)), raw(x, torch.full((4,), 500), torch.full((4,), 10)))
    assert len(attention_maps(seen, x, torch.full((4,), 500))) == 2
    assert [name for name, _ in stages(seen)] == ["block 1", "block 2"]
    bench = verify.Bench(place=place, search=registry.roots([ENTRIES]))
    assert "within 0.01 dB" in verify._rescored(made, bench, display)
    worse = replace(made.unlabelled, psnr=made.psnr, psnr_train=made.psnr_train, psnr_test=made.psnr_test, psnr_gap=made.psnr_gap)
    with pytest.raises(BenchError, match="other curves: without labels, PSNR train"):
        verify._rescored(replace(made, unlabelled=worse), bench, display)


def test_labels_of_other_digests_end_a_resumed_run(home: Path) -> None:
    spec = benchmark.resolve(**NAMES, subset=16, registry=[ENTRIES])
    folder = here("cpu", None).folder(spec)
    benchmark.run(spec, device="cpu")
    (folder / "record.json").unlink()  # killed behind its last checkpoint
    record.path_of(here("cpu", None).records, spec.row).unlink()
    packed = datasets.load("digits8", spec.dataset.config, home=home, labelled=True)
    others = (packed.labels + 1) % 10
    np.save(labels.array_file(home, "digits8"), others)
    with pytest.raises(BenchError, match=r"The labels .* are damaged"):
        benchmark.run(spec, device="cpu")
    described = labels.beside(home, "digits8")
    described.write_text(described.read_text().replace(labels.digest(packed.labels), labels.digest(others)))
    with pytest.raises(BenchError, match=r"The images of run .* have changed since it began"):
        benchmark.run(spec, device="cpu")


def test_a_network_that_has_no_label_for_no_class_is_not_taken_without_labels() -> None:
    spec = benchmark.resolve(**NAMES, subset=16, overrides=["model.class_dropout=0"], registry=[ENTRIES])
    with pytest.raises(UsageError, match=r"has none for no class \(class_dropout = 0\)"):
        without_labels(run.build(spec), spec)
    plain = benchmark.resolve(**NAMES | {"model": "dit_tiny"}, subset=16, registry=[ENTRIES])
    assert without_labels(network := run.build(plain), plain) is network
