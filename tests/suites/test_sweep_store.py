"""benchmark/suites/store.py: runs under a URL, through fsspec's file system of this machine."""

import json
import os
import threading
import time

import pytest

from benchmark.errors import BenchError, UsageError
from benchmark.running.lease import Held, Lost, held
from benchmark.suites import store as stores
from benchmark.suites.store import Store, stored

pytest.importorskip("fsspec", reason="the cluster extra is not installed")
RUN = "0123456789ab"


@pytest.fixture
def store(tmp_path):
    return Store(f"file://{tmp_path}/bucket")


def fill(folder, *steps):
    """Write what a run leaves behind, with these checkpoints."""
    for step in steps:
        (folder / f"checkpoints/{step:09d}").mkdir(parents=True, exist_ok=True)
        (folder / f"checkpoints/{step:09d}/ema.safetensors").write_bytes(b"weights of %d" % step)
        (folder / f"checkpoints/{step:09d}/sha256.json").write_text("{}")
    (folder / "lease").mkdir(exist_ok=True)
    (folder / "lease/000001.json").write_text("mine")
    (folder / "lock").touch()
    (folder / "metrics.jsonl").write_text('{"step": 1}\n' * len(steps))
    (folder / "checkpoints/.writing-x").mkdir(exist_ok=True)
    (folder / "checkpoints/.writing-x/ema.safetensors").write_bytes(b"half")


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_comes_back_as_it_was_but_for_what_belongs_to_its_machine(store, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    fill(one, 10, 20)
    store.upload(RUN, one)
    kept = {name: content for name, content in tree(one).items() if name.split("/")[0] not in ("lock", "lease") and ".writing" not in name}
    assert tree(tmp_path / "bucket" / RUN) == kept and len(kept) == 5
    two.mkdir()
    (two / "lock").touch()
    (two / "stale.txt").write_text("of an earlier attempt on this machine")
    store.download(RUN, two)
    assert tree(two) == kept | {"lock": b""}


def test_an_old_checkpoint_leaves_the_store_when_it_leaves_the_folder(store, tmp_path):
    import shutil

    one = tmp_path / "one"
    fill(one, 10, 20)
    store.upload(RUN, one)
    shutil.rmtree(one / "checkpoints/000000010")
    fill(one, 20, 30)
    store.upload(RUN, one)
    assert sorted(os.listdir(tmp_path / "bucket" / RUN / "checkpoints")) == ["000000020", "000000030"]
    store.drop(RUN)
    assert tree(tmp_path / "bucket" / RUN) == {}


def test_the_record_is_stored_last_and_half_of_one_counts_for_nothing(store, tmp_path, monkeypatch):
    one, order = tmp_path / "one", []
    fill(one, 10)
    (one / "record.json").write_text("{}")
    put = store._system.put_file
    monkeypatch.setattr(
        store._system, "put_file", lambda source, target: (order.append(target.rpartition(RUN + "/")[2]), put(source, target))
    )
    store.upload(RUN, one)
    assert order[-1] == "record.json" and order[-2].endswith("sha256.json")
    order.clear()
    store.upload(RUN, one)
    assert order == []  # nothing has changed
    (tmp_path / "bucket" / RUN / "record.json").write_text('{"id": "01')
    store.download(RUN, tmp_path / "two")
    assert not (tmp_path / "two/record.json").exists() and not list((tmp_path / "two").glob("*.part"))


def test_two_workers_never_hold_the_same_stored_run(store, monkeypatch):
    monkeypatch.setenv("BENCH_LEASE_SECONDS", "6")  # the second learns within one that the first lives
    with held(store.files(RUN), "The run x") as mine:
        with pytest.raises(Held), held(store.files(RUN), "The run x"):
            pass
        mine.check()
    with held(store.files(RUN), "The run x"):
        assert store.files(RUN).names() == ["000002.json"]


def test_a_stored_run_is_uploaded_while_it_goes_on_and_at_its_end(store, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "UPLOAD_SECONDS", 0.1)
    folder = tmp_path / "one"
    folder.mkdir()
    with stored(store, RUN, folder, force=False, note=print, interrupt=lambda: None):
        fill(folder, 10)
        deadline = time.monotonic() + 600
        while not (tmp_path / "bucket" / RUN / "checkpoints/000000010/sha256.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (folder / "record.json").write_text("{}")
    assert (tmp_path / "bucket" / RUN / "record.json").exists()
    again = tmp_path / "two"
    with stored(store, RUN, again, force=False, note=print, interrupt=lambda: None):
        assert (again / "record.json").exists()
    with stored(store, RUN, again, force=True, note=print, interrupt=lambda: None):
        assert not (again / "record.json").exists()


def test_a_worker_that_lost_the_stored_run_is_interrupted_and_uploads_nothing(store, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "UPLOAD_SECONDS", 0.1)
    monkeypatch.setenv("BENCH_LEASE_SECONDS", "1")
    folder, stop = tmp_path / "one", threading.Event()
    folder.mkdir()
    with (
        pytest.raises(Lost, match="taken over by another process"),
        stored(store, RUN, folder, force=False, note=print, interrupt=stop.set),
    ):
        (tmp_path / "bucket" / RUN / "lease/000002.json").write_text(json.dumps({"owner": "other", "seconds": 60}))
        assert stop.wait(600)
        (folder / "record.json").write_text("{}")
    assert not (tmp_path / "bucket" / RUN / "record.json").exists()


def test_a_store_that_refuses_is_named(tmp_path):
    with pytest.raises(UsageError, match="Runs cannot be kept at nosuch://x"):
        Store("nosuch://x")
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match=f"file://{tmp_path}/file/deeper cannot be used: .*credentials and the space"):
        Store(f"file://{tmp_path}/file/deeper").check()
    Store(f"file://{tmp_path}/new").check()
    assert os.listdir(tmp_path / "new") == []
