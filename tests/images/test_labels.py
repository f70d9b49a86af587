"""Class labels beside packed images: those of the source, through orders and subsets, and no manifest changes for them."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from benchmark.contract import Dataset, Entry, ImageError
from benchmark.declaring.entries import load as entry_of
from benchmark.declaring.registry import find
from benchmark.errors import BenchError, UsageError
from benchmark.images import datasets, labels, manifest
from registry.datasets.cifar10 import Cifar10
from registry.datasets.digits import Digits
from registry.datasets.image_folder import ImageFolder
from registry.datasets.imagenet import DownsampledImageNet, ImageNet
from registry.datasets.permuted import Permuted
from tests.images.test_cifar10 import binary
from tests.pictures import JPEGS, batches, imagenet, noise, stored

DIGITS = Digits()


def labels_of(dataset: Dataset, root: Path) -> dict[str, int]:
    source = dataset.open(root)
    found = {image_id: source.label(image_id) for image_id in source.ids}
    getattr(source, "close", int)()
    return found


def test_digits_have_their_digits_through_order_subset_and_permutation(home: Path) -> None:
    truth = load_digits()
    packed = datasets.load("digits8", DIGITS, home=home, labelled=True)
    assert packed.labels.dtype == np.uint16 and packed.labels.tolist() == truth.target.tolist()
    assert packed.manifest.digest == "e08289e6ab5dcbcefd6252f3f5e5a5f257719b8979b5b216b64361c27ef09016"  # as before there were labels
    part = datasets.subset(packed, "digits8", 16, 3)
    assert part.train_labels.tolist() == [truth.target[i] for i in part.train_indices]
    assert part.test_labels.tolist() == [truth.target[i] for i in part.test_indices]
    pictures = [tuple((image * 255 / 16 + 0.5).astype(np.uint8).ravel()) for image in truth.images]
    assert all(
        truth.target[pictures.index(tuple(image.ravel()))] == label for image, label in zip(part.train, part.train_labels, strict=True)
    )
    plain = datasets.subset(datasets.load("digits8", DIGITS, home=home), "digits8", 16, 3)
    assert (plain.train_labels, plain.labels_digest) == (None, None)
    assert (plain.digest, plain.test_digest, plain.train_ids) == (part.digest, part.test_digest, part.train_ids)
    peers = datasets.peers_of(packed, "digits8", 16, (3, 4), 8)
    assert peers[0].labels.tolist() == [truth.target[pictures.index(tuple(image.ravel()))] for image in peers[0].images]
    turned = Permuted(of=Entry("digits8", "digits", DIGITS), key="a")
    assert datasets.load("digits8_turned", turned, home=home, labelled=True).labels.tolist() == truth.target.tolist()


def test_labels_that_were_tampered_with_are_refused_and_those_of_other_images_are_made_anew(home: Path) -> None:
    before = datasets.load("digits8", DIGITS, home=home, labelled=True).labels
    path = labels.array_file(home, "digits8")
    np.save(path, before[::-1])
    with pytest.raises(BenchError, match=r"The labels .* are damaged: uint16 of shape \(1797,\), sha256 .* Remove"):
        datasets.load("digits8", DIGITS, home=home, labelled=True)
    assert "are damaged" in datasets.verify("digits8", home=home)[0]
    assert datasets.load("digits8", DIGITS, home=home).labels is None  # a run without labels needs none
    described = labels.beside(home, "digits8")
    described.write_text(json.dumps(json.loads(described.read_text()) | {"images_sha256": "0" * 64}))
    assert datasets.load("digits8", DIGITS, home=home, labelled=True).labels.tolist() == before.tolist()
    path.write_bytes(b"")
    with pytest.raises(BenchError, match="cannot be read"):
        datasets.load("digits8", DIGITS, home=home, labelled=True)
    described.write_text("{}")
    with pytest.raises(BenchError, match="The description of labels .* is damaged"):
        datasets.load("digits8", DIGITS, home=home, labelled=True)


def test_a_dataset_without_classes_has_no_labels(home: Path) -> None:
    leaves = entry_of(find("dataset", "dead_leaves8")).config
    small = replace(leaves, count=301)
    with pytest.raises(UsageError, match="'leaves' have no class labels"):
        datasets.load("leaves", small, home=home, labelled=True)


def test_added_images_have_labels_that_are_pinned_and_written_where_they_are_missing(home: Path) -> None:
    dataset, root = Cifar10(resolution=8), binary(home / "root", rows=24)
    said = datasets.add("photos", dataset, home=home, root=root).sentence
    assert said.endswith("Labels of 4 of 10 classes, 5 to 5 images each.")
    wanted = [number for _ in range(5) for number in range(4)]
    packed = datasets.load("photos", dataset, home=home, labelled=True)
    assert packed.labels.tolist() == wanted
    pinned = labels.pin(home, "photos")
    assert pinned.read_bytes() == labels.beside(home, "photos").read_bytes()
    assert datasets.packed_names(home) == ["photos"]  # a pin of labels is no dataset
    for path in (labels.beside(home, "photos"), labels.array_file(home, "photos")):
        path.unlink()
    with pytest.raises(UsageError, match="packed without their labels.*datasets.add"):
        datasets.load("photos", dataset, home=home, labelled=True)
    again = datasets.add("photos", dataset, home=home, root=root)
    assert again.outcome == "unchanged" and datasets.load("photos", dataset, home=home, labelled=True).labels.tolist() == wanted
    other = labels.checked_labels("photos", packed.ids, wanted[::-1], 10)
    np.save(labels.array_file(home, "photos"), other)
    described = json.loads(pinned.read_text()) | {"sha256": labels.digest(other)}
    labels.beside(home, "photos").write_text(json.dumps(described))
    with pytest.raises(BenchError, match="not those that data/labels/photos.json pins"):
        datasets.load("photos", dataset, home=home, labelled=True)


def test_photographs_in_class_folders_have_the_place_of_their_folder(tmp_path: Path) -> None:
    root = imagenet(tmp_path / "root", JPEGS * 2)
    places = {"n01440764": 0, "n01443537": 1, "n02085620": 2}
    assert labels_of(ImageNet(resolution=16), root) == {
        image_id: places[image_id.split("/")[0]] for image_id in ImageNet(resolution=16).open(root).ids
    }
    for name in ("truck", "airplane", "cat"):
        (tmp_path / "cifar" / "train" / name).mkdir(parents=True)
        (tmp_path / "cifar" / "train" / name / "1.png").write_bytes(stored(Image.fromarray(noise(32, 32, 0))))
    found = labels_of(Cifar10(resolution=32), tmp_path / "cifar")
    assert found == {"train/airplane/1.png": 0, "train/cat/1.png": 1, "train/truck/1.png": 2}
    own = ImageFolder(resolution=8, classes=3)
    assert labels_of(own, tmp_path / "cifar" / "train") == {"airplane/1.png": 0, "cat/1.png": 1, "truck/1.png": 2}
    (tmp_path / "cifar" / "train" / "loose.png").write_bytes(stored(Image.fromarray(noise(8, 8, 0))))
    with pytest.raises(ImageError, match="loose.png lies in no folder of a class"):
        own.open(tmp_path / "cifar" / "train").label("cat/1.png")


def test_rows_of_archives_and_shards_have_the_label_of_their_row(tmp_path: Path) -> None:
    root = tmp_path / "root"
    batches(root, 4, 8)
    dataset = DownsampledImageNet(resolution=8)
    found = labels_of(dataset, root)
    assert len(found) == 40 and [found[f"train_data_batch_2:{row}"] for row in range(4)] == [0, 1, 2, 3]  # they count from 1
    with zipfile.ZipFile(root / "train_data_batch_3.npz", "r") as archive, zipfile.ZipFile(tmp_path / "bare.npz", "w") as bare:
        bare.writestr("data.npy", archive.read("data.npy"))
    (tmp_path / "bare.npz").replace(root / "train_data_batch_3.npz")
    with pytest.raises(ImageError, match="train_data_batch_3.npz holds no array 'labels'"):
        labels_of(dataset, root)
    shards = tmp_path / "shards"
    shards.mkdir()
    pictures = [stored(Image.fromarray(noise(32, 32, seed))) for seed in range(5)]
    for column in ("label", "word"):
        pq.write_table(pa.table({"img": pictures, column: [3, 1, 4, 1, 5]}), shards / "train-00000-of-00001.parquet")
        if column == "label":
            assert list(labels_of(Cifar10(resolution=32), shards).values()) == [3, 1, 4, 1, 5]
    with pytest.raises(ImageError, match="has no column of labels"):
        labels_of(Cifar10(resolution=32), shards)


def test_what_is_no_class_is_named(home: Path) -> None:
    with pytest.raises(BenchError, match="The image 'b' of the dataset 'x' has the label 3, and its classes are 0 to 2"):
        labels.checked_labels("x", ["a", "b"], [0, 3], 3)
    with pytest.raises(BenchError, match="declares 70000 classes"):
        labels.checked_labels("x", [], [], 70_000)
    packed = datasets.load("digits8", DIGITS, home=home)
    with pytest.raises(BenchError, match=r"declares classes, but its source has no `label\(image_id\)`"):
        labels.write(home, packed.manifest, packed.ids, object(), 10, pinned=False)
    assert manifest.read(manifest.beside(home, "digits8")) == packed.manifest
