"""benchmark/contributing/new.py: what it writes keeps the contract and runs as it is; it replaces and shadows nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.contributing import check, new
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.errors import UsageError
from tests.conftest import ENTRIES, Bench

KINDS = [("model", new.MODEL), ("layout", new.WINDOWS), ("layout", new.LAYOUT), ("dataset", new.GENERATED), ("dataset", new.FOLDER)]


@pytest.mark.parametrize(("axis", "template"), KINDS, ids=lambda value: getattr(value, "entry", value))
def test_what_is_written_keeps_the_contract_as_it_is(tmp_path: Path, axis: new.Axis, template: new.Template) -> None:
    name = f"fresh_{template.entry.removesuffix('.gin')}"
    written = new.write(axis, name, template, tmp_path)
    assert [path.name for path in written] == [f"{name}.gin", f"{name}.py"][: 1 + bool(template.code)]
    text = "".join(path.read_text() for path in written)
    assert name in text and f"my_{axis}" not in text and f"My{axis.title()}" not in text
    (verdict,) = check.check([tmp_path], (registry.STOCK, tmp_path))
    assert verdict.problem is None, verdict
    assert verdict.outcomes[0].outcome == "not run" and "still the template's" in verdict.outcomes[0].note
    written[0].write_text(written[0].read_text().replace("say here in one line what it is", "a start"))
    (edited,) = check.check([tmp_path], (registry.STOCK, tmp_path), light=True)
    assert edited.outcomes[0].outcome == "ok"
    if template.code:
        assert load(registry.read(axis, written[0])).kind == name
    with pytest.raises(UsageError, match="nothing is ever overwritten"):
        new.write(axis, name, template, tmp_path)


def test_the_generated_images_differ_and_use_the_range(tmp_path: Path) -> None:
    (path, _) = new.write("dataset", "fresh_gradients", new.GENERATED, tmp_path)
    source = load(registry.read("dataset", path)).config.open(None)
    images = [source.read(name) for name in source.ids[:100]]
    assert len({image.tobytes() for image in images}) == 100
    assert max(image.max() for image in images) > 200 and min(image.min() for image in images) < 50
    assert all(image.std() > 0 for image in images)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Bias", "cannot name a model"),
        ("../x", "cannot name a model"),
        ("3d", "cannot name"),
        ("class", "cannot name"),
        ("dit_mini", "The project has a model 'dit_mini' already"),
        ("random", "Python's own library"),
        ("numpy", "is installed already"),
        ("tensor", "which the code uses for something else"),
    ],
)
def test_a_name_that_would_mislead_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        new.write("model", name, new.MODEL, tmp_path)
    assert message in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_one_name_on_two_axes_would_be_one_module(tmp_path: Path) -> None:
    new.write("model", "fresh_twice", new.MODEL, tmp_path)
    with pytest.raises(UsageError, match="is a module of that name already"):
        new.write("dataset", "fresh_twice", new.GENERATED, tmp_path)
    new.write("layout", "fresh_twice", new.WINDOWS, tmp_path)  # it has no module


def test_a_stranger_runs_it_in_an_empty_folder(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = bench("new", "model", "my_bias", "--registry", ".")
    assert done.returncode == 0, done.stderr
    assert "Written: backbones/my_bias.gin" in done.stdout and "bench check my_bias --registry ." in done.stdout
    done = bench(
        "run",
        "--model",
        "my_bias",
        "--layout",
        "global",
        "--dataset",
        "leaves_tiny",
        "--subset",
        "6",
        "--recipe",
        "tiny",
        "--registry",
        ".",
        "--registry",
        str(ENTRIES),
        "--device",
        "cpu",
        "--threads",
        "1",
        "--no-track",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    stored = json.loads(Path(json.loads(done.stdout)["record"]).read_text())
    assert stored["spec"]["model"] == {"name": "my_bias", "kind": "my_bias", "config": {"width": 32, "depth": 3}}
    assert len(stored["trajectory"]) == 3
    again = bench("new", "model", "my_bias", "--registry", ".")
    assert again.returncode == 2 and "nothing is ever overwritten" in again.stderr
    assert not [name for name in os.listdir("backbones") if name.endswith(".tmp")]


def test_an_installed_package_is_not_written_into(tmp_path: Path) -> None:
    """Laid out as a wheel lays it out: no project file beside it."""
    installed, here = tmp_path / "site-packages", tmp_path / "here"
    here.mkdir()
    for name in ("benchmark", "registry"):
        shutil.copytree(registry.STOCK.parent / name, installed / name, ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(path for path in installed.rglob("*") if "__pycache__" not in path.parts)

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "BENCH_HOME"} | {"PYTHONPATH": str(installed)}
        command = [sys.executable, "-P", "-m", "benchmark.cli", *words]
        return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)

    for words, said in (
        ("new model my_bias", "--registry ."),
        ("suite write", "pip install -e ."),
        ("suite code mini", "pip install -e ."),
    ):
        done = typed(*words.split())
        assert done.returncode == 2 and said in done.stderr and not done.stdout, (words, done)
    done = typed("new", "model", "my_bias", "--registry", ".")
    assert done.returncode == 0 and (here / "backbones" / "my_bias.gin").exists()
    assert sorted(path for path in installed.rglob("*") if "__pycache__" not in path.parts) == before
