"""Rows on a real Ray cluster of three nodes on this machine, one of which is killed; and what a node refuses."""

import io
import json
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.declaring import registry
from benchmark.declaring.row import Row
from benchmark.errors import BenchError, UsageError
from benchmark.recording import record
from benchmark.suites import worker
from benchmark.suites.cluster import Cluster
from benchmark.suites.local import Local, cores
from benchmark.suites.sweep import sweep
from benchmark.suites.worker import Identity, Order
from tests.conftest import ENTRIES

ray = pytest.importorskip("ray", reason="the cluster extra is not installed")
psutil = pytest.importorskip("psutil", reason="the cluster extra is not installed")
SEARCH = registry.roots([ENTRIES])
HOW = {"device": "cpu", "checkpoint_seconds": 0.2}


@pytest.fixture(scope="module")
def nodes():
    """A head and two more nodes, of one CPU each, that notice within seconds when one is gone."""
    from ray.cluster_utils import Cluster as Nodes

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    one = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
    made = Nodes(initialize_head=True, head_node_args=one | {"_system_config": quick})
    others = [made.add_node(**one) for _ in range(2)]
    made.wait_for_nodes(timeout=600)
    yield made, others
    ray.shutdown()
    made.shutdown()


def rows(count, recipe="tiny"):
    return [Row("dit_tiny", "global", "leaves_tiny", 6, seed, recipe) for seed in range(count)]


def quiet():
    return Console(file=io.StringIO(), width=200)


def results(records):
    """Return of every record what a run owes to its spec: all but times and places."""
    found = {}
    for path in records.rglob("*.json"):
        one = vars(record.read(path))
        kept = {key: one[key] for key in one if key not in ("training", "created", "environment")}
        found[str(path.relative_to(records))] = kept | {"steps": one["training"].steps}
    return found


def run(home, engine, wanted, **more):
    console = quiet()
    outcomes = sweep(
        wanted, suite="tiny", home=home, records=home / "records", search=SEARCH, engine=engine, console=console, **HOW, **more
    )
    return outcomes, console.file.getvalue()


def lengthen(folder, steps):
    """Write a registry with a recipe that is long enough to be interrupted, and return its search path."""
    (folder / "recipes").mkdir(parents=True)
    text = (ENTRIES / "recipes/tiny.gin").read_text().replace("steps = 40", f"steps = {steps}").replace("20, 40)", f"20, {steps})")
    (folder / "recipes/long.gin").write_text(text)
    return registry.roots([ENTRIES, folder])


def processes(node):
    """Return the raylet of a node and every process below it."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [raylet, *raylet.children(recursive=True)]


def kill_at_work(node, home, deadline=900.0):
    """Wait for a row that works on this node and has saved a checkpoint, then SIGKILL the node; return the run."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        there = processes(node)
        for path in home.glob("runs/*/lease/0*.json"):
            folder = path.parents[1]
            if json.loads(path.read_text()).get("pid") in [one.pid for one in there] and list(folder.glob("checkpoints/0*")):
                for process in there:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                return folder.name
        time.sleep(0.02)
    raise AssertionError("no row ever worked on that node")


def test_a_sweep_that_loses_a_node_gives_the_records_of_the_local_engine(nodes, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    made, others = nodes
    wanted = rows(3, "long")
    common = {"suite": "tiny", "search": lengthen(tmp_path / "mine", 400), **HOW}
    console = quiet()
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_at_work, others[0], tmp_path / "cluster")
        outcomes = sweep(
            wanted, home=tmp_path / "cluster", records=tmp_path / "cluster/records", console=console, engine=Cluster(made.address), **common
        )
        run = killed.result(1)
    said = console.file.getvalue()
    assert [outcome.status for outcome in outcomes] == ["finished"] * 3, said
    assert f"The node of run {run} was lost" in said and "retry 1 of 3" in said
    lost = next(outcome for outcome in outcomes if outcome.id == run)
    assert record.read(Path(lost.record)).training.resumed >= 1  # not from the beginning
    assert [
        outcome.status
        for outcome in sweep(
            wanted, home=tmp_path / "local", records=tmp_path / "local/records", jobs=cores(), engine=Local(), console=quiet(), **common
        )
    ] == ["finished"] * 3
    # (one thread a row in both: the order of a sum depends on it)
    assert results(tmp_path / "cluster/records") == results(tmp_path / "local/records")
    assert len(results(tmp_path / "local/records")) == 3


def test_runs_under_a_url_move_from_node_to_node(nodes, tmp_path, monkeypatch):
    """The nodes share no directory: the head's home is not the workers', and all they have in common is the store."""
    made, _ = nodes
    monkeypatch.setattr("benchmark.suites.store.UPLOAD_SECONDS", 0.5)
    url = f"file://{tmp_path}/bucket"
    wanted = rows(1)
    outcomes, said = run(tmp_path / "head", Cluster(made.address, store=url), wanted)
    assert outcomes[0].status == "finished", said + outcomes[0].problem
    folder = tmp_path / "head/runs" / outcomes[0].id
    assert {"spec.json", "record.json", "metrics.jsonl", "checkpoints"} <= {path.name for path in folder.iterdir()}
    assert Path(outcomes[0].record).is_relative_to(tmp_path / "head/records")
    assert json.loads((tmp_path / f"bucket/{outcomes[0].id}/lease/000001.json").read_text())["released"]


def test_workers_import_the_package_whatever_lies_in_the_working_folder(nodes, tmp_path, monkeypatch):
    made, _ = nodes
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "benchmark.py").write_text("raise SystemExit('the wrong benchmark')\n")
    monkeypatch.chdir(folder)
    outcomes, said = run(tmp_path, Cluster(made.address), rows(1))
    assert outcomes[0].status == "finished", said + outcomes[0].problem
    assert Path.cwd() == folder


def order(tmp_path, **changes):
    home = tmp_path / "shared"
    (home / "runs").mkdir(parents=True, exist_ok=True)
    (home / "runs/.sweep").touch()
    made = Order(
        row=rows(1)[0],
        run="0" * 12,
        suite="tiny",
        device="cpu",
        threads=1,
        checkpoint_seconds=0.2,
        force=False,
        identity=worker.identity(SEARCH),
        folders=(str(ENTRIES),),
        home=str(home),
        beacon=str(home / "runs/.sweep"),
        store=None,
    )
    return made._replace(**changes)


def test_an_order_survives_the_way_to_a_node(tmp_path):
    assert Order.from_json(order(tmp_path).to_json()) == order(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"versions": {"torch": "2.0.1"}}, "has torch .*, the head has 2.0.1"),
        ({"versions": {"benchmark": "9.9"}}, "has benchmark .*, the head has 9.9"),
        ({"files": {"registry/layouts/theirs.gin": "0" * 64}}, "has no file .*registry/layouts/theirs.gin"),
        ({"files": {"benchmark/scoring/psnr.py": "0" * 64}}, "has another .*benchmark/scoring/psnr.py than the head"),
    ],
)
def test_a_node_that_differs_from_the_head_refuses_the_row_by_name(tmp_path, change, message):
    one = order(tmp_path)
    fields = one.identity._asdict()
    done = worker.work(one._replace(identity=Identity(**{name: fields[name] | change.get(name, {}) for name in fields})))
    assert done.code == 2 and done.made is None
    assert re.fullmatch(rf"The node {os.uname().nodename} {message}.*\n", done.said), done.said


def test_a_node_that_does_not_see_the_directory_or_the_images_says_which(tmp_path):
    one = order(tmp_path)
    done = worker.work(one._replace(beacon=str(tmp_path / "elsewhere/runs/.sweep")))
    assert done.code == 2 and f"does not see the head's directory {one.home}" in done.said and "Cluster(store='s3://…')" in done.said
    done = worker.work(one._replace(row=one.row._replace(dataset="celeba")))
    assert done.code == 2 and f"has no file {one.home}/packed/celeba/images.npy" in done.said


def test_local_version_labels_do_not_make_a_difference():
    mine = worker.identity(())
    assert "+" not in mine.versions["torch"] and worker.difference(mine) is None
    assert any(name.startswith("registry/") for name in mine.files) and any(name == "benchmark/run.py" for name in mine.files)
    other = Identity(mine.versions, {str(ENTRIES / "recipes/none.gin"): "0" * 64})
    assert str(ENTRIES / "recipes/none.gin") in worker.difference(other)


def test_an_address_where_nothing_answers_is_said_within_seconds(tmp_path, monkeypatch):
    began = time.monotonic()
    with socket.socket() as mute:  # a port that is taken, and on which nobody listens
        mute.bind(("127.0.0.1", 0))
        port = mute.getsockname()[1]
        with pytest.raises(BenchError, match=f"No Ray cluster answers at 127.0.0.1:{port}: .*refused.*ray start --head"):
            run(tmp_path, Cluster(f"127.0.0.1:{port}"), rows(1))
    monkeypatch.setattr("benchmark.suites.cluster.PROBE_SECONDS", 6.0)
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(BenchError, match="something is there, but it is no Ray"):
        run(tmp_path, Cluster(f"127.0.0.1:{deaf.getsockname()[1]}"), rows(1))
    assert time.monotonic() - began < 120  # six seconds, on a busy machine; ray itself would try for minutes
    with pytest.raises(UsageError, match="`address='nowhere'` must be HOST:PORT"):
        run(tmp_path, Cluster("nowhere"), rows(1))
    with pytest.raises(UsageError, match="Ray Client"):
        run(tmp_path, Cluster("ray://127.0.0.1:10001"), rows(1))
    assert not (tmp_path / "runs").exists()


def test_more_than_any_node_has_is_refused_instead_of_waited_for(nodes, tmp_path):
    with pytest.raises(UsageError, match=r"A row asks for 1 CPUs and 2 GPUs, and no node .* has them: 1 CPUs and 0 GPUs"):
        run(tmp_path, Cluster(nodes[0].address, gpus=2), rows(1))
    for wrong in ({"cpus": 0}, {"gpus": -1}, {"retries": -1}):
        with pytest.raises(UsageError, match="must be at least 1"):
            Cluster("x:1", **wrong)


def test_a_row_that_fails_on_a_node_is_reported_with_the_node(nodes, tmp_path):
    made, _ = nodes
    outcomes, said = run(tmp_path, Cluster(made.address), [rows(1)[0]._replace(subset=100)])
    assert outcomes[0].status == "failed" and "30" in outcomes[0].problem
    assert f"(on the node {os.uname().nodename})" in outcomes[0].problem and "ended with exit code 2" in outcomes[0].problem
