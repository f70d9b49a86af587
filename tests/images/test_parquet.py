"""Parquet shards: real ones, many row groups, several threads; a missing shard, column or page is named."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmark.contract import FieldError, ImageError
from benchmark.errors import BenchError
from benchmark.images import datasets
from registry.datasets import shards
from registry.datasets.decode import to_pixels
from registry.datasets.parquet import HELD_ROWS, Parquet
from registry.datasets.shards import Shard
from registry.datasets.sources import Recent
from tests.pictures import JPEGS, everything, noise, parquet, stored

SHARDS = Parquet(resolution=8)


def test_the_rows_of_every_shard_and_row_group_are_read_in_order(home: Path) -> None:
    pictures = [noise(8, 8, seed) for seed in range(301)]
    root = parquet(home / "root", [stored(Image.fromarray(pixels)) for pixels in pictures], shards=3, group=7)
    datasets.add("hub", SHARDS, home=home, root=root)
    packed = datasets.load("hub", SHARDS, home=home)
    assert np.array_equal(packed.images, np.stack(pictures).transpose(0, 3, 1, 2))
    assert packed.ids[0] == "data/train-00000-of-00003.parquet:0" and packed.ids[-1] == "data/train-00002-of-00003.parquet:98"


def test_a_column_of_bytes_one_shard_and_another_column_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"jpg": pa.array(JPEGS, pa.large_binary())}), tmp_path / "one.parquet")
    source = Parquet(resolution=8, column="jpg", channels=1).open(tmp_path / "one.parquet")
    assert list(source.ids) == ["one.parquet:0", "one.parquet:1", "one.parquet:2"]
    assert np.array_equal(source.read("one.parquet:2"), to_pixels("", JPEGS[2], 1, 8))
    other = Parquet(resolution=8, column="jpg", shards="one*")
    assert list(other.open(tmp_path).ids) == list(source.ids)
    for wrong in ("", "/one.parquet", "../one.parquet"):
        with pytest.raises(FieldError, match="pattern below the root"):
            Parquet(resolution=8, shards=wrong)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = parquet(tmp_path / "root", JPEGS, shards=3)
    with pytest.raises(ImageError, match=r"has no column 'img'; its columns are image, label.*`Parquet.column`"):
        Parquet(resolution=8, column="img").open(root)
    with pytest.raises(ImageError, match="the column 'label' of .* holds int64, not the bytes of images"):
        Parquet(resolution=8, column="label").open(root)
    (root / "data" / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(ImageError, match=r"train-00001-of-00003.parquet is missing: the other shards say that there are 3"):
        SHARDS.open(root)
    with pytest.raises(ImageError, match=r"no shard that matches \*\*/test-\*; there is data/.*would find data/train-00000"):
        Parquet(resolution=8, shards="**/test-*").open(root)
    source = SHARDS.open(parquet(tmp_path / "paths", [JPEGS[0], None]))
    with pytest.raises(ImageError, match="train-00001-of-00002.parquet:0: the row holds no image bytes, at most a path"):
        source.read(source.ids[1])
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "empty.parquet")
    with pytest.raises(ImageError, match="empty.parquet hold no row"):
        SHARDS.open(tmp_path / "empty.parquet")


def test_a_damaged_shard_is_named_and_nothing_is_added(home: Path) -> None:
    root = parquet(home / "root", JPEGS)
    path = root / "data" / "train-00001-of-00002.parquet"
    sound = path.read_bytes()
    for damaged in (sound[:-20], sound[: len(sound) // 2], b"PAR1", b""):
        path.write_bytes(damaged)
        with pytest.raises(BenchError, match=f"{path} is no whole Parquet file: .*Download it again"):
            datasets.add("hub", SHARDS, home=home, root=root)
    path.write_bytes(sound[:4] + b"\xff" * 40 + sound[44:])  # the header of a page
    with pytest.raises(BenchError, match="1 image cannot be read. data/train-00001-of-00002.parquet:0: .*damaged"):
        datasets.add("hub", SHARDS, home=home, root=root)
    assert everything(home) == {}


def test_an_edit_of_the_same_size_changes_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    found = set()
    for byte in b"ab":
        pq.write_table(pa.table({"image": [bytes([byte]) * 50] * 4}), path, compression="none", use_dictionary=False)
        found.add((path.stat().st_size, SHARDS.open(path).fingerprint))
    assert len({size for size, _ in found}) == 1 and len(found) == 2


def test_what_was_read_is_held_by_rows_and_read_once() -> None:
    read: list[str] = []

    def reading(key: str) -> list[str]:
        read.append(key)
        if key == "bad":
            raise ImageError("damaged")
        return [key] * 1000

    recent = Recent(reading, HELD_ROWS)
    for key in ("a", "b", "a", "b", "c", "b"):  # a thread that is a little behind the others
        assert recent(key) == [key] * 1000
    assert read == ["a", "b", "c"]
    assert recent("a") == ["a"] * 1000  # had gone: two of a thousand rows fit into 2048
    for _ in range(2):
        with pytest.raises(ImageError, match="damaged"):
            recent("bad")
    assert read == ["a", "b", "c", "a", "bad"]


def test_a_row_group_is_read_in_batches_of_few_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [stored(Image.fromarray(noise(16, 16, seed))) for seed in range(40)]
    root = parquet(tmp_path / "root", images, shards=1, group=40)
    shard = Shard.opened(next((root / "data").iterdir()), "image")
    assert [len(batch) for batch in shard.batches(0)] == [40]
    monkeypatch.setattr(shards, "ROWS", 16)
    assert [len(batch) for batch in shard.batches(0)] == [16, 16, 8]
    monkeypatch.setattr(shards, "BYTES", 4 * max(map(len, images)))
    sizes = [len(batch) for batch in shard.batches(0)]
    assert sum(sizes) == 40 and 2 <= max(sizes) <= 4  # as many rows as hold so many bytes
    found = [value.as_py() for batch in shard.batches(0) for value in batch]
    assert found == images
    monkeypatch.setattr(shards, "BYTES", 1)
    assert [len(batch) for batch in shard.batches(0)] == [1] * 40
