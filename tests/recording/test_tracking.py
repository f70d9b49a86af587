"""MLflow gets everything once, in its own process, and no trouble of its reaches a run."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from benchmark.declaring.fields import to_json
from benchmark.declaring.spec import spec_id
from benchmark.errors import UsageError
from benchmark.files import install, write_text
from benchmark.recording import analyses, tracking
from benchmark.recording.analyses import Analysis
from benchmark.recording.mirror.copy import parameters
from benchmark.recording.mirror.progress import progress, shown
from benchmark.recording.record import (
    Budget,
    Curves,
    Data,
    Environment,
    Point,
    Psnr,
    Record,
)
from tests.conftest import free_port

pytest.importorskip("mlflow", reason="the tracking extra is not installed")
PATIENCE = 900.0  # seconds: a mirror is nice, and gets little of a busy machine
TRAIN, TEST = "ab" * 32, "cd" * 32


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """One database for the session, made by three processes at once, which must not crash each other."""
    home = tmp_path_factory.mktemp("home")
    (home / "mlflow.db-new").write_bytes(b"SQLite format 3\0 and half a page")  # what a kill has left
    uri = tracking.default_store(home)
    replays = [tracking.Replay(uri) for _ in range(3)]
    for replay in replays:
        replay.add(Path("nowhere"))
    for replay in replays:
        assert replay.finish() == [("nowhere", f"failed: {Path('nowhere').resolve()} holds no spec.json, so it is not a run")]
    assert not list(home.glob("mlflow.db-new*"))
    return uri


@pytest.fixture(scope="session")
def mlflow_runs(store):
    """A function from a run folder to its MLflow run, client included."""
    os.environ.update(tracking.QUIET)
    from mlflow import MlflowClient

    client = MlflowClient(store)

    def find(run_dir):
        experiment = client.get_experiment_by_name("dit-generalization-bench").experiment_id
        found = client.search_runs([experiment], f"tags.id = '{run_dir.name}'")
        assert len(found) == 1, f"{len(found)} MLflow runs of one run"
        return client, found[0]

    return find


def spec(seed):
    config = {
        "model": {"hidden": 32, "depth": 6},
        "layout": {"windows": [3, 3, 3], "place": "head"},
        "dataset": {"resolution": 8, "channels": 3},
        "recipe": {"steps": 40, "betas": [0.9, 0.99], "clip": None},
    }
    return {axis: {"name": f"a_{axis}", "kind": f"some.{axis}:Kind", "config": fields} for axis, fields in config.items()} | {
        "subset": 16,
        "seed": seed,
    }


def make_run(folder, seed, suite="mini", data=True):
    """Write the folder of a run that has just begun."""
    run_dir = folder / "runs" / spec_id(spec(seed))
    run_dir.mkdir(parents=True)
    images = {"data": {"train_sha256": TRAIN, "test_sha256": TEST}} if data else {}
    document = {"id": run_dir.name, "spec": spec(seed), "overrides": ["recipe.steps=40"], "assumed": [], "suite": suite} | images
    (run_dir / "spec.json").write_text(json.dumps(document))
    return run_dir


def log(run_dir, *steps, tail="", **metrics):
    with (run_dir / "metrics.jsonl").open("a") as file:
        for step in steps:
            values = {name: value(step) for name, value in metrics.items()} or {"loss": 1 / step, "learning_rate": 1e-3}
            file.write(json.dumps({"step": step, "time": 1_700_000_000 + step / 8, "metrics": values}) + "\n")
        file.write(tail)


def finish(run_dir, gap=0.5):
    """Write the record and a picture of a run."""
    curve = Curves(train=(20.0 + gap, 10.0 + gap), test=(20.0, 10.0))
    measured = Psnr(
        diffusion_steps=(0, 500),
        images_train=16,
        images_test=128,
        draws_train=8,
        draws_test=1,
        clipped=curve,
        unclipped=curve,
        literal=curve,
        noise_mse=Curves(train=(0.1, 0.1), test=(0.2, 0.2)),
    )
    budget = Budget(
        steps=40,
        device="cpu",
        threads=1,
        wall_seconds=3.5,
        evaluation_seconds=1.0,
        peak_memory_bytes=1 << 20,
        resumed=0,
        parameters=119_000,
        parameters_trainable=118_000,
        forward_flops=12_700_000,
    )
    document = json.loads((run_dir / "spec.json").read_text())
    result = Record(
        schema=1,
        id=run_dir.name,
        metric_version="psnr-1",
        spec=document["spec"],
        overrides=(),
        assumed=(),
        psnr_train=15.0 + gap,
        psnr_test=15.0,
        psnr_gap=gap,
        psnr=measured,
        trajectory=(Point(step=40, loss=0.1, psnr_train=15.2, psnr_test=15.0, psnr_gap=0.2),),
        scores={},
        training=budget,
        data=Data(manifest_sha256="ef" * 32, train_sha256=TRAIN, test_sha256=TEST, dropped_duplicates=0),
        weights_sha256="0" * 64,
        environment=Environment(benchmark="0", commit=None, modified=None, python="3", torch="2", platform="p", processor="c"),
        created="2023-11-14T22:13:26+00:00",
    )
    write_text(run_dir / "record.json", json.dumps(to_json(result)))
    (run_dir / "figures").mkdir(exist_ok=True)
    (run_dir / "figures" / "curve.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")


def points(client, run, key):
    return sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, key))


def wait_for(condition, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "this never happened"
        time.sleep(0.05)
    return value


def wait_for_problem(run_dir, uri, reason):
    wait_for(lambda: reason in (progress(run_dir, uri).get("problem") or ""))


def values_of(store, run_id):
    """How many metric values the database holds of a run, asked behind MLflow's back."""
    with contextlib.closing(sqlite3.connect(store.removeprefix("sqlite:///"), timeout=30)) as database:
        return database.execute("select count(*) from metrics where run_uuid = ?", (run_id,)).fetchone()[0]


def copied(run_dir):
    states = json.loads((run_dir / "tracking.json").read_text()) if (run_dir / "tracking.json").exists() else {}
    return sum(state.get("lines", 0) for state in states.values())


def test_sync_copies_everything_once(tmp_path, store, mlflow_runs):
    whole, cut = make_run(tmp_path, 0), make_run(tmp_path, 1, suite=None, data=False)
    log(whole, 10, 20)
    log(whole, 20, 40, loss=lambda step: 2 / step)  # a resumed run repeats step 20: its value counts
    log(whole, 40, psnr_gap=lambda step: 0.9)  # of the trajectory, at the step of the final score
    finish(whole)
    os.utime(whole / "record.json", (1_700_000_005, 1_700_000_005))  # no later than that line: the record's gap counts all the same
    log(cut, 10, tail='{"step": 20, "ti')
    assert tracking.sync([whole, cut], store) == [
        (whole.name, "replayed 15 values and the record"),
        (cut.name, "replayed 2 values; the run is not finished"),
    ]
    client, run = mlflow_runs(whole)
    assert points(client, run, "loss") == [(10, 0.1), (20, 0.1), (40, 0.05)]
    assert client.get_metric_history(run.info.run_id, "loss")[0].timestamp == 1_700_000_001_250
    assert {name: run.data.metrics[name] for name in ("psnr_train", "psnr_test", "psnr_gap", "parameters")} == {
        "psnr_train": 15.5,
        "psnr_test": 15.0,
        "psnr_gap": 0.5,
        "parameters": 119_000,
    }
    assert run.data.params == parameters(spec(0))
    tags = {
        "suite": "mini",
        "model": "a_model",
        "layout": "a_layout",
        "dataset": "a_dataset",
        "recipe": "a_recipe",
        "N": "16",
        "seed": "0",
        "id": whole.name,
        "overrides": "recipe.steps=40",
    }
    assert tags.items() <= run.data.tags.items()
    inputs = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
    assert {key: (one.name, one.digest, json.loads(one.profile)["sha256"]) for key, one in inputs.items()} == {
        "training": ("a_dataset", TRAIN[:32], TRAIN),
        "test": ("a_dataset", TEST[:32], TEST),
    }
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", 1_700_000_001_250, 1_700_000_006_000)
    artifacts = Path(client.download_artifacts(run.info.run_id, ""))
    assert {str(path.relative_to(artifacts)) for path in artifacts.rglob("*.*")} == {"record.json", "spec.json", "figures/curve.svg"}
    assert json.loads((artifacts / "record.json").read_text()) == json.loads((whole / "record.json").read_text())
    assert not (Path.cwd() / "mlruns").exists() and artifacts.is_relative_to(Path(store.removeprefix("sqlite:///")).parent / "mlartifacts")

    _, other = mlflow_runs(cut)
    assert other.info.status == "KILLED" and "suite" not in other.data.tags and not other.inputs.dataset_inputs
    assert tracking.sync([whole, cut], store) == [(whole.name, "up to date"), (cut.name, "up to date")]
    assert points(client, run, "loss") == [(10, 0.1), (20, 0.1), (40, 0.05)]

    log(cut, 20, 40)  # the half line is gone with its line end, so 40 is the next whole one
    finish(cut)
    finish(whole, gap=0.25)  # scored again: a lower value at the same step must be the one that is shown
    os.utime(whole / "record.json", (2_000_000_000, 2_000_000_000))
    assert [outcome for _, outcome in tracking.sync([whole, cut], store)] == [
        "replayed 2 values and the record",
        "replayed 11 values and the record",
    ]
    assert mlflow_runs(whole)[1].data.metrics["psnr_gap"] == 0.25 and len(mlflow_runs(whole)[1].inputs.dataset_inputs) == 2
    assert points(client, other, "loss") == [(10, 0.1), (40, 0.025)]
    assert mlflow_runs(cut)[1].info.status == "FINISHED" and len(mlflow_runs(cut)[1].inputs.dataset_inputs) == 2


def test_mirror_follows_and_a_resumed_run_goes_on_in_the_same_mlflow_run(tmp_path, store, mlflow_runs):
    run_dir = make_run(tmp_path, 2)
    mirror = tracking.start(run_dir, store=store)
    log(run_dir, *range(1, 1201))  # more values than one call may carry
    wait_for(lambda: copied(run_dir) == 1200)
    client, first = mlflow_runs(run_dir)
    assert first.info.status == "RUNNING" and len(points(client, first, "loss")) == 1200
    assert tracking.sync([run_dir], store) == [(run_dir.name, "another process is mirroring it now")]
    log(run_dir, 1201)
    assert mirror.finish(PATIENCE) is None  # as a run that fails ends: no record
    assert mlflow_runs(run_dir)[1].info.status == "FAILED"
    mirror = tracking.start(run_dir, store=store)
    log(run_dir, *range(1195, 1206))
    finish(run_dir)
    assert mirror.finish(PATIENCE) is None
    client, last = mlflow_runs(run_dir)
    assert (last.info.run_id, last.info.status) == (first.info.run_id, "FINISHED")
    assert [step for step, _ in points(client, last, "loss")] == list(range(1, 1206))
    assert mirror.finish(PATIENCE) is None and tracking.sync([run_dir], store) == [(run_dir.name, "up to date")]


def analyse(run_dir, radius):
    """Write what an analysis leaves, and what it must not hand on."""
    made = Analysis(
        what="receptive-field",
        schema=1,
        run=run_dir.name,
        spec={"model": "a_model"},
        weights_sha256="0" * 64,
        settings={},
        numbers={"radius50_t100": radius, "radius90_t100": 4.0},
        seconds=1.0,
    )
    folder = run_dir / "analysis"
    (folder / "receptive-field.parts").mkdir(parents=True, exist_ok=True)
    (folder / "receptive-field.parts" / "t100.npz").write_bytes(b"half")
    (folder / ".receptive-field.lock").touch()
    (folder / "receptive-field.npz").write_bytes(b"arrays")
    (folder / "receptive-field-reach.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    write_text(folder / "receptive-field.json", analyses.text(made))


def test_sync_copies_analyses_made_after_the_run(tmp_path, store, mlflow_runs):
    run_dir = make_run(tmp_path, 11)
    finish(run_dir)
    tracking.sync([run_dir], store)
    analyse(run_dir, radius=1.5)
    cut = ", but its metrics.jsonl is cut short: it ends at step 0 of 40"
    assert tracking.sync([run_dir], store) == [(run_dir.name, f"replayed 2 values and the record{cut}")]
    client, run = mlflow_runs(run_dir)
    assert run.data.metrics["receptive-field.radius50_t100"] == 1.5 and run.info.status == "FINISHED"
    kept = {one.path for one in client.list_artifacts(run.info.run_id, "analysis")}
    assert kept == {f"analysis/receptive-field{end}" for end in (".json", ".npz", "-reach.svg")}
    assert tracking.sync([run_dir], store) == [(run_dir.name, f"up to date{cut}")]
    analyse(run_dir, radius=2.5)
    assert tracking.sync([run_dir], store) == [(run_dir.name, f"replayed 1 values and the record{cut}")]
    assert mlflow_runs(run_dir)[1].data.metrics["receptive-field.radius50_t100"] == 2.5


def test_killed_mirror_and_lost_run_are_made_good_by_sync(tmp_path, store, mlflow_runs):
    run_dir = make_run(tmp_path, 3)
    log(run_dir, *range(1, 5001))
    mirror = tracking.start(run_dir, store=store)
    run_id = wait_for(lambda: (run_dir / "tracking.json").exists() and progress(run_dir, store).get("run"))
    wait_for(lambda: values_of(store, run_id) > 0)
    os.kill(mirror._process.pid, signal.SIGKILL)
    assert "could not be written: its mirror ended with code -9" in mirror.finish()
    assert 0 < values_of(store, run_id) < 10_000 and copied(run_dir) == 0  # in the middle of the batches
    log(run_dir, *range(5001, 5101))
    finish(run_dir)
    assert tracking.sync([run_dir], store)[0][1].startswith("replayed")
    client, run = mlflow_runs(run_dir)
    assert points(client, run, "loss") == [(step, 1 / step) for step in range(1, 5101)]
    assert (run.info.status, run.info.run_id) == ("FINISHED", run_id)

    client.delete_run(run_id)  # a store that has lost the run gets it again
    finish(other := make_run(tmp_path, 5))
    bad = make_run(tmp_path, 6)
    (bad / "record.json").write_text("{")
    outcomes = tracking.sync([bad, run_dir, other], store)  # one run's damage is not the next one's
    assert outcomes[0][1].startswith(f"failed: The record {bad / 'record.json'} is not valid")
    assert [outcome for _, outcome in outcomes[1:]] == [
        "replayed 10209 values and the record",
        "replayed 9 values and the record, but its metrics.jsonl is cut short: it ends at step 0 of 40",
    ]
    assert mlflow_runs(run_dir)[1].info.run_id != run_id


def test_mirror_ends_when_the_run_is_killed(tmp_path, store, mlflow_runs):
    run_dir = make_run(tmp_path, 4)
    log(run_dir, 10)
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from benchmark.recording import tracking\n"
            f"mirror = tracking.start(Path({str(run_dir)!r}), store={store!r}); time.sleep({PATIENCE})",
        ]
    )
    wait_for(lambda: copied(run_dir) == 1)
    log(run_dir, 20)
    parent.kill()
    parent.wait()
    wait_for(lambda: mlflow_runs(run_dir)[1].info.status == "KILLED")
    client, run = mlflow_runs(run_dir)
    assert [step for step, _ in points(client, run, "loss")] == [10, 20]
    (run_dir / "spec.json").write_text((run_dir / "spec.json").read_text().replace('"hidden": 32', '"hidden": 64'))
    log(run_dir, 30)  # MLflow refuses a param that changes: the first value stays, and the rest still comes
    assert tracking.sync([run_dir], store) == [(run_dir.name, "replayed 2 values; the run is not finished")]
    assert mlflow_runs(run_dir)[1].data.params["model.hidden"] == "32"


def test_dead_servers_delay_nothing_and_are_named(tmp_path, store):
    silent = socket.create_server(("127.0.0.1", 0))  # accepts and never answers
    stores = ["http://127.0.0.1:1", f"http://127.0.0.1:{silent.getsockname()[1]}", "sqlite:////proc/none/mlflow.db", "mlruns"]
    run_dirs = [make_run(tmp_path, 10 + i) for i in range(len(stores))]
    mirrors = [tracking.start(run_dir, store=uri) for run_dir, uri in zip(run_dirs, stores, strict=True)]
    for mirror, uri in zip(mirrors, stores, strict=True):
        began = time.monotonic()
        warning = mirror.finish()
        assert time.monotonic() - began < 60  # ten seconds, however busy the machine: MLflow alone tries for 246
        assert uri in warning and "benchmark.recording.tracking.sync(...)" in warning and "\n" not in warning
    silent.close()
    for run_dir, uri, reason in zip(run_dirs, stores, ("Connection refused", "timed out", "No such file", "maintenance mode"), strict=True):
        wait_for_problem(run_dir, uri, reason)
        log(run_dir, 10)
    assert [outcome for _, outcome in tracking.sync(run_dirs, store)] == ["replayed 2 values; the run is not finished"] * 4
    assert tracking.sync(run_dirs[:1], stores[0])[0][1].startswith("failed: Failed to establish a new connection")


def test_without_mlflow_a_run_is_told_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # what an installation of the core alone looks like
    warning = tracking.start(make_run(tmp_path, 8), store="sqlite:///unused.db").finish()
    assert install("tracking") in warning
    with pytest.raises(tracking.BenchError, match="pip install"):
        tracking.sync([tmp_path], "sqlite:///unused.db")


def test_training_process_never_imports_mlflow(tmp_path):
    code = "import sys; from benchmark.recording import tracking; assert not {'mlflow', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ui_serves_the_store_and_ends_cleanly(tmp_path, store, mlflow_runs):
    run_dir = make_run(tmp_path, 9)
    log(run_dir, 10)
    finish(run_dir)
    tracking.sync([run_dir], store)
    _, run = mlflow_runs(run_dir)
    with socket.create_server(("127.0.0.1", free_port())) as probe:
        port = probe.getsockname()[1]
        with pytest.raises(UsageError, match=rf"Port {port} on 127.0.0.1 .*`port={port % 60_000 + 1}`"):
            tracking.ui(tmp_path, store, port=port)
    code = (
        "import sys; from pathlib import Path; from benchmark.recording import tracking\n"
        f"sys.exit(tracking.ui(Path({str(tmp_path)!r}), {store!r}, port={port}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{port}"
    said = process.stdout.readline()
    assert f"{address}/#/experiments/{run.info.experiment_id}/runs?orderByKey=metrics.%60psnr_gap%60&orderByAsc=true" in said
    picture = f"{address}/get-artifact?path=figures/curve.svg&run_id={run.info.run_id}"
    assert b"svg" in urllib.request.urlopen(picture, timeout=PATIENCE).read()
    assert urllib.request.urlopen(address, timeout=PATIENCE).status == 200
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    wait_for(lambda: not tracking._answers("127.0.0.1", port))


def test_parameters_are_flat_text():
    flat = parameters(spec(1) | {"layout": {"name": "l", "kind": "k", "config": {"on": {"head": 2}, "windows": [3, 5]}}})
    assert flat["layout.on.head"] == "2" and flat["layout.windows"] == "[3, 5]" and flat["recipe.clip"] == "null"
    assert flat["model"] == "a_model" and flat["seed"] == "1" and all(isinstance(value, str) for value in flat.values())


def test_passwords_are_not_shown():
    assert shown("postgresql://me:secret@db/x") == "postgresql://db/x" and shown("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_an_experiment_that_was_deleted_is_restored(tmp_path):
    own = tracking.default_store(tmp_path)
    run_dir = make_run(tmp_path, 90)
    log(run_dir, 1, 2)
    assert tracking.sync([run_dir], own)[0][1].startswith("replayed 4 values")
    os.environ.update(tracking.QUIET)
    from mlflow import MlflowClient

    client = MlflowClient(own)
    experiment = client.get_experiment_by_name("dit-generalization-bench").experiment_id
    client.delete_experiment(experiment)
    log(run_dir, 3)
    assert tracking.sync([run_dir], own)[0][1].startswith("replayed 2 values")
    assert len(client.search_runs([experiment])) == 1


def test_metrics_that_end_before_the_run_did_are_said(tmp_path, store):
    run_dir = make_run(tmp_path, 91)
    log(run_dir, 1, 2)
    finish(run_dir)
    for _ in range(2):  # replayed, and up to date
        assert tracking.sync([run_dir], store)[0][1].endswith("but its metrics.jsonl is cut short: it ends at step 2 of 40")
    (run_dir / "metrics.jsonl").write_text("")
    assert "it ends at step 0 of 40" in tracking.sync([run_dir], store)[0][1]
    log(run_dir, 40)
    assert "cut short" not in tracking.sync([run_dir], store)[0][1]


def test_no_file_of_a_mirror_shows_a_password(tmp_path):
    """A server that answers every request with 500 and the whole address, as proxies do."""
    import http.server
    import threading

    class Echo(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(500)
            self.end_headers()
            self.wfile.write(f"no: http://alice:p@ss-w0rd@host{self.path} p@ss-w0rd {self.headers.get('Authorization')}".encode())

        do_POST = do_PUT = do_PATCH = do_GET

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://alice:p%40ss-w0rd@127.0.0.1:{server.server_port}"
    run_dir = make_run(tmp_path, 92)
    log(run_dir, 1)
    mirror = tracking.start(run_dir, store=address)
    said = mirror.finish(PATIENCE) + str(tracking.sync([run_dir], address))
    wait_for(lambda: (run_dir / "tracking.log").read_bytes())
    server.shutdown()
    assert "ss-w0rd" not in said
    for path in run_dir.rglob("*"):
        assert b"ss-w0rd" not in path.read_bytes(), path.name
