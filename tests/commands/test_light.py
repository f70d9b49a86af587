"""The core alone: a node with torch, numpy, safetensors, gin-config and rich trains, samples and scores; MLflow learns of it later."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ENTRIES, TINY

PROJECT = Path(__file__).parents[2]
CORE = {"torch", "numpy", "safetensors", "gin-config", "rich", "argcomplete"}
MODULES = {
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "torch-fidelity": "torch_fidelity",
    "pytest-benchmark": "pytest_benchmark",
    "pytest-xdist": "xdist",
    "PyYAML": "yaml",
    "pre-commit": "pre_commit",
    "axe-playwright-python": "axe_playwright_python",
}
KEPT = ("fsspec",)  # torch itself imports it

# Python runs this before anything else, in every process below: what only an extra installs is not found.
BARE = """
import sys
from importlib.machinery import PathFinder
class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {missing!r} else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""


def extras():
    """Return the modules of every package that the project file does not count to the core."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[<>=]", word)[0] for word in project["dependencies"]} == CORE
    wanted = {re.split(r"[<>=\[]", word)[0] for words in project["optional-dependencies"].values() for word in words}
    packages = wanted - CORE - {"dit-generalization-bench"}
    return sorted({MODULES.get(name, name) for name in packages} - set(KEPT))


@pytest.fixture
def bare(home, tmp_path):
    """The command line on a node that has the core alone."""
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BARE.format(missing=extras()))
    environment = os.environ | {"BENCH_HOME": str(home), "PYTHONPATH": str(folder)}

    def call(*words, start=("-m", "benchmark.cli")):
        return subprocess.run([sys.executable, *start, *words], capture_output=True, text=True, timeout=900, env=environment, check=False)

    probe = subprocess.run([sys.executable, "-c", "import PIL"], env=environment, capture_output=True, text=True, check=False)
    assert "No module named 'PIL'" in probe.stderr  # the node is as bare as it claims to be
    return call


def test_the_extras_are_what_a_bare_node_lacks():
    assert {"mlflow", "dvc", "scipy", "matplotlib", "PIL", "pyarrow", "lmdb", "ray", "torch_fidelity", "submitit", "torchvision"} <= set(
        extras()
    )


def test_a_bare_node_runs_samples_and_scores_and_is_tracked_afterwards(bare, bench, home):
    done = bare("run", *TINY, "--json")
    assert done.returncode == 0, done.stderr
    assert "MLflow is not installed" in done.stderr and "bench track sync" in done.stderr
    assert done.stderr.count("No picture of this run: ") == 1 and "Traceback" not in done.stderr
    made = json.loads(done.stdout)
    assert Path(made["record"]).exists()
    sampled = bare(
        "sample",
        made["id"],
        "--registry",
        str(ENTRIES),
        "--count",
        "3",
        "--sampler",
        "dpm",
        "--sampling-steps",
        "4",
        "--device",
        "cpu",
        "--json",
    )
    assert sampled.returncode == 0, sampled.stderr
    images = np.load(json.loads(sampled.stdout)["images"])
    assert images.shape == (3, 3, 8, 8) and images.dtype == np.uint8
    scored = bare("evaluate", made["id"], "--registry", str(ENTRIES), "--device", "cpu", "--threads", "1", "--json")
    assert scored.returncode == 0 and json.loads(scored.stdout)["psnr_gap"] == made["psnr_gap"], scored.stderr
    assert bare("check", made["record"]).returncode == 0
    synced = bench("track", "sync", "--json")
    assert synced.returncode == 0, synced.stderr
    assert [one["run"] for one in json.loads(synced.stdout)] == [made["id"]] and "failed" not in synced.stdout


def test_a_bare_node_sweeps_and_says_what_an_engine_needs(bare, home, tmp_path):
    (tmp_path / "mine/suites").mkdir(parents=True)
    (tmp_path / "mine/suites/one.gin").write_text(
        "# One row\nimport benchmark.suite\n\nSuite.recipe = 'tiny'\nSuite.blocks = ({'models': ('dit_tiny',), 'layouts': ('global',),\n"
        "                 'datasets': ('leaves_tiny',), 'subsets': (6,), 'seeds': (0,)},)\n"
    )
    flags = ("sweep", "one", "--registry", str(tmp_path / "mine"), "--registry", str(ENTRIES), "--device", "cpu")
    refused = bare(*flags, "--engine", "ray")
    assert refused.returncode == 1 and "Ray is not installed: pip install" in refused.stderr and "Traceback" not in refused.stderr
    refused = bare(*flags, "--engine", "slurm", "--slurm", "cluster=local")
    assert refused.returncode == 1 and "submitit is not installed: pip install" in refused.stderr and "Traceback" not in refused.stderr
    done = bare(*flags, "--jobs", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert [one["status"] for one in json.loads(done.stdout)] == ["finished"]
    assert "MLflow is not installed" in done.stderr


def test_every_generated_dataset_makes_its_images_on_a_bare_node(bare):
    """Or says what to install, where its images come with a package."""
    script = (
        "from benchmark.contract import ImageError\n"
        "from benchmark.declaring import entries, registry\n"
        "for name, file in registry.entries('dataset').items():\n"
        "    config = entries.load(file).config\n"
        "    if config.embedded:\n"
        "        try:\n"
        "            source = config.open(None)\n"
        "        except ImageError as problem:\n"
        "            print(name, problem)\n"
        "            continue\n"
        "        print(name, source.read(source.ids[0]).shape)\n"
    )
    done = bare(start=("-c", script))
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert {"dead_leaves8 (3, 8, 8)", "dead_leaves8_permuted (3, 8, 8)"} <= set(said)
    needing = {line.split()[0] for line in said if "pip install -e '.[data]'" in line}
    assert needing == {"digits8", "patches8", "patches8_permuted", "patches16"}
