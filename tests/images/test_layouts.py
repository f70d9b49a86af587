"""What people have: each distribution as it is downloaded, mirrored or half unpacked is read as what it is, or refused with the way out."""

import io
import shutil
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmark.contract import Dataset, ImageError
from benchmark.declaring import entries, registry
from benchmark.declaring.fields import to_json
from benchmark.errors import BenchError, UsageError
from benchmark.images import datasets
from registry.datasets.celeba import CelebA
from registry.datasets.decode import decode, to_pixels
from registry.datasets.image_folder import ImageFolder
from registry.datasets.imagenet import DownsampledImageNet, ImageNet
from registry.datasets.lsun import Lsun
from registry.datasets.parquet import Parquet
from tests.pictures import JPEGS, WEBPS, batches, celeba, imagenet, lsun, lsun_key, noise, parquet, stored

FACES, CHURCH, TREE = CelebA(resolution=16), Lsun(resolution=16, scene="church_outdoor"), ImageNet(resolution=16)
BATCHES, FOLDER, SHARDS = DownsampledImageNet(resolution=8), ImageFolder(resolution=16), Parquet(resolution=16)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345678\n"
PNGS = [stored(Image.fromarray(noise(20, 24, seed))) for seed in range(4)]


def zipped(source: Path, target: Path, prefix: str = "") -> None:
    """Write every file below `source` into a zip, under `prefix`."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                archive.write(path, prefix + path.relative_to(source).as_posix())


def read(dataset: Dataset, root: Path) -> dict[str, bytes]:
    """Return the bytes of every image of a source by its id."""
    source = dataset.open(root)
    images = {image_id: source.read(image_id).tobytes() for image_id in source.ids}
    getattr(source, "close", int)()
    return images


def tree(root: Path, *names: str) -> Path:
    """Write pictures of these names."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNGS[number % 4])
    return root


def tarred(path: Path, *names: str) -> None:
    """Write the archive of a class: pictures of these names."""
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(PNGS[0])
            archive.addfile(member, io.BytesIO(PNGS[0]))


# --- CelebA


def kaggle(root: Path, images: Sequence[bytes] = JPEGS) -> Path:
    """Write CelebA as Kaggle's zip unpacks: the double folder, tables with a header; the third image is of another partition."""
    official = celeba(root / "official", images, "001" if images is JPEGS else "")
    inner = root / "img_align_celeba" / "img_align_celeba"
    inner.parent.mkdir()
    (official / "img_align_celeba").rename(inner)
    lines = (official / "list_eval_partition.txt").read_text().replace(" ", ",")
    (root / "list_eval_partition.csv").write_text("image_id,partition\n" + lines)
    (root / "list_attr_celeba.csv").write_text("image_id,Smiling\n")
    shutil.rmtree(official)
    return root


def kaggle_zip(root: Path) -> Path:
    zipped(kaggle(root / "unpacked"), root / "archive.zip")
    shutil.rmtree(root / "unpacked")
    return root


def marked(root: Path) -> Path:
    text = (celeba(root, JPEGS, "001") / "list_eval_partition.txt").read_text()
    (root / "list_eval_partition.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    return root


def stopped(root: Path) -> Path:
    celeba(root, JPEGS, "001", zipped=True)
    (root / "img_align_celeba").mkdir()
    (root / "img_align_celeba" / "000001.jpg").write_bytes(JPEGS[0])
    return root


def torchvision(root: Path) -> Path:
    celeba(root / "celeba", JPEGS, "001")
    return root


def linked(root: Path) -> Path:
    celeba(root / "store", JPEGS, "001")
    (root / "store" / "img_align_celeba").rename(root / "elsewhere")
    (root / "store" / "img_align_celeba").symlink_to(root / "elsewhere")
    return root / "store"


FACES_OF = [kaggle, kaggle_zip, marked, stopped, torchvision, linked]


@pytest.mark.parametrize("layout", FACES_OF, ids=lambda layout: layout.__name__)
def test_celeba_is_the_same_however_it_comes(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    official = celeba(tmp_path / "official", JPEGS, "001")
    root = layout(tmp_path / "other")
    assert read(FACES, root) == read(FACES, official) and list(read(FACES, root)) == ["000001.jpg", "000002.jpg"]
    assert FACES.open(root).fingerprint == FACES.open(official).fingerprint and FACES.open(root).distribution is None


def test_celeba_as_png_has_the_official_ids_and_says_so(home: Path) -> None:
    root = celeba(home / "root", PNGS[:3])
    for path in sorted((root / "img_align_celeba").iterdir()):
        path.rename(path.with_suffix(".png"))
    (root / "img_align_celeba").rename(root / "img_align_celeba_png")
    added = datasets.add("faces", FACES, home=home, root=root)
    assert "They were read from PNG files" in added.sentence and added.manifest.distribution == "PNG files"
    assert datasets.load("faces", FACES, home=home).ids == ("000001.jpg", "000002.jpg", "000003.jpg")


def test_celeba_where_neither_folder_nor_zip_is_whole_says_what_each_lacks(tmp_path: Path) -> None:
    root = stopped(tmp_path / "root")
    whole = (root / "img_align_celeba.zip").read_bytes()
    (root / "img_align_celeba.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"img_align_celeba lacks 1 of the 2 .*; .*img_align_celeba.zip is no whole zip file"):
        FACES.open(root)
    (root / "img_align_celeba.zip").write_bytes(POINTER)
    with pytest.raises(ImageError, match=r"img_align_celeba.zip is a Git LFS pointer in place of the file: `git lfs pull`"):
        FACES.open(root)
    (root / "img_align_celeba.zip").write_bytes(b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>")
    with pytest.raises(ImageError, match=r"img_align_celeba.zip is a web page in place of the file"):
        FACES.open(root)


# --- LSUN and the downsampled ImageNet: zips that nobody unpacked, links, folders of other tools


def test_a_scene_is_the_same_from_its_folder_its_zip_and_a_link(tmp_path: Path) -> None:
    official = lsun(tmp_path / "official", WEBPS)
    expected = read(CHURCH, official)
    zips = tmp_path / "zips"
    zips.mkdir()
    zipped(official / "church_outdoor_train_lmdb", zips / "church_outdoor_train_lmdb.zip", "church_outdoor_train_lmdb/")
    (tmp_path / "store").mkdir()
    (official / "church_outdoor_train_lmdb").rename(tmp_path / "store" / "volume17")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "church_outdoor_train_lmdb"
    link.symlink_to(tmp_path / "store" / "volume17")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lsun").symlink_to(tmp_path / "links")
    for root in (zips, zips / "church_outdoor_train_lmdb.zip", link, tmp_path / "links", tmp_path / "data"):
        assert read(CHURCH, root) == expected
        source = CHURCH.open(root)
        assert source.ids[0] == min(lsun_key(i) for i in range(3)) and not source.left_out
        source.close()


def test_a_database_that_is_cut_off_beside_its_whole_zip_is_read_from_the_zip(tmp_path: Path) -> None:
    root = lsun(tmp_path / "root", WEBPS * 20)
    expected = read(CHURCH, root)
    zipped(root / "church_outdoor_train_lmdb", root / "church_outdoor_train_lmdb.zip")
    path = root / "church_outdoor_train_lmdb" / "data.mdb"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert read(CHURCH, root) == expected
    (root / "church_outdoor_train_lmdb.zip").unlink()
    with pytest.raises(ImageError, match="cut off"):
        CHURCH.open(root)
    path.write_bytes(POINTER)
    with pytest.raises(ImageError, match=r"data.mdb is a Git LFS pointer"):
        CHURCH.open(root)


def test_a_zip_that_holds_no_database_or_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "church_outdoor_train_lmdb.zip"
    zipped(tree(tmp_path / "other", "a.png"), path)
    with pytest.raises(ImageError, match="holds 0 files data.mdb instead of one"):
        CHURCH.open(tmp_path)
    lsun(tmp_path / "root", [WEBPS[0]] * 40)
    zipped(tmp_path / "root", path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))
    with pytest.raises(ImageError, match="is no whole zip file.*Download it again"):
        CHURCH.open(tmp_path)


@pytest.mark.parametrize("name", ("Imagenet8_train_npz.zip", "Imagenet8_train.zip"))
def test_the_batches_are_the_same_from_their_zip(name: str, home: Path) -> None:
    images = batches(home / "root", 5, side=8)
    zips = home / "zips"
    zips.mkdir()
    zipped(home / "root", zips / name, "Imagenet8_train_npz/")
    for root in (zips, zips / name):
        source, plain = BATCHES.open(root), BATCHES.open(home / "root")
        assert list(source.ids) == list(plain.ids) and source.fingerprint == plain.fingerprint
        assert np.array_equal(np.stack([source.read(i) for i in source.ids]), images)
    (home / "zips" / "Imagenet8_train").mkdir()
    (home / "root" / "train_data_batch_1.npz").rename(home / "zips" / "Imagenet8_train" / "train_data_batch_1.npz")
    assert list(BATCHES.open(zips).ids) == list(source.ids)  # an unpacking that was stopped, beside the whole zip


# --- ImageNet


def test_classes_that_are_still_archives_are_refused_unless_told(home: Path) -> None:
    root = imagenet(home / "root", JPEGS)
    tarred(root / "train" / "n09999999.tar", "n09999999_1.JPEG", "n09999999_2.JPEG")
    with pytest.raises(
        UsageError,
        match=r"2 of 5 would be left out \(2 in the archive of a class that is not unpacked: n09999999.tar:n09999999_1.*`accept=True`",
    ):
        datasets.add("tree", TREE, home=home, root=root)
    assert not (home / "data").exists()
    added = datasets.add("tree", TREE, home=home, root=root, accept=True)
    assert added.manifest.count == 3 and "left out: 2 (2 in the archive of a class that is not unpacked" in added.sentence
    for path in (root / "train").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    with pytest.raises(ImageError, match=r"1 classes are still archives \(n09999999.tar, …\). Unpack each"):
        TREE.open(root)


def test_a_class_that_is_unpacked_in_part_is_asked_about_however_small_a_share_it_is(home: Path) -> None:
    root = imagenet(home / "root", [PNGS[0]] * 450)
    whole = root / "train" / "n01440764"
    names = sorted(path.name for path in whole.iterdir())
    tarred(root / "train" / "n01440764.tar", *names)
    assert datasets.add("tree", TREE, home=home, root=root).manifest.count == 450  # an archive kept beside its folder
    (whole / names[-1]).write_bytes(PNGS[0][:40])  # the last one written before the stop
    with pytest.raises(
        UsageError, match=r"1 of 451 would be left out \(1 in the archive of a class that is unpacked in part: n01440764.tar:n01440764"
    ):
        datasets.add("tree", TREE, home=home, root=root)
    (whole / names[-1]).unlink()
    with pytest.raises(UsageError, match="1 of 450 would be left out"):
        datasets.add("tree", TREE, home=home, root=root)
    (root / "train" / "n01440764.tar").write_bytes(b"no archive")
    with pytest.raises(UsageError, match=r"1 a class that is still an archive, which is damaged: n01440764.tar"):
        datasets.add("tree", TREE, home=home, root=root)


def test_class_folders_and_trees_that_are_links_are_read(tmp_path: Path) -> None:
    expected = read(TREE, imagenet(tmp_path / "root", JPEGS))
    links = tmp_path / "links" / "train"
    links.mkdir(parents=True)
    for path in (tmp_path / "root" / "train").iterdir():
        (links / path.name).symlink_to(path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "imagenet").symlink_to(tmp_path / "links")
    for root in (tmp_path / "links", links, tmp_path / "data"):
        assert read(TREE, root) == expected


# --- Parquet under the dataset's own name


def shard(path: Path, rows: list[tuple[bytes, str | None]], column: str = "image", **options: object) -> None:
    """Write one shard of structs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {column: pa.array([{"bytes": content, "path": name} for content, name in rows], kind), "label": [n % 10 for n in range(len(rows))]}
    )
    pq.write_table(table, path, **options)


def test_a_mirror_that_keeps_the_names_has_the_official_ids(home: Path) -> None:
    official = celeba(home / "official", JPEGS)
    mirrored = home / "mirror"
    names = ["000002.jpg", "000003.jpg", "000001.jpg"]
    shard(mirrored / "data" / "train-00000-of-00001.parquet", [(JPEGS[int(n[5]) - 1], n) for n in names], "img")
    shard(mirrored / "data" / "valid-00000-of-00001.parquet", [(WEBPS[0], "000004.jpg")], "img")
    assert read(FACES, mirrored) == read(FACES, official)
    added = datasets.add("celeba", FACES, home=home, root=mirrored)
    assert added.manifest.distribution == "Parquet shards" and "1 rows of other splits: data/valid-00000" in added.sentence
    one, two = (datasets.order("celeba", 0, list(read(FACES, root))) for root in (official, mirrored))
    assert [list(read(FACES, official))[i] for i in one] == [list(read(FACES, mirrored))[i] for i in two]
    assert list(read(CelebA(resolution=16, partitions=("val",)), mirrored)) == ["000004.jpg"]


@pytest.mark.parametrize("name", ("n01440764_10026_n01440764.JPEG", "n01440764_10026.JPEG", "train/n01440764/n01440764_10026.JPEG"))
def test_a_mirror_of_imagenet_has_the_official_ids(name: str, tmp_path: Path) -> None:
    official = imagenet(tmp_path / "official", JPEGS[:1])
    shard(tmp_path / "mirror" / "data" / "train-00000-of-00001.parquet", [(JPEGS[0], name)])
    assert read(TREE, tmp_path / "mirror") == read(TREE, official)


def test_a_mirror_without_names_has_rows_and_other_ids(home: Path) -> None:
    for name, rows in (("none", [None, None]), ("same", ["000001.jpg", "000001.jpg"]), ("other", ["a.jpg", "b.jpg"])):
        shard(home / name / "train-00000-of-00001.parquet", list(zip(JPEGS[:2], rows, strict=True)))
        assert list(FACES.open(home / name).ids) == ["train-00000-of-00001.parquet:0", "train-00000-of-00001.parquet:1"]
    entry = entries.load(registry.find("dataset", "lsun_church"))
    added = datasets.add(entry.name, entry.config, home=home, root=home / "none")
    assert added.manifest.distribution == "Parquet shards" and "126,227" in added.sentence


def test_a_mirror_of_the_downsampled_images_is_taken_as_it_is_or_refused(tmp_path: Path) -> None:
    pixels = noise(8, 8)
    shard(tmp_path / "small" / "train.parquet", [(stored(Image.fromarray(pixels)), None)])
    assert np.array_equal(BATCHES.open(tmp_path / "small").read("train.parquet:0"), pixels.transpose(2, 0, 1))
    shard(tmp_path / "large" / "train.parquet", [(JPEGS[0], None)])
    with pytest.raises(ImageError, match="it is 178x218, and the images of this dataset are 8x8"):
        BATCHES.open(tmp_path / "large")


def test_configurations_and_versions_side_by_side_are_refused(tmp_path: Path) -> None:
    rows = [(JPEGS[0], None)]
    for folder in ("plain/train", "cropped/train"):
        shard(tmp_path / "two" / folder / "0000.parquet", rows)
    for dataset in (SHARDS, CHURCH, FACES):
        with pytest.raises(ImageError, match=r"several configurations side by side \(cropped/, plain/\): give one"):
            dataset.open(tmp_path / "two")
    assert list(SHARDS.open(tmp_path / "two" / "plain").ids) == ["train/0000.parquet:0"]
    merged = Parquet(resolution=16, shards="*/train/*.parquet").open(tmp_path / "two")
    assert list(merged.ids) == ["cropped/train/0000.parquet:0", "plain/train/0000.parquet:0"]
    for name in ("train-00000-of-00001-1a.parquet", "train-00000-of-00001-2b.parquet"):
        shard(tmp_path / "versions" / name, rows)
    with pytest.raises(ImageError, match="shards of several versions side by side"):
        SHARDS.open(tmp_path / "versions")


def test_a_shard_that_is_a_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(POINTER)
    for dataset in (SHARDS, CHURCH):
        with pytest.raises(ImageError, match="train-00000-of-00001.parquet is a Git LFS pointer"):
            dataset.open(tmp_path)


def test_dictionary_and_view_columns_are_read(tmp_path: Path) -> None:
    plain = pa.array([*JPEGS, JPEGS[0]], pa.binary())
    columns = {
        "plain": plain,
        "dictionary": plain.dictionary_encode(),
        "view": plain.cast(pa.binary_view()),
        "large": plain.cast(pa.large_binary()),
    }
    columns["struct"] = pa.StructArray.from_arrays([plain.cast(pa.binary_view())], ["bytes"])
    for name, column in columns.items():
        pq.write_table(pa.table({"image": column}), tmp_path / f"{name}.parquet")
        source = Parquet(resolution=16).open(tmp_path / f"{name}.parquet")
        assert [source.read(i).tobytes() for i in source.ids] == [to_pixels("", c, 3, 16).tobytes() for c in (*JPEGS, JPEGS[0])]


# --- the hub's cache


def cached(hub: Path, *snapshots: str) -> Path:
    """Write a folder of the hub's cache: blobs without a suffix, and links to them in each snapshot."""
    folder = hub / "datasets--someone--faces"
    for snapshot in snapshots:
        for number, content in enumerate(PNGS[:3]):
            blob = folder / "blobs" / f"{number:040x}"
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(content)
            link = folder / "snapshots" / snapshot / "train" / f"{number}.png"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)
    (folder / "refs").mkdir()
    return folder


def test_the_snapshot_of_a_hub_cache_is_read_and_several_are_refused(tmp_path: Path) -> None:
    folder = cached(tmp_path / "hub", "a1b2")
    for root in (tmp_path / "hub", folder, folder / "snapshots" / "a1b2"):
        assert list(read(FOLDER, root)) == ["train/0.png", "train/1.png", "train/2.png"]
    several = cached(tmp_path / "several", "a1b2", "c3d4")
    with pytest.raises(ImageError, match=r"holds 2 snapshots of a hub's cache side by side: give one: `root='.*/snapshots/a1b2'`"):
        FOLDER.open(several)
    (tmp_path / "hub" / "datasets--another--thing").mkdir()
    with pytest.raises(ImageError, match="holds 2 datasets of a hub's cache side by side"):
        FOLDER.open(tmp_path / "hub")


def test_shards_of_a_hub_cache_are_read_through_their_links(tmp_path: Path) -> None:
    folder = tmp_path / "datasets--someone--church"
    shard(folder / "blobs" / "0123", [(WEBPS[0], None)])
    link = folder / "snapshots" / "abc" / "data" / "train-00000-of-00001.parquet"
    link.parent.mkdir(parents=True)
    link.symlink_to(folder / "blobs" / "0123")
    for dataset in (SHARDS, CHURCH):
        assert list(dataset.open(folder).ids) == list(dataset.open(tmp_path).ids) == ["data/train-00000-of-00001.parquet:0"]


def hubbed(root: Path, name: str) -> Path:
    """Turn the files of a folder into those of a hub's cache: links of one snapshot to blobs without a suffix."""
    folder = root.with_name("datasets--someone--" + name)
    (folder / "blobs").mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in root.rglob("*") if path.is_file())):
        link = folder / "snapshots" / "abc" / path.relative_to(root)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(folder / "blobs" / f"{number:040x}")
        link.symlink_to(folder / "blobs" / f"{number:040x}")
    return folder


def test_official_files_that_a_hub_has_cached_are_read(tmp_path: Path) -> None:
    faces, scene, plain = tmp_path / "faces", tmp_path / "scene", tmp_path / "plain"
    celeba(faces, JPEGS, zipped=True)
    lsun(plain, WEBPS)
    scene.mkdir()
    zipped(plain, scene / "church_outdoor_train_lmdb.zip")
    batches(tmp_path / "batches", 2, side=8)
    classes = imagenet(tmp_path / "classes", JPEGS)
    for dataset, root in ((FACES, faces), (CHURCH, scene), (BATCHES, tmp_path / "batches"), (TREE, classes)):
        expected = read(dataset, root)
        assert read(dataset, hubbed(root, root.name)) == expected


# --- folders


def test_a_link_to_an_image_of_the_folder_itself_is_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", "a.png", "b/c.png")
    (root / "again.png").symlink_to(root / "b" / "c.png")
    (root / "b" / "up").symlink_to(root)
    source = FOLDER.open(root)
    assert source.ids == ("a.png", "b/c.png")
    reasons = {one.reason: (one.count, one.first) for one in source.left_out}
    assert reasons == {
        "a link to an image of the folder itself": (1, ("again.png",)),
        "a link to a folder": (1, ("b/up",)),
    }


def test_every_suffix_that_pillow_reads_is_taken(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(20, 24))
    for suffix, kind in {
        "avif": "AVIF",
        "jfif": "JPEG",
        "tiff": "TIFF",
        "jp2": "JPEG2000",
        "tga": "TGA",
        "ico": "ICO",
        "dds": "DDS",
    }.items():
        picture.save(tmp_path / f"a.{suffix}", kind)
        assert list(read(FOLDER, tmp_path)) == [f"a.{suffix}"]
        (tmp_path / f"a.{suffix}").unlink()


def test_composed_and_decomposed_names_give_one_order(home: Path) -> None:
    names = ["ä.png", "z.png", "ö/Å.png", "a.png"]
    orders = []
    for form in ("NFC", "NFD"):
        root = tree(home / form, *(unicodedata.normalize(form, name) for name in names))
        source = FOLDER.open(root)
        assert len({source.read(i).tobytes() for i in source.ids}) == 4
        orders.append((source.ids, source.fingerprint, datasets.order("mine", 0, source.ids)))
    assert orders[0] == orders[1] and orders[0][0] == tuple(sorted(unicodedata.normalize("NFC", name) for name in names))
    both = tree(home / "both", unicodedata.normalize("NFC", "ä.png"), unicodedata.normalize("NFD", "ä.png"))
    if len(list(both.iterdir())) == 2:  # a file system that tells them apart
        with pytest.raises(ImageError, match="two files are spelled so, one composed and one decomposed"):
            FOLDER.open(both)


def test_more_than_a_small_share_left_out_must_be_accepted(home: Path) -> None:
    root = tree(home / "root", *(f"{i:03}.png" for i in range(320)))
    for name in ("README.md", "labels.csv", ".DS_Store"):
        (root / name).write_text("beside the images as a matter of course")
    for name in ("a.zip", "b.heic", "c"):
        (root / name).write_bytes(b"")
    added = datasets.add("mine", FOLDER, home=home, root=root)
    assert added.sentence.count("left out: 6 (") == 1 and "1 an archive that is not opened (.zip): a.zip" in added.sentence
    assert [one["count"] for one in added.to_json()["left_out"]] == [1] * 6
    (root / "d.heic").write_bytes(b"")
    with pytest.raises(
        UsageError, match=r"4 of 324 would be left out \(.*2 no image by its suffix \(.heic\): b.heic, d.heic.*`accept=True`"
    ):
        datasets.add("mine", FOLDER, home=home, root=root)
    assert datasets.add("mine", FOLDER, home=home, root=root, accept=True).outcome == "unchanged"


def test_too_few_images_are_said_at_once_and_fewer_can_be_held_out(home: Path) -> None:
    root = home / "root"
    root.mkdir()
    for number in range(200):
        (root / f"{number:03}.png").write_bytes(stored(Image.fromarray(noise(16, 16, number))))
    added = datasets.add("mine", FOLDER, home=home, root=root)
    assert "too few images to train on: 300 are held out for testing, so at least 301 are needed" in added.sentence
    assert "`held_out = 50` in its entry" in added.sentence
    smaller = ImageFolder(resolution=16, held_out=50)
    again = datasets.add("mine", smaller, home=home, root=root)
    assert "too few" not in again.sentence and again.manifest.held_out == 50
    taken = datasets.subset(datasets.load("mine", smaller, home=home), "mine", 3, 0)
    assert len(taken.test) == 50 and len(taken.train) == 3
    assert "held_out" not in to_json(FOLDER) and FOLDER.held_out == 300  # manifests of before keep their digests


# --- what is no damage


def test_texts_and_profiles_of_any_length_and_a_broken_orientation_are_no_damage() -> None:
    from PIL.PngImagePlugin import PngInfo

    picture = Image.fromarray(noise(12, 12))
    plain = np.asarray(decode(stored(picture), 3))
    long, compressed, international = PngInfo(), PngInfo(), PngInfo()
    long.add_text("a", "b" * 70_000_000)
    compressed.add_text("workflow", "a" * 2_000_000, zip=True)
    international.add_itxt("workflow", "ä" * 2_000_000, zip=True)
    for options in ({"icc_profile": bytes(2_000_000)}, {"pnginfo": compressed}, {"pnginfo": international}, {"pnginfo": long}):
        assert np.array_equal(np.asarray(decode(stored(picture, **options), 3)), plain)
    assert np.array_equal(np.asarray(decode(stored(picture, exif=b"Exif\0\0no TIFF header at all"), 3)), plain)


@pytest.mark.parametrize("orientation", range(10))
def test_the_orientation_is_applied_even_where_the_rest_of_the_exif_is_broken(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "hello"
    whole = exif.tobytes()
    broken = whole.replace(b"\x01\x0e\x00\x02", b"\x01\x52\x00\x02")  # text under the tag of a number: it cannot be written again
    image = Image.open(io.BytesIO(stored(Image.fromarray(noise(12, 20)), "PNG", exif=whole)))
    expected = np.asarray(ImageOps.exif_transpose(image))
    for content in (whole, broken):
        assert np.array_equal(np.asarray(decode(stored(Image.fromarray(noise(12, 20)), "PNG", exif=content), 3)), expected)


def test_a_very_large_image_is_read() -> None:
    assert decode(stored(Image.new("1", (14_000, 14_000), 1)), 1).size == (14_000, 14_000)


@pytest.mark.parametrize(
    "content, said", [(POINTER, "a Git LFS pointer in place of the file"), (b"<html>\n<head>", "a web page in place"), (b"", "empty file")]
)
def test_what_lies_in_place_of_an_image_is_named(content: bytes, said: str, home: Path) -> None:
    root = tree(home / "root", "a.png")
    (root / "b.png").write_bytes(content)
    with pytest.raises(BenchError, match=f"b.png: {said}"):
        datasets.add("mine", FOLDER, home=home, root=root)


# --- counting: taken and left out are all that lies there


def beside(root: Path) -> int:
    """Put things into a folder that are no images, and return how many."""
    for name in ("notes.txt", "x.zip", "noend", ".hidden"):
        (root / name).write_bytes(b"")
    (root / "nowhere.jpg").symlink_to(root / "none")
    return 5


def test_taken_and_left_out_are_all_that_lies_there(tmp_path: Path) -> None:
    def total(dataset: Dataset, root: Path) -> int:
        source = dataset.open(root)
        getattr(source, "close", int)()
        return len(source.ids) + sum(one.count for one in source.left_out)

    folder = tree(tmp_path / "folder", "a.png", "b/c.png", "b/d.png")
    others = beside(folder)
    assert total(FOLDER, folder) == 3 + others
    faces = celeba(tmp_path / "faces", JPEGS * 2, "001210")
    (faces / "img_align_celeba" / "000009.jpg").write_bytes(JPEGS[0])
    (faces / "img_align_celeba" / "notes.txt").write_text("")
    (faces / "img_align_celeba" / "more").mkdir()
    assert total(FACES, faces) == 9
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("list_eval_partition.txt", "000001.jpg 0\n000002.jpg 1\n")
        archive.mkdir("img_align_celeba")
        for name in ("img_align_celeba/000001.jpg", "img_align_celeba/000002.jpg", "copy/000001.jpg", "__MACOSX/._000001.jpg"):
            archive.writestr(name, JPEGS[0])
    assert total(FACES, tmp_path / "faces.zip") == 5
    assert [one.reason for one in FACES.open(tmp_path / "faces.zip").left_out if not one.expected] == [
        "a second file of its name in the zip"
    ]
    classes = imagenet(tmp_path / "classes", JPEGS * 2)
    (classes / "train" / "n09999999.tar").write_bytes(b"")
    (classes / "train" / "other").mkdir()
    (classes / "train" / "labels.txt").write_text("")
    others = beside(classes / "train" / "n01440764")
    assert total(TREE, classes) == 6 + 3 + others
    church = lsun(tmp_path / "church", WEBPS)
    (church / "church_outdoor_train_lmdb" / "lock.mdb").unlink()
    (church / "church_outdoor_train_lmdb" / "extra").write_text("")
    assert total(CHURCH, church) == 3 + 1
    batches(tmp_path / "batches", 4, side=8)
    (tmp_path / "batches" / "val_data.npz").write_bytes(b"")
    assert total(BATCHES, tmp_path / "batches") == 40 + 1
    shards = parquet(tmp_path / "shards", JPEGS)
    shard(shards / "data" / "test-00000-of-00001.parquet", [(JPEGS[0], None)] * 7)
    assert total(SHARDS, shards) == total(CHURCH, shards) == 3 + 7
