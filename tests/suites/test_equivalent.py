"""`bench reproduce --equivalent` and the guard that it answers: other code is refused, shown to be equivalent, or shown not to be."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.files import PROJECT
from benchmark.recording import record
from tests.conftest import ENTRIES

ROW = ["--model", "dit_tiny", "--layout", "global", "--dataset", "leaves_tiny", "--recipe", "tiny", "--subset", "16"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the tests' entries in its registry, a suite of one of their rows, and that row's record."""
    root = tmp_path_factory.mktemp("project")
    for folder in ("benchmark", "registry"):
        shutil.copytree(PROJECT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ENTRIES.rglob("*.gin"):
        shutil.copy(path, root / "registry" / path.parent.name / path.name)
    (root / "registry/equivalent_code.toml").write_text("")
    (root / "registry/suites/one.gin").write_text(
        "# One row\nimport benchmark.suite\n\nSuite.recipe = 'tiny'\nSuite.blocks = ({'models': ['dit_tiny'], 'layouts': ['global'], "
        "'datasets': ['leaves_tiny'], 'subsets': [16], 'seeds': [0, 1]},)\n"
    )
    (root / "pyproject.toml").write_text("")
    for seed in ("0", "1"):
        done = bench(root, "run", *ROW, "--seed", seed, "--no-track")
        assert done.returncode == 0, done.stderr
    return root


def bench(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(root), "BENCH_HOME": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "benchmark.cli", *words], cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def edit(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new, 1))


def test_an_edit_is_refused_until_it_is_shown_to_change_no_number(tree: Path) -> None:
    again = bench(tree, "run", *ROW, "--no-track")
    assert again.returncode == 0 and "already finished" in again.stderr
    made = next((tree / "leaderboard/records").rglob("*-s0.json"))
    code = record.read(made).code
    assert code and json.loads((tree / "runs" / record.read(made).id / "spec.json").read_text())["code"] == code

    edit(tree, "registry/backbones/dit.py", "class DiT:", "UNUSED = 1\n\n\nclass DiT:")
    text = (tree / "registry/backbones/dit.py").read_text()  # the decorator must stay on the class
    (tree / "registry/backbones/dit.py").write_text(
        text.replace('@entry(kind="dit")\nUNUSED = 1\n\n\nclass DiT:', 'UNUSED = 1\n\n\n@entry(kind="dit")\nclass DiT:')
    )
    refused = bench(tree, "run", *ROW, "--no-track")
    assert refused.returncode == 1 and "by other code" in refused.stderr and "--accept-old-code" in refused.stderr
    assert "Traceback" not in refused.stderr
    taken = bench(tree, "run", *ROW, "--no-track", "--accept-old-code")
    assert taken.returncode == 0 and "already finished" in taken.stderr
    plan = bench(tree, "sweep", "one", "--dry-run")
    assert plan.stderr.count("older code") == 2

    proved = bench(tree, "reproduce", "--equivalent", "one", "--json")
    assert proved.returncode == 0, proved.stderr
    (finding,) = json.loads(proved.stdout)
    assert finding["outcome"] == "equal" and finding["rows"] == 2
    ledger = (tree / "registry/equivalent_code.toml").read_text()
    assert code in ledger and any(record.read(path).weights_sha256 in ledger for path in made.parent.glob("*.json"))
    for seed in ("0", "1"):  # one row speaks for its family
        again = bench(tree, "run", *ROW, "--seed", seed, "--no-track")
        assert again.returncode == 0 and "already finished" in again.stderr
    assert bench(tree, "reproduce", "--equivalent", "one", "--json").stdout.count("same code") == 1

    edit(tree, "benchmark/recording/record.py", "max(a - b, 0.0)", "max(b - a, 0.0)")
    assert bench(tree, "run", *ROW, "--no-track").returncode == 1
    other = bench(tree, "reproduce", "--equivalent", "one", "--json")
    assert other.returncode == 1, other.stdout
    (tree / "registry/equivalent_code.toml").write_text(ledger)
    edit(tree, "benchmark/recording/record.py", "max(b - a, 0.0)", "max(a - b, 0.0)")
    edit(tree, "benchmark/recording/errors.py", "math.log10(4)", "math.log10(4.0001)")
    other = bench(tree, "reproduce", "--equivalent", "one", "--json")
    (finding,) = json.loads(other.stdout)
    assert other.returncode == 1 and finding["outcome"] == "different" and "curves differ" in finding["note"]
    assert (tree / "registry/equivalent_code.toml").read_text() == ledger
