"""The suite mini on a Ray cluster of three nodes, one of them killed, against the local engine. `make cluster`; minutes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from benchmark.declaring.entries import load_suite
from benchmark.recording import record
from benchmark.suites.cluster import Cluster
from benchmark.suites.local import cores
from benchmark.suites.sweep import sweep
from tests.suites.test_sweep_cluster import kill_at_work, nodes, results  # noqa: F401  the fixture


def test_the_mini_suite_with_a_node_killed_gives_the_records_of_the_local_engine(nodes, tmp_path):  # noqa: F811
    made, others = nodes
    rows, console = list(load_suite("mini").rows()), Console(stderr=True, width=160)
    how = {"device": "cpu", "checkpoint_seconds": 2.0}
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_at_work, others[0], tmp_path / "cluster", 600.0)
        outcomes = sweep(
            rows,
            suite="mini",
            home=tmp_path / "cluster",
            records=tmp_path / "cluster/records",
            engine=Cluster(made.address),
            console=console,
            **how,
        )
        run = killed.result(1)
    assert [outcome.status for outcome in outcomes] == ["finished"] * len(rows)
    lost = record.read(Path(next(outcome.record for outcome in outcomes if outcome.id == run)))
    assert lost.training.resumed >= 1
    local = sweep(rows, suite="mini", home=tmp_path / "local", records=tmp_path / "local/records", jobs=cores(), console=console, **how)
    assert [outcome.status for outcome in local] == ["finished"] * len(rows)
    assert results(tmp_path / "cluster/records") == results(tmp_path / "local/records")
    print(f"{len(rows)} rows; the node of run {run} was killed, {lost.training.resumed} resumption; every record is equal.")
