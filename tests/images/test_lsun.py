"""LSUN: a real LMDB under the official keys; another scene, a zip, a damaged or truncated database are named."""

from pathlib import Path

import lmdb
import numpy as np
import pytest

from benchmark.contract import ImageError
from benchmark.declaring import entries, registry
from benchmark.errors import BenchError
from benchmark.images import datasets
from registry.datasets.decode import to_pixels
from registry.datasets.lsun import COUNTS, Lsun
from tests.pictures import WEBPS, everything, lsun, lsun_key

CHURCH = Lsun(resolution=16, scene="church_outdoor")


def test_images_come_in_the_order_of_their_keys(tmp_path: Path) -> None:
    root = lsun(tmp_path / "root", WEBPS * 3)
    source = CHURCH.open(root)
    keys = sorted(lsun_key(number) for number in range(9))
    assert list(source.ids) == keys and source.ids[2:4] == keys[2:4] and source.ids[-1] == keys[-1] and len(keys[0]) == 40
    assert np.array_equal(source.read(lsun_key(4)), to_pixels("", WEBPS[1], 3, 16))
    first = source.fingerprint
    source.close()
    named = CHURCH.open(root / "church_outdoor_train_lmdb")  # the database itself may be the root
    assert list(named.ids) == keys and named.fingerprint == first
    named.close()
    assert [path.name for path in (root / "church_outdoor_train_lmdb").iterdir() if "lock" not in path.name] == ["data.mdb"]


def test_a_database_in_a_folder_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    folder = lsun(tmp_path / "root", WEBPS) / "church_outdoor_train_lmdb"
    (folder / "lock.mdb").unlink()
    source = CHURCH.open(tmp_path / "root")
    assert source.read(source.ids[0]).shape == (3, 16, 16) and not (folder / "lock.mdb").exists()
    source.close()


def test_the_four_entries_read_their_own_scene(tmp_path: Path) -> None:
    for name, scene in (("church", "church_outdoor"), ("bedroom", "bedroom"), ("bridge", "bridge"), ("tower", "tower")):
        dataset = entries.load(registry.find("dataset", f"lsun_{name}")).config
        assert (dataset.scene, dataset.resolution, dataset.official_count) == (scene, 32, COUNTS[scene])
        source = dataset.open(lsun(tmp_path / name, WEBPS, scene))
        assert len(source.ids) == 3
        source.close()


def test_another_scene_and_a_zip_are_named(tmp_path: Path) -> None:
    lsun(tmp_path, WEBPS, "tower")
    for root in (tmp_path, tmp_path / "tower_train_lmdb"):
        with pytest.raises(ImageError, match="holds no church_outdoor_train_lmdb; it should be .*; there is (tower|data.mdb)"):
            CHURCH.open(root)
    (tmp_path / "church_outdoor_train_lmdb.zip").write_bytes(b"")
    with pytest.raises(ImageError, match=r"church_outdoor_train_lmdb.zip is no whole zip file.*Download it again"):
        CHURCH.open(tmp_path)
    (tmp_path / "church_outdoor_train_lmdb.zip").unlink()
    (tmp_path / "church_outdoor_train_lmdb").mkdir()
    with pytest.raises(ImageError, match="data.mdb is missing.*it is empty"):
        CHURCH.open(tmp_path)


def test_a_damaged_database_is_named_and_does_not_end_the_process(home: Path) -> None:
    root = lsun(home / "root", WEBPS * 20)
    path = root / "church_outdoor_train_lmdb" / "data.mdb"
    sound = path.read_bytes()
    for damaged, said in (
        (sound[: len(sound) // 2], "is cut off: it has"),
        (sound[:5000], "cannot be read as|cut off"),
        (b"", "cannot be read as|cut off"),
        (b"no database" * 2000, "cannot be read as an LSUN database"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(BenchError, match=said) as problem:
            datasets.add("church", CHURCH, home=home, root=root)
        assert str(path) in str(problem.value) and "download it again" in str(problem.value)
    assert everything(home) == {}
    path.write_bytes(sound)
    assert datasets.add("church", CHURCH, home=home, root=root).manifest.count == 60


def test_a_database_without_images_or_with_other_keys_is_refused(tmp_path: Path) -> None:
    folder = lsun(tmp_path / "empty", []) / "church_outdoor_train_lmdb"
    with pytest.raises(ImageError, match="data.mdb holds no image"):
        CHURCH.open(tmp_path / "empty")
    with lmdb.open(str(folder), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"\xff\x00", WEBPS[0])
    with pytest.raises(ImageError, match="cannot be read as an LSUN database: 'ascii'"):
        CHURCH.open(tmp_path / "empty")
